"""Handlers under a worker, on the memory broker and on a real one: what they get, and how they end."""

import asyncio
import contextvars
import json
import logging
import threading
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.utils import translation

from rmq_publisher import BrokerUnavailable, QueueConfig, Reject, Retry, consume, signals
from rmq_publisher.consumer import MessageStateError, handlers
from rmq_publisher.consumer.outcomes import Ended
from tests.integration.test_consumer_contract import depth_becomes
from tests.support.calls import eventually
from tests.support.sides import Side, send
from tests.support.workers import handle_all, ran, running, worker_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_registered", {})


def put(queue: QueueConfig, *bodies: Any, **options: Any) -> None:
    for body in bodies:
        send(json.dumps(body), queue=queue.name, **options)


def test_a_handler_gets_the_body_and_the_message_and_its_return_acknowledges(side: Side) -> None:
    queue = side.queue()
    got: list[Any] = []

    @consume(queue)
    def handler(body: Any, message: Any) -> str:
        got.append((body, message.message_id, message.attempts, message.queue))
        return "what it returns is not looked at"

    put(queue, {"a": 1}, message_id="m")
    worker = handle_all(handler)
    assert got == [({"a": 1}, "m", 1, queue.name)]
    assert worker.counts == {Ended.HANDLED: 1}
    depth_becomes(side, queue.name, 0)


def test_a_coroutine_function_is_awaited_on_one_loop(side: Side) -> None:
    queue = side.queue()
    loops = set()
    both = asyncio.Event()
    begun: list[Any] = []

    @consume(queue, threads=2)
    async def handler(body: Any, message: Any) -> None:
        loops.add(id(asyncio.get_running_loop()))
        begun.append(body)
        if len(begun) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 30)  # they run at once

    put(queue, 1, 2)
    assert ran(handle_all(handler)) == {Ended.HANDLED: 2}
    assert len(loops) == 1


def test_reject_and_an_unreadable_message_end_its_attempts(side: Side) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name)

    @consume(queue)
    def handler(body: Any, message: Any) -> None:
        raise Reject

    put(queue, 1)
    send(b"{", queue=queue.name, content_type="application/json")
    send(b"x", queue=queue.name, content_type="application/x-python-serialize")
    assert ran(handle_all(handler)) == {Ended.REJECTED: 3}
    depth_becomes(side, dead.name, 3)


def test_a_handler_may_not_settle_its_message(side: Side) -> None:
    queue = side.queue()
    errors: list[str] = []

    @consume(queue)
    def handler(body: Any, message: Any) -> None:
        for settle in (message.ack, message.reject, message.requeue):
            with pytest.raises(MessageStateError) as caught:
                settle()
            errors.append(str(caught.value))

    put(queue, 1)
    assert ran(handle_all(handler)) == {Ended.HANDLED: 1}
    assert errors == ["the worker settles it: return, or raise Reject or Retry"] * 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("secret")])
def test_whatever_a_handler_raises_ends_no_worker_and_no_value_is_logged(
    side: Side, error: BaseException, caplog: Any
) -> None:
    queue = side.queue()
    bodies: list[Any] = []

    @consume(queue, max_attempts=1, dead_letters="drop")
    def handler(body: Any, message: Any) -> None:
        bodies.append(body)
        if body == "bad":
            raise error

    put(queue, "bad", "good")
    with caplog.at_level(logging.DEBUG, "rmq_publisher.consumer"):
        counts = ran(handle_all(handler))
    assert (counts[Ended.FAILED], counts[Ended.HANDLED]) == (1, 1)
    assert set(bodies) == {"bad", "good"}
    assert f"{type(error).__name__} at test_handling.py:" in caplog.text
    assert "raise error" in caplog.text  # the line of code
    assert "secret" not in caplog.text


def test_the_broker_being_away_is_no_attempt(side: Side) -> None:
    queue = side.queue()
    attempts: list[int] = []

    @consume(queue, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        attempts.append(message.attempts)
        if len(attempts) < 3:
            raise BrokerUnavailable("another one")

    put(queue, 1)
    counts = ran(handle_all(handler))
    assert counts == {Ended.NOT_AN_ATTEMPT: 2, Ended.HANDLED: 1}
    assert attempts == [1, 1, 1]


def test_signals_tell_of_each_message(side: Side) -> None:
    queue = side.queue()
    told: list[Any] = []

    def hear(name: str) -> Any:
        def receiver(**given: Any) -> None:
            told.append((name, given["handler"], given["message"].payload, given.get("outcome")))
            raise RuntimeError("it changes nothing")

        return receiver

    receivers = {
        name: hear(name) for name in ("message_received", "message_handled", "message_failed")
    }
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)

    @consume(queue, max_attempts=1, dead_letters="drop", name="mine")
    def handler(body: Any, message: Any) -> None:
        if body == 2:
            raise Retry

    try:
        put(queue, 1, 2)
        handle_all(handler)
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert told == [
        ("message_received", "mine", 1, None),
        ("message_handled", "mine", 1, None),
        ("message_received", "mine", 2, None),
        ("message_failed", "mine", 2, "retry"),
    ]


def test_what_a_handler_sets_in_its_context_is_not_for_the_next_message(side: Side) -> None:
    queue = side.queue()
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="")
    seen: list[Any] = []

    @consume(queue)
    def handler(body: Any, message: Any) -> None:
        seen.append((mine.get(), translation.get_language()))
        mine.set("changed")
        translation.activate("de")

    put(queue, 1, 2)
    handle_all(handler)
    assert seen[0] == seen[1]


def test_database_connections_are_kept_between_messages_and_closed_when_idle(side: Side) -> None:
    queue = side.queue()
    seen: list[Any] = []
    closed = threading.Event()

    @consume(queue)
    def handler(body: Any, message: Any) -> None:
        connection.ensure_connection()
        seen.append(connection.connection)
        wrapper = connections["default"]
        close = wrapper.close

        def noted() -> None:
            close()
            closed.set()

        wrapper.close = noted

    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    put(queue, 1, 2, 3)
    worker = worker_of(handler)
    with running(worker):
        eventually(lambda: len(seen) == 3)
        assert closed.wait(30)
    assert len(set(map(id, seen))) == 1


def test_a_lost_database_is_no_attempt_and_one_that_answers_is(
    side: Side, monkeypatch: Any
) -> None:
    queue = side.queue()
    bodies: list[Any] = []

    @consume(queue, max_attempts=1, dead_letters="drop")
    def handler(body: Any, message: Any) -> None:
        bodies.append(body)
        connection.ensure_connection()
        if len(bodies) == 1:
            connection.close()
            connection.errors_occurred = True  # as after a statement on a connection that was cut
            raise OperationalError("server closed the connection unexpectedly")
        raise OperationalError("some statement")

    put(queue, 1)
    counts = ran(handle_all(handler))
    assert counts == {Ended.NOT_AN_ATTEMPT: 1, Ended.FAILED: 1}
