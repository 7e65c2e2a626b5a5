"""What the system checks say of handlers."""

from typing import Any

import pytest
from django.core import checks

from rmq_publisher import QueueConfig, consume
from rmq_publisher.checks import check_handlers
from rmq_publisher.consumer import handlers
from tests.support.configured import configurer

ORDERS = QueueConfig("orders", using="default")


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(handlers, "_registered", {})
    configurer(settings)(
        CONNECTIONS={"default": {"URL": "memory://"}, "other": {"URL": "memory://"}},
        QUEUES=[ORDERS, QueueConfig("log", queue_type="stream", using="default")],
    )


def handle(queue: Any, name: str, **options: Any) -> None:
    def handler(body: Any, message: Any) -> None: ...

    consume(queue, name=name, **options)(handler)


def found() -> list[checks.CheckMessage]:
    return [message for message in check_handlers() if message.id != "rmq_publisher.W022"]


def ids() -> list[str]:
    return [str(message.id).removeprefix("rmq_publisher.") for message in found()]


def test_a_handler_that_is_right_is_not_mentioned() -> None:
    handle(ORDERS, "one", once=True)
    assert found() == []


def test_two_of_one_name() -> None:
    handle(ORDERS, "same")

    def second(body: Any, message: Any) -> None: ...

    consume("log", name="same", using="default", max_attempts=1)(second)
    assert ids() == ["E021"]
    assert (
        "second has the name 'same', as tests.consumer.test_handler_problems.handle"
        in found()[0].msg
    )


def test_two_of_one_queue() -> None:
    handle(ORDERS, "one")
    handle("orders", "two", using="default")
    assert ids() == ["E022"]


@pytest.mark.parametrize("options", [{}, {"using": "third"}])
def test_an_unnamed_or_unknown_connection(options: Any) -> None:
    handle("orders", "one", **options)
    assert ids() == ["E023"]
    assert "one of 'default', 'other'" in str(found()[0].hint)


def test_attempts_of_a_stream() -> None:
    handle("log", "one", using="default", max_attempts=2)
    assert ids() == ["E024"]


@pytest.mark.parametrize("database", ["none", "default"])
def test_a_database_without_inbox(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmq_publisher.db.support.unfit", lambda alias: "it has none")
    handle(ORDERS, "one", once=True, database=database)
    assert ids() == ["E025"]


def test_a_queue_that_nothing_declares() -> None:
    handle("elsewhere", "one", using="default")
    assert ids() == ["W021"]
