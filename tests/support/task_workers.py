"""Workers of tasks in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rmq_publisher.consumer.worker import Worker
from rmq_publisher.contrib.django_tasks.framework import task_backends
from rmq_publisher.contrib.django_tasks.process import TaskProcess
from tests.support.rig import PATIENCE
from tests.support.workers import running


def made(queues: Sequence[str], options: dict[str, Any], **worker: Any) -> tuple[Any, Worker]:
    process = TaskProcess(task_backends["default"], queues, **options)
    return process, Worker(on_tick=process.tick, **worker)


@contextmanager
def working(*queues: str, **options: Any) -> Iterator[TaskProcess]:
    """A worker in a thread, which is stopped at the end."""
    ready = threading.Event()
    process, worker = made(queues or ("default",), options, on_ready=ready.set)
    process.fill(worker)
    with running(worker, ready):
        yield process


def drained(*queues: str, limit: int | None = None, **options: Any) -> None:
    """Run a worker until its queues have been empty for a while."""
    process, worker = made(queues or ("default",), options, once=True, limit=limit)
    process.fill(worker)
    worker.run()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something without an event is true."""
    pause = threading.Event()
    for _ in range(int(PATIENCE * 50)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it does not happen")
