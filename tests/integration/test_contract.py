"""What a broker does, asked of the memory broker and of a real one alike.

The library publishes and declares; what became of it is seen from outside: over plain pika on the real
broker, by the memory broker's own means on the other. Every expectation is RabbitMQ's behaviour; where
its versions differ, memory does as the newest one that is tested."""

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    Message,
    Nacked,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish_many,
)
from tests.support.sides import WHILE, Side, fill, send, words

# -- a message ------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_was_published(side: Side) -> None:
    queue = side.queue()
    before = int(time.time())
    message_id = send(b"\x00\xff body", queue=queue.name)
    message = side.take(queue.name)
    assert (message.exchange, message.routing_key) == ("", queue.name)
    assert message.body == b"\x00\xff body"
    assert not message.redelivered
    properties = {name: value for name, value in vars(message.properties).items() if value}
    assert before <= properties.pop("timestamp") <= time.time()
    assert properties == {
        "content_type": "application/json",
        "delivery_mode": 2,
        "message_id": message_id,
    }


def test_every_property_arrives(side: Side) -> None:
    queue = side.queue()
    given = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "priority": 7,
        "correlation_id": "correlation",
        "reply_to": "reply",
        "message_id": "the-id",
        "type": "kind",
        "user_id": "guest",
        "app_id": "app",
        "delivery_mode": 1,
    }
    send(queue=queue.name, expiration=60, **given)
    properties = vars(side.take(queue.name).properties)
    assert {name: properties[name] for name in given} == given
    assert properties["expiration"] == "60000"


HEADERS: dict[str, Any] = {
    "text": "grüße",
    "empty": "",
    "bytes": b"\x00\xff",
    "yes": True,
    "no": False,
    "none": None,
    "int": -5,
    "big": 2**40,
    "float": 2.0,
    "decimal": Decimal("12.34"),
    "when": datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    "list": [1, "two", [3]],
    "table": {"a": {"b": [None, True]}},
    "x-mine": 1,
}


def test_every_kind_of_header_arrives(side: Side) -> None:
    queue = side.queue()
    send(queue=queue.name, headers=HEADERS)
    headers = side.take(queue.name).properties.headers
    assert headers == HEADERS
    assert headers["yes"] is True


def test_an_empty_body_and_a_large_one_arrive(side: Side) -> None:
    queue = side.queue()
    large = bytes(range(256)) * 2048  # over several frames
    send(b"", queue=queue.name)
    send(large, queue=queue.name)
    assert side.bodies(queue.name, 2) == [b"", large]


def test_messages_come_out_in_order(side: Side) -> None:
    queue = side.queue()
    bodies = [b"%d" % number for number in range(200)]
    publish_many(bodies, queue=queue.name, delivery="now")
    assert side.bodies(queue.name, 200) == bodies


def test_apublish(side: Side) -> None:
    queue = side.queue()
    asyncio.run(apublish(b"a", queue=queue.name))
    with pytest.raises(Unroutable):
        asyncio.run(apublish(b"b", routing_key=side.unused_queue()))
    assert side.bodies(queue.name, 1) == [b"a"]


def test_publish_many_tells_each_outcome(side: Side) -> None:
    queue, full = side.queue(), side.queue(max_length=0, overflow="reject-publish")
    messages = [
        Message(b"1", routing_key=queue.name),
        Message(b"2", routing_key=side.unused_queue()),
        Message(b"3", routing_key=full.name),
        Message(b"4", routing_key=queue.name),
    ]
    with pytest.raises(PublishManyError) as caught:
        publish_many(messages, delivery="now")
    outcomes = [type(outcome) for outcome in caught.value.outcomes]
    assert outcomes == [type(None), Unroutable, Nacked, type(None)]
    assert side.bodies(queue.name, 2) == [b"1", b"4"]


# -- what is not there ----------------------------------------------------------------------------


def test_no_such_queue(side: Side) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        send(queue=name, message_id="m")
    error = caught.value
    assert (error.reply_code, error.retryable, error.message_id) == (404, True, "m")
    assert words(error, name) == "NOT_FOUND - no queue 'NAME1' in vhost '/'"
    assert (error.exchange, error.routing_key) == ("", name)
    assert str(error).replace(name, "NAME") == (
        "rejected by the broker: 404 NOT_FOUND - no queue 'NAME' in vhost '/' "
        "(exchange '', routing key 'NAME', message m)"
    )


def test_no_such_queue_but_one_of_the_project(side: Side, settings: Any) -> None:
    """Named by the settings alone: the broker does not have it."""
    name = side.unused_queue()
    with pytest.raises(Rejected):
        send(queue=name)  # memory brokers declare the project's topology on first use
    settings.RMQ_QUEUES = [QueueConfig(name)]
    with pytest.raises(Rejected, match=r"; RMQ_QUEUES declares it: run manage.py rmq_declare"):
        send(queue=name)
    with pytest.raises(Rejected, match=f"; did you mean '{name}'"):
        send(queue=f"{name}s")


def test_no_such_exchange(side: Side) -> None:
    name = side.unused_exchange()
    with pytest.raises(Rejected) as caught:
        send(exchange=name, routing_key="k")
    assert caught.value.reply_code == 404
    assert words(caught.value, name) == "NOT_FOUND - no exchange 'NAME1' in vhost '/'"


