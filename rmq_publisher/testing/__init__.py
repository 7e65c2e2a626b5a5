"""For the tests of projects: what was published, without a broker or with one in memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rmq_publisher.testing.assertions import (
    MemoryBroker,
    Published,
    PublishedMessage,
    Received,
    assert_not_published,
    assert_published,
    assert_task_sent,
    capture,
    keep_counts_in_memory,
    memory_broker,
)
from rmq_publisher.testing.handlers import assert_idempotent, deliver

if TYPE_CHECKING:
    from rmq_publisher.testing.django_tasks import run_tasks, tasks_run_immediately

__all__ = [
    "MemoryBroker",
    "Published",
    "PublishedMessage",
    "Received",
    "assert_idempotent",
    "assert_not_published",
    "assert_published",
    "assert_task_sent",
    "capture",
    "deliver",
    "keep_counts_in_memory",
    "memory_broker",
    "run_tasks",
    "tasks_run_immediately",
]

_OF_TASKS = ("run_tasks", "tasks_run_immediately")


def __getattr__(name: str) -> Any:
    # Looked up on first use: they need the app of Django's tasks.
    if name not in _OF_TASKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.django_tasks"), name)
