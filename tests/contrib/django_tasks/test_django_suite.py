"""Django's own tests of task backends, run on ours.

They are taken from the source distribution of Django, which `.ci/django-task-tests` downloads, and which
RMQ_DJANGO_TESTS names (the folder that holds ``tasks/``). As they are they would pin Django's backends
and pass without ever calling another; so their functions are taken into classes with our ``TASKS``.

Left out: the tests of `DummyBackend` (those of results are rewritten below); that a KeyboardInterrupt
goes through the call (a worker's task has none: it is FAILED); ``test_cannot_*`` and that a task is run
before the commit (ours can, and ours is not). With the backport `test_custom_backend` too, which is of
its base class and its texts.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any
from unittest import TestCase

import django
import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.test import TransactionTestCase, override_settings

from rmq_publisher.consumer import lane
from rmq_publisher.contrib.django_tasks import RabbitMQBackend, records
from rmq_publisher.contrib.django_tasks.configured import backends
from rmq_publisher.testing import memory_broker
from tests.support.task_workers import drained

FOLDER = os.environ.get("RMQ_DJANGO_TESTS", "")
if not FOLDER:
    pytest.skip("RMQ_DJANGO_TESTS names no tests of Django's", allow_module_level=True)

IMMEDIATE = (
    "django.tasks.backends.immediate.ImmediateBackend"
    if django.VERSION >= (6, 0)
    else "django_tasks.backends.immediate.ImmediateBackend"
)
LEFT_OUT = {
    "test_throws_keyboard_interrupt",
    "test_cannot_get_result",
    "test_cannot_refresh_result",
    "test_cannot_pass_run_after",
}


class ListingBackend(RabbitMQBackend):
    """Has ``results``, as the dummy has: the tests look at what was enqueued."""

    @property
    def results(self) -> list[Any]:
        ids = records.rows("default").order_by("enqueued_at").values_list("id", flat=True)
        return [self.get_result(id_) for id_ in ids]


class WorkingBackend(RabbitMQBackend):
    """Runs a worker in the call, so that results have finished as those of the immediate backend."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        result = super().enqueue(task, args, kwargs)
        if self.queues:
            drained(*self.queues)
        else:
            drained(task.queue_name)
        result.refresh()
        return result


def path(backend: type) -> str:
    return f"{backend.__module__}.{backend.__qualname__}"


def taken(source: type[TestCase]) -> dict[str, Any]:
    """The test functions of a class of Django's."""
    found = {
        name: function
        for name, function in vars(source).items()
        if name.startswith("test_") and inspect.isfunction(inspect.unwrap(function))
    }
    assert found.keys() >= LEFT_OUT & set(dir(source))
    return {name: function for name, function in found.items() if name not in LEFT_OUT}


sys.path.insert(0, FOLDER)
test_tasks = importlib.import_module("tasks.test_tasks")
test_immediate = importlib.import_module("tasks.test_immediate_backend")
test_custom = importlib.import_module("tasks.test_custom_backend")
test_tasks.DummyBackend = ListingBackend
test_immediate.ImmediateBackend = WorkingBackend


class OnOurs(TransactionTestCase):
    def setUp(self) -> None:
        super().setUp()
        memory_broker().reset()
        self.enterContext(pytest.MonkeyPatch.context()).setattr(lane, "IDLE_SECONDS", 0.05)
        # Some of Django's coroutines call what may block; the tests below await.
        self.enterContext(pytest.MonkeyPatch.context()).setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


ours = override_settings(
    RMQ_URL="memory://",
    TASKS={
        "default": {"BACKEND": path(ListingBackend), "QUEUES": ["default", "queue_1"]},
        "immediate": {"BACKEND": IMMEDIATE, "QUEUES": []},
        "missing": {"BACKEND": "does.not.exist"},
    },
    USE_TZ=True,
)
working = override_settings(
    RMQ_URL="memory://", TASKS={"default": {"BACKEND": path(WorkingBackend), "QUEUES": []}}
)
TestTasks = ours(type("TestTasks", (OnOurs,), taken(test_tasks.TaskTestCase)))
TestImmediate = working(
    type("TestImmediate", (OnOurs,), taken(test_immediate.ImmediateBackendTestCase))
)
if django.VERSION >= (6, 0):  # as they are; those of Django do not fit the texts of the backport
    globals().update(
        (f"Test{name}", value)
        for name, value in vars(test_custom).items()
        if isinstance(value, type) and issubclass(value, TestCase)
    )


def test_ours_was_called() -> None:
    """Else all this would say nothing."""
    assert len(taken(test_tasks.TaskTestCase)) >= 30
    assert len(taken(test_immediate.ImmediateBackendTestCase)) >= 12


@ours
class TestResults(TransactionTestCase):
    """What the tests of the dummy backend ask of results."""

    def test_results(self) -> None:
        memory_broker().reset()
        [backend] = backends()
        task = importlib.import_module("tasks.tasks").noop_task
        result = task.enqueue()
        assert task.get_result(result.id) == result == backend.get_result(result.id)

    async def test_results_async(self) -> None:
        task = importlib.import_module("tasks.tasks").noop_task
        result = await task.aenqueue()
        assert await task.aget_result(result.id) == result
        await result.arefresh()
        with pytest.raises(SynchronousOnlyOperation):
            result.refresh()
