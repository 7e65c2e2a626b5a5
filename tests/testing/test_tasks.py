"""`assert_task_sent`: tasks of `CeleryTask` and of an app with `AMQP`, in what was captured."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery

from rmq_publisher import InvalidMessage, publish
from rmq_publisher.contrib.celery import CeleryTask
from rmq_publisher.testing import assert_not_published, assert_published, assert_task_sent

pytestmark = pytest.mark.django_db

create_invoice = CeleryTask("shop.tasks.create_invoice")
ARGS = [Decimal("1.10"), date(2026, 12, 1), uuid.UUID(int=7), (1, None)]


@pytest.fixture(autouse=True)
def published(rmq_published: Any) -> Any:
    return rmq_published


@pytest.fixture
def app(settings: Any) -> Iterator[Celery]:
    settings.RMQ_URL = "memory://"
    made = Celery("shop", broker="memory://", set_as_current=False)
    made.amqp_cls = "rmq_publisher.contrib.celery:AMQP"
    yield made
    made.close()


def test_a_task_is_found_by_its_name_and_arguments() -> None:
    publish("no task", queue="celery")
    first = create_invoice.delay(42, currency="EUR")
    create_invoice.apply_async([43], priority=5)
    assert assert_task_sent("shop.tasks.create_invoice", args=[42]).message_id == first
    assert_task_sent("shop.tasks.create_invoice", args=(42,), kwargs={"currency": "EUR"})
    assert_task_sent("shop.tasks.create_invoice", kwargs={}, queue="celery", priority=5)
    assert_task_sent("shop.tasks.create_invoice", count=2)
    assert_not_published(headers={"task": "shop.tasks.other"})


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_of_an_app_too_with_the_types_that_were_passed(app: Any, compression: Any) -> None:
    app.send_task("shop.tasks.a", ARGS, {"x": ARGS}, compression=compression)
    assert_task_sent("shop.tasks.a", args=ARGS, kwargs={"x": ARGS})
    with pytest.raises(AssertionError):
        assert_task_sent("shop.tasks.a", args=[*map(str, ARGS)])


def test_of_an_app_with_celerys_first_protocol(app: Any) -> None:
    app.conf.task_protocol = 1
    app.send_task("shop.tasks.a", [1], {"x": 2})
    assert_task_sent("shop.tasks.a", args=[1], kwargs={"x": 2})


def test_what_is_no_json_has_no_arguments_to_compare(app: Any) -> None:
    app.send_task("shop.tasks.a", [1], serializer="pickle")
    assert_task_sent("shop.tasks.a")
    with pytest.raises(AssertionError, match=r"differs in args: .*; args in \d+ bytes; kwargs in"):
        assert_task_sent("shop.tasks.a", args=[1])


@pytest.mark.parametrize(
    "criteria",
    [
        {"args": [True]},
        {"args": [1, 2]},
        {"args": []},
        {"kwargs": {}},
        {"kwargs": {"x": 1}},
        {"queue": "other"},
        {"count": 2},
    ],
)
def test_another_call_does_not_fit(criteria: dict[str, Any]) -> None:
    create_invoice.delay(1, x=2)
    with pytest.raises(AssertionError):
        assert_task_sent("shop.tasks.create_invoice", **criteria)


def test_a_failed_assertion_shows_tasks_as_calls() -> None:
    id_ = create_invoice.delay(42, currency="EUR")
    message = publish("x", queue="celery", headers={"task": "no id"})
    with pytest.raises(AssertionError) as caught:
        assert_task_sent("shop.tasks.create_invoice", args=[43])
    where = "queue 'celery'; exchange ''; routing key 'celery'"
    task = """task 'shop.tasks.create_invoice'; args [42]; kwargs {"currency": "EUR"}"""
    assert str(caught.value).splitlines() == [
        "0 of 2 messages fit task='shop.tasks.create_invoice', args=[43]; there should be 1.",
        "Published were:",
        f"  differs in args: {where}; {task}; {id_}",
        f"  differs in task, args: {where}; headers 'task'; 1 bytes 'x'; {message}",
    ]


def test_what_cannot_be_asked_for() -> None:
    create_invoice.delay(1)
    with pytest.raises(InvalidMessage, match=r"args\[0\] is of type object"):
        assert_task_sent("shop.tasks.create_invoice", args=[object()])
    with pytest.raises(ValueError, match="count must be 1 or more"):
        assert_task_sent("shop.tasks.create_invoice", count=0)
    with pytest.raises(TypeError, match="assert_task_sent"):
        assert_task_sent("shop.tasks.create_invoice", arguments=[1])  # type: ignore[call-arg]


def test_the_criteria_of_messages_are_no_others() -> None:
    with pytest.raises(TypeError, match="args"):
        assert_published(args=[1])  # type: ignore[call-arg]
