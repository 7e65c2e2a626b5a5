"""Tasks of Django's framework for tests: a worker in another process imports them too."""

import asyncio
import time

import django

import rmq_publisher

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@task
def add(*numbers, **options):
    return sum(numbers)


@task()
def nothing(*args, **kwargs):
    return None


def undecorated():
    raise AssertionError("only tasks are run")


class NotTodayError(Exception):
    pass


@task
def fail(*args, **kwargs):
    raise NotTodayError("not today")


@task(takes_context=True)
def fail_twice(context, **kwargs):
    if context.attempt < 3:
        raise NotTodayError(f"run {context.attempt}")
    return context.task_result.worker_ids


@task
def leave(code=3):
    raise SystemExit(code)


@task
def interrupted():
    raise KeyboardInterrupt


@task
def not_json():
    return object()


@task
def again_in(seconds):
    raise rmq_publisher.Retry(countdown=seconds)


@task
async def add_async(first, second):
    await asyncio.sleep(0)
    return first + second


@task
def chained(depth):
    if depth:
        chained.enqueue(depth - 1)
    return depth


@task
def context_by_name(context):
    return context


@task
def sleep(seconds):
    time.sleep(seconds)
