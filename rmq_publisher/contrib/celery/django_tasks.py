"""Celery workers that run Django's tasks, of backends with ``"format": "celery"``."""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

import django
from celery import signals
from django.apps import apps
from kombu import Exchange

from rmq_publisher.contrib.django_tasks.celery_format import TASK_NAME

RUNS = "rmq_publisher.contrib.celery.django_task_runs"


def register_django_tasks(app: Any, *, queues: Iterable[str] = ()) -> Any:
    """Have the workers of a Celery app run Django's tasks.

    Call it where the app is made. Its workers consume, besides their own, from the queues of all
    backends of ``TASKS`` with ``OPTIONS: {"format": "celery"}``; ``-Q`` chooses among them.

    Args:
        app: the Celery app.
        queues: names of queues of tasks besides the backends' ``QUEUES``.

    Returns:
        The Celery task that runs them.
    """
    names = tuple(queues)

    @cache
    def processes() -> Any:
        # What it imports needs Django's apps, which are not ready where a Celery app is made.
        return import_module(RUNS).Processes()

    def on_import_modules(**_: Any) -> None:
        """Before the worker chooses its queues."""
        if not apps.ready:
            django.setup()
        for queue in processes().queues(names):
            # Celery would give it its own exchange, to which nobody publishes these messages.
            app.amqp.queues.select_add(queue).exchange = Exchange("")

    def on_shutdown(**_: Any) -> None:
        if processes.cache_info().currsize:
            processes().end()

    def run_django_task(request_of: Any, text: Any, put_back: bool = False) -> None:
        __traceback_hide__ = True  # the arguments
        came = request_of.request.delivery_info or {}
        processes().run(text, redelivered=put_back or bool(came.get("redelivered")))

    signals.import_modules.connect(on_import_modules, sender=app, weak=False)
    signals.worker_process_shutdown.connect(on_shutdown, weak=False)
    signals.worker_shutdown.connect(on_shutdown, weak=False)
    return app.task(
        name=TASK_NAME, bind=True, acks_late=True, reject_on_worker_lost=True, ignore_result=True
    )(run_django_task)
