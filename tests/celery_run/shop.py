"""A Celery app of a Django project, whose tasks go through `AMQP`."""

import os

import celery_conf  # as in stock.py
import run_tasks
from celery import Celery, chain, chord, group
from django.db import transaction

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "run_settings")

app = Celery("shop", amqp="rmq_publisher.contrib.celery:AMQP")
app.config_from_object(celery_conf)


@app.task(name="run.retries_inside_atomic", bind=True, max_retries=3)
@transaction.atomic
def retries_inside_atomic(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0.5)
    return self.request.retries


@app.task(name="run.replaces_itself", bind=True)
def replaces_itself(self, kind):
    """Each replacement returns 6."""
    add, total = run_tasks.add, run_tasks.total
    with transaction.atomic():
        raise self.replace(
            {
                "task": lambda: add.s(2, 4),
                "chain": lambda: chain(add.s(1, 2), add.s(3)),
                "chord": lambda: chord([add.s(0, 1), add.s(2, 3)], total.s()),
                "group": lambda: chain(group(add.s(0, 1), add.s(2, 3)), total.s()),
            }[kind]()
        )


@app.task(name="run.sends_more")
def sends_more(numbers):
    """Sends a task from within a worker, in a transaction that is kept and in one that is not."""
    with transaction.atomic():
        run_tasks.given.delay("rolled back")
        transaction.set_rollback(True)
    with transaction.atomic():
        return run_tasks.total.delay(numbers).id