def test_nothing_bound(side: Side) -> None:
    exchange = side.exchange()
    with pytest.raises(Unroutable) as caught:
        send(exchange=exchange.name, routing_key="k", message_id="m")
    error = caught.value
    assert (error.reply_code, error.reply_text, error.message_id) == (312, "NO_ROUTE", "m")
    assert str(error).replace(exchange.name, "NAME") == (
        "returned by the broker, no queue took it: 312 NO_ROUTE "
        "(exchange 'NAME', routing key 'k', message m)"
    )


def test_the_default_exchange_returns_what_names_no_queue(side: Side) -> None:
    with pytest.raises(Unroutable):
        send(routing_key=side.unused_queue())


def test_a_queue_that_is_gone_after_it_was_verified(side: Side) -> None:
    queue = side.queue()
    send(queue=queue.name)
    side.delete_queue(queue.name)
    with pytest.raises(Unroutable):
        send(queue=queue.name)
    with pytest.raises(Unroutable):
        send(queue=queue.name)


def test_an_exchange_that_is_gone_after_it_was_verified(side: Side) -> None:
    exchange = side.exchange("fanout")
    queue = side.queue(bindings=[Binding(exchange.name)])
    send(exchange=exchange.name)
    side.delete_exchange(exchange.name)
    with pytest.raises(Rejected) as caught:
        send(exchange=exchange.name)
    assert words(caught.value, exchange.name) == "NOT_FOUND - no exchange 'NAME1' in vhost '/'"
    assert side.bodies(queue.name, 1) == [b"x"]


def test_what_others_published_is_not_hurt(side: Side) -> None:
    queue = side.queue()
    messages = [Message(b"1"), Message(b"2", routing_key=side.unused_queue()), Message(b"3")]
    with pytest.raises(PublishManyError):
        publish_many(messages, routing_key=queue.name, delivery="now")
    with pytest.raises(Rejected):
        send(exchange=side.unused_exchange())
    assert side.bodies(queue.name, 2) == [b"1", b"3"]


def test_an_internal_exchange_takes_nothing_from_publishers(side: Side) -> None:
    inner = side.exchange("fanout", internal=True)
    queue = side.queue(bindings=[Binding(inner.name)])
    with pytest.raises(Rejected) as caught:
        send(exchange=inner.name)
    assert (caught.value.reply_code, caught.value.retryable) == (403, False)
    assert words(caught.value, inner.name) == (
        "ACCESS_REFUSED - cannot publish to internal exchange 'NAME1' in vhost '/'"
    )
    outer = side.exchange("fanout")
    side.declare(
        ExchangeConfig(inner.name, "fanout", internal=True, bindings=[Binding(outer.name)])
    )
    send(exchange=outer.name)
    assert side.bodies(queue.name, 1) == [b"x"]


def test_the_user_id_must_be_the_connections(side: Side) -> None:
    queue = side.queue()
    with pytest.raises(Rejected) as caught:
        send(queue=queue.name, user_id="somebody")
    assert (caught.value.reply_code, caught.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
    )
    send(queue=queue.name, user_id="guest")
    assert side.bodies(queue.name, 1) == [b"x"]


# -- consumers ------------------------------------------------------------------------------------


def test_a_message_given_back_comes_first_again(side: Side) -> None:
    queue = side.queue().name
    fill(queue, b"1", b"2", b"3")
    first, second = side.take(queue), side.take(queue)
    assert side.depth(queue) == 1
    first.reject(requeue=True)
    time.sleep(WHILE)
    again = side.take(queue)
    assert (again.body, again.redelivered) == (b"1", True)
    assert again.properties.headers is None
    second.reject(requeue=True)
    again.ack()
    time.sleep(WHILE)
    assert side.bodies(queue, 2) == [b"2", b"3"]


def test_a_rejected_message_is_gone(side: Side) -> None:
    queue = side.queue().name
    fill(queue, b"1", b"2")
    side.take(queue).reject()
    assert side.bodies(queue, 1) == [b"2"]


def test_priorities(side: Side) -> None:
    queue = side.queue(max_priority=3).name
    for priority in (None, 0, 1, 200, 3, 2, 1):
        fill(queue, str(priority).encode(), priority=priority)
    assert side.bodies(queue, 7) == [b"200", b"3", b"2", b"1", b"1", b"None", b"0"]


def test_a_full_queue_with_priorities_drops_the_highest(side: Side) -> None:
    queue = side.queue(max_priority=3, max_length=2).name
    for priority in (1, 3, 2, 3):
        fill(queue, str(priority).encode(), priority=priority)
    assert side.bodies(queue, 2) == [b"2", b"1"]


def test_without_priorities_declared_there_are_none(side: Side) -> None:
    queue = side.queue().name
    for priority in (0, 5):
        fill(queue, str(priority).encode(), priority=priority)
    assert side.bodies(queue, 2) == [b"0", b"5"]


# -- the connection -------------------------------------------------------------------------------


def test_status(side: Side) -> None:
    connection = connections["default"]
    connection.close()
    assert connections["default"].status().state == "closed"
    queue = side.queue()
    send(queue=queue.name)
    status = connections["default"].status()
    assert (status.alias, status.state, status.vhost) == ("default", "open", "/")
    assert status.connects >= 1
    assert (status.in_flight, status.waiting, status.blocked, status.set_aside) == (0, 0, "", ())
    connections["default"].close()
    assert connections["default"].status().state == "closed"
    assert side.bodies(queue.name, 1) == [b"x"]  # what was published outlives the connection
