"""Tasks of Django's framework for tests: a worker in another process imports them too."""

import django

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
