"""Topology that goes away after it was verified: both brokers declare configs anew, and names never."""

from collections.abc import Callable
from typing import Any

import pytest

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    Message,
    Producer,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    publish_many,
)
from rmq_publisher.amqp.entities import ExchangeName, QueueName
from tests.support.sides import Side, send

Gone = Callable[[Side, QueueConfig, ExchangeConfig], None]

WAYS: dict[str, Gone] = {
    "queue": lambda side, queue, _: side.delete_queue(queue.name),
    "exchange": lambda side, _, exchange: side.delete_exchange(exchange.name),
    "bindings": lambda side, queue, exchange: side.unbind(queue.name, exchange.name, "a.#"),
}


@pytest.mark.parametrize("gone", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("auto_delete", [False, True])
def test_configs_are_declared_anew(side: Side, gone: Gone, auto_delete: bool) -> None:
    exchange = ExchangeConfig(side.unused_exchange(), "topic", auto_delete=auto_delete)
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange, "a.#")])
    place: dict[str, Any] = {"exchange": exchange, "routing_key": "a.b", "queue": queue}
    send(**place)
    for _ in range(2):  # it may happen again
        gone(side, queue, exchange)
        send(**place)
    side.bodies(queue.name, 1 if gone is WAYS["queue"] else 3)


def test_a_queue_by_the_default_exchange(side: Side) -> None:
    queue = QueueConfig(side.unused_queue())
    send(queue=queue)
    side.delete_queue(queue.name)
    publish_many([b"1", b"2", b"3"], queue=queue, delivery="now")
    assert side.bodies(queue.name, 3) == [b"1", b"2", b"3"]


def test_what_is_declared_with_a_message_counts_too(side: Side) -> None:
    exchange = side.exchange("fanout")
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange.name)])
    place: dict[str, Any] = {"exchange": exchange.name, "declare": [queue]}
    send(**place)
    side.delete_queue(queue.name)
    send(**place)
    assert side.bodies(queue.name, 1) == [b"x"]


def test_a_name_is_never_declared(side: Side) -> None:
    exchange = side.exchange("fanout")
    queue = side.queue(bindings=[Binding(exchange.name)])
    place: dict[str, Any] = {"exchange": exchange.name, "queue": queue.name}
    send(**place)
    side.delete_queue(queue.name)
    with pytest.raises(Unroutable):
        send(**place)
    side.delete_exchange(exchange.name)
    with pytest.raises(Rejected, match="404"):
        send(**place)
    for name in (QueueName(queue.name), ExchangeName(exchange.name)):
        with pytest.raises(Rejected, match="404"):
            side.declare(name)


def test_what_the_configs_do_not_route_is_unroutable(side: Side) -> None:
    exchange = ExchangeConfig(side.unused_exchange(), "topic")
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange, "a.#")])
    place: dict[str, Any] = {"exchange": exchange, "queue": queue}
    send(routing_key="a", **place)
    side.delete_queue(queue.name)
    with pytest.raises(Unroutable):
        send(routing_key="b", **place)
    with pytest.raises(Rejected, match="404"):
        side.declare(QueueName(queue.name))


def test_the_answer_stays_where_it_cannot_be_declared(side: Side) -> None:
    """Somebody else declared it otherwise: that is told by the next message, which is verified."""
    queue, other = QueueConfig(side.unused_queue()), side.exchange("fanout")
    bound = QueueConfig(queue.name, bindings=[Binding(ExchangeConfig(other.name, "fanout"))])
    place: dict[str, Any] = {"exchange": other.name, "queue": bound}
    send(**place)
    side.delete_queue(queue.name)
    side.declare(QueueConfig(queue.name, max_length=5))
    with pytest.raises(Unroutable):
        send(**place)
    with pytest.raises(Rejected, match="406"):
        send(**place)


def test_of_a_batch_each_has_its_own_outcome(side: Side) -> None:
    queue, unused = QueueConfig(side.unused_queue()), side.unused_queue()
    send(queue=queue)
    side.delete_queue(queue.name)
    messages = [Message(b"1"), Message(b"2", routing_key=unused), Message(b"3")]
    with pytest.raises(PublishManyError) as caught:
        publish_many(messages, queue=queue, delivery="now")
    outcomes = [type(outcome) for outcome in caught.value.outcomes]
    assert outcomes == [type(None), Unroutable, type(None)]
    assert side.bodies(queue.name, 2) == [b"1", b"3"]


def test_a_producer_forgets_what_is_gone(side: Side) -> None:
    queue = QueueConfig(side.unused_queue())
    producer = Producer(queue=queue, auto_declare=False)
    assert producer.maybe_declare(queue)
    side.delete_queue(queue.name)
    assert not producer.maybe_declare(queue)
    with pytest.raises(Unroutable):
        producer.publish("x")
    assert producer.maybe_declare(queue)
    producer.publish("x")


def test_a_404_of_a_name_says_nothing_of_a_config(side: Side) -> None:
    exchange = side.exchange("fanout")
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange)])
    send(exchange=exchange.name, declare=[queue])
    side.delete_exchange(exchange.name)
    with pytest.raises(Rejected, match="404"):
        send(exchange=exchange.name)
    send(exchange=exchange, declare=[queue])
