"""`deliver` and `assert_idempotent`: handlers in the tests of projects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group

from rmq_publisher import Message, Reject, Retry, consume
from rmq_publisher.consumer import handlers
from rmq_publisher.consumer.outcomes import HANDLED, Ended
from rmq_publisher.models import InboxMessage
from rmq_publisher.testing import (
    assert_idempotent,
    assert_published,
    capture,
    deliver,
    memory_broker,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def registry(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.RMQ_URL = "memory://"
    monkeypatch.setattr(handlers, "_registered", {})


@pytest.fixture
def broker() -> Iterator[None]:
    memory_broker().reset()
    yield
    memory_broker().reset()


def groups() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


def add_group(body: Any, message: Any) -> None:
    Group.objects.create(name=f"{body} {Group.objects.count()}")


# -- deliver --------------------------------------------------------------------------------------


def test_the_handler_gets_the_decoded_body_and_the_message() -> None:
    got: list[Any] = []

    @consume("orders")
    def handler(body: Any, message: Any) -> None:
        got.append((body, message.message_id, message.headers["tenant"], message.attempts))
        got.append(message.redelivered)

    outcome = deliver(
        handler,
        {"order": 1},
        message_id="m",
        headers={"tenant": "a"},
        attempts=3,
        redelivered=True,
    )
    assert outcome is HANDLED
    assert got == [({"order": 1}, "m", "a", 3), True]


@pytest.mark.parametrize(
    ("raised", "ended", "countdown"),
    [
        (Reject(), Ended.REJECTED, None),
        (Reject(requeue=True), Ended.FAILED, None),
        (Retry(countdown=7), Ended.RETRY, 7.0),
        (ValueError("no"), Ended.FAILED, None),
    ],
    ids=lambda value: repr(value),
)
def test_the_outcome_says_how_it_ended(
    raised: Exception, ended: Ended, countdown: float | None
) -> None:
    @consume("orders")
    def handler(body: Any, message: Any) -> None:
        raise raised

    outcome = deliver(handler, {})
    assert (outcome.ended, outcome.error, outcome.countdown) == (ended, raised, countdown)


def test_what_the_handler_does_not_accept_is_rejected_and_not_decoded() -> None:
    handler = consume("orders")(add_group)
    assert deliver(handler, b"\x80", content_type="application/x-pickle").ended is Ended.REJECTED
    assert deliver(handler, "no json").ended is Ended.REJECTED
    assert groups() == []


def test_a_handler_may_not_settle_its_message() -> None:
    @consume("orders")
    def handler(body: Any, message: Any) -> None:
        message.ack()

    assert deliver(handler, {}).ended is Ended.FAILED


def test_with_once_a_second_delivery_does_not_call_it() -> None:
    handler = consume("orders", once=True)(add_group)
    for _ in range(2):
        assert deliver(handler, ["g"], message_id="m") is HANDLED
    assert (groups(), InboxMessage.objects.count()) == (["['g'] 0"], 1)
    assert deliver(handler, ["h"], message_id="n") is HANDLED
    assert groups() == ["['g'] 0", "['h'] 1"]


def test_with_once_a_failure_undoes_the_work_and_the_row() -> None:
    @consume("orders", once=True)
    def handler(body: Any, message: Any) -> None:
        add_group(body, message)
        raise ValueError

    assert deliver(handler, [1], message_id="m").ended is Ended.FAILED
    assert (groups(), InboxMessage.objects.count()) == ([], 0)


def test_what_it_publishes_is_captured() -> None:
    from rmq_publisher import publish  # noqa: PLC0415

    @consume("orders")
    def handler(body: Any, message: Any) -> None:
        publish("done", queue="mails")

    with capture() as published:
        deliver(handler, {})
    assert_published(published, queue="mails", body="done")


def test_what_is_no_handler_is_refused() -> None:
    with pytest.raises(LookupError, match="decorate it with @consume"):
        deliver(add_group, {})
    with pytest.raises(LookupError, match="decorate it with @consume"):
        assert_idempotent(add_group, {}, groups)


# -- assert_idempotent ------------------------------------------------------------------------------


def test_what_handles_each_message_once_is_idempotent(broker: None) -> None:
    calls: list[Any] = []

    @consume("orders", once=True)
    def handler(body: Any, message: Any) -> None:
        calls.append(message.message_id)
        Group.objects.create(name=str(Group.objects.count()))

    assert_idempotent(handler, {"order": 1}, groups)
    assert len(calls) == 1 + 2 + 1 + 1 + 2 + 2
    assert (groups(), InboxMessage.objects.count()) == ([], 0)


def test_its_own_properties_and_a_neighbour_of_another_kind(broker: None) -> None:
    seen: set[tuple[Any, Any]] = set()

    @consume("orders", once=True)
    def handler(body: Any, message: Any) -> None:
        seen.add((body["order"], message.headers.get("tenant")))
        Group.objects.get_or_create(name=f"{body['order']}")

    first, other = Message({"order": 1}, headers={"tenant": "a"}), {"order": 2}
    assert_idempotent(handler, first, groups, neighbour=other)
    assert seen == {(1, "a"), (2, None)}


def twice(body: Any, message: Any) -> None:
    Group.objects.create(name=f"group {Group.objects.count()}")


def late(body: Any, message: Any) -> None:
    """The last one wins, also when it comes again."""
    Group.objects.all().delete()
    Group.objects.create(name=message.message_id)


def first_wins(body: Any, message: Any) -> None:
    if not Group.objects.exists():
        Group.objects.create(name=message.message_id)


def broken_by_a_crash(body: Any, message: Any) -> None:
    if message.redelivered:
        Group.objects.create(name="again")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (twice, "delivered twice"),
        (broken_by_a_crash, "delivered again after a crash before its ack"),
        (late, "delivered again after its neighbour"),
        (first_wins, "delivered after its neighbour"),
    ],
)
def test_what_is_not_idempotent_is_told(broker: None, function: Any, says: str) -> None:
    handler = consume("orders")(function)
    first, other = Message({}, message_id="a"), Message({}, message_id="b")
    with pytest.raises(AssertionError, match=f"is not idempotent: {says}, the state is"):
        assert_idempotent(handler, first, groups, neighbour=other)
    assert groups() == []


def test_a_handler_that_fails_is_told_with_its_reason(broker: None) -> None:
    @consume("orders")
    def handler(body: Any, message: Any) -> None:
        raise ValueError("no such order")

    with pytest.raises(AssertionError, match=r"failed: ValueError.*no such order") as caught:
        assert_idempotent(handler, {}, groups)
    assert isinstance(caught.value.__cause__, ValueError)


def test_without_the_memory_broker_it_says_what_it_needs(settings: Any) -> None:
    settings.RMQ_URL = "amqp://127.0.0.1:1/"
    handler = consume("orders")(add_group)
    with pytest.raises(RuntimeError, match="memory://"):
        assert_idempotent(handler, {}, groups)
