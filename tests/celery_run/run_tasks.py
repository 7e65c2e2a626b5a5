"""The tasks of a run, for both apps."""

import sys
import time

from celery import shared_task


def described(value):
    """A value as JSON that shows its type, and those of what it holds."""
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    return [type(value).__name__, value.hex() if isinstance(value, bytes) else str(value)]


@shared_task(name="run.echo")
def echo(*args, **kwargs):
    return [described(args), described(kwargs)]


@shared_task(name="run.add")
def add(x, y):
    return x + y


@shared_task(name="run.total")
def total(numbers):
    return sum(numbers)


@shared_task(name="run.facts", bind=True)
def facts(self):
    """What the worker knows of the call."""
    request = self.request
    return {
        "priority": request.delivery_info.get("priority"),
        "timelimit": request.timelimit,
        "shadow": request.shadow,
        "stamps": request.stamps or {},
        "ours": "rmq_publisher" in sys.modules,
    }


@shared_task(name="run.now")
def now():
    return time.time()


@shared_task(name="run.fails")
def fails():
    raise ValueError("on purpose")


@shared_task(name="run.given")
def given(value):
    return value


@shared_task(name="run.retries", bind=True, max_retries=3)
def retries(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0.5)  # sooner, and RETRY may be stored after SUCCESS
    return self.request.retries
