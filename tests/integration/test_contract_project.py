"""Topology that the project declares, and that a call names at most by a string, is declared anew."""

from collections.abc import Callable
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
    connections,
    publish_many,
)
from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.outbox.relay import Relay
from tests.integration.test_contract_gone import WAYS, Gone
from tests.support.relays import ids, once
from tests.support.rig.amqp import Amqp
from tests.support.rows import column, store_rows
from tests.support.sides import Side, send

Declared = Callable[..., None]


@pytest.fixture
def project(side: Side, settings: Any) -> Declared:
    """Have the project declare queues and exchanges, and the broker have them."""

    def declares(*configs: QueueConfig | ExchangeConfig) -> None:
        settings.RMQ_QUEUES = [one for one in configs if isinstance(one, QueueConfig)]
        settings.RMQ_EXCHANGES = [one for one in configs if isinstance(one, ExchangeConfig)]
        side.declare(*configs)

    return declares


def bound(side: Side, **options: Any) -> tuple[ExchangeConfig, QueueConfig]:
    exchange = ExchangeConfig(side.unused_exchange(), "topic")
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange, "a.#")], **options)
    return exchange, queue


@pytest.mark.parametrize("gone", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("by_name", [True, False])
def test_what_a_publish_names_at_most_by_its_exchange(
    side: Side, project: Declared, gone: Gone, by_name: bool
) -> None:
    exchange, queue = bound(side)
    project(queue)
    place: dict[str, Any] = {
        "exchange": exchange.name if by_name else exchange,
        "routing_key": "a.b",
    }
    send(**place)
    for _ in range(2):  # it may happen again
        gone(side, queue, exchange)
        send(**place)
    side.bodies(queue.name, 1 if gone is WAYS["queue"] else 3)


@pytest.mark.parametrize("named", ["routing_key", "queue"])
def test_a_queue_by_its_name(side: Side, project: Declared, named: str) -> None:
    queue = QueueConfig(side.unused_queue())
    project(queue)
    place: dict[str, Any] = {named: queue.name}
    send(**place)
    side.delete_queue(queue.name)
    publish_many([b"1", b"2", b"3"], delivery="now", **place)
    assert side.bodies(queue.name, 3) == [b"1", b"2", b"3"]


def test_all_that_lies_between(side: Side, project: Declared) -> None:
    """The exchange of the call, one that is bound to it, and one that the queue is bound to besides."""
    first = ExchangeConfig(side.unused_exchange(), "topic")
    second = ExchangeConfig(side.unused_exchange(), "fanout", bindings=[Binding(first.name, "a")])
    beside = ExchangeConfig(side.unused_exchange(), "fanout")
    queue = QueueConfig(
        side.unused_queue(), bindings=[Binding(second.name), Binding(beside.name, "k")]
    )
    project(first, second, beside, queue)
    send(exchange=first.name, routing_key="a")
    side.delete_queue(queue.name)
    for exchange in (first, second, beside):
        side.delete_exchange(exchange.name)
    send(exchange=first.name, routing_key="a")
    send(exchange=beside.name)
    assert len(side.bodies(queue.name, 2)) == 2


def test_what_an_exchange_cannot_route(side: Side, project: Declared) -> None:
    beside = ExchangeConfig(side.unused_exchange(), "fanout")
    exchange = ExchangeConfig(side.unused_exchange(), "topic", alternate_exchange=beside.name)
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(beside.name)])
    project(beside, exchange, queue)
    side.delete_queue(queue.name)
    send(exchange=exchange.name, routing_key="a")
    side.delete_exchange(beside.name)
    send(exchange=exchange.name, routing_key="a")
    assert len(side.bodies(queue.name, 2)) == 2


def test_an_exchange_that_is_missing_at_the_look_up(side: Side, project: Declared) -> None:
    exchange, queue = bound(side)
    project(queue)
    connections.close()
    for _ in range(2):
        side.delete_queue(queue.name)
        side.delete_exchange(exchange.name)
        send(exchange=exchange.name, routing_key="a")
    assert side.bodies(queue.name, 1) == [b"x"]
    side.delete_queue(queue.name)
    connections.close()
    with pytest.raises(Rejected, match="404"):  # it is the queue that the call wants to be there
        send(exchange=exchange.name, routing_key="a", queue=queue.name)


def test_nothing_else_is_declared(side: Side, project: Declared) -> None:
    exchange, queue = bound(side)
    other = QueueConfig(side.unused_queue(), bindings=[Binding(exchange, "b")])
    project(queue, other)
    side.delete_queue(queue.name)
    side.delete_queue(other.name)
    send(exchange=exchange.name, routing_key="a")
    with pytest.raises(Rejected, match="404"):
        side.declare(QueueName(other.name))
    with pytest.raises(Unroutable):
        send(exchange=exchange.name, routing_key="c")


def test_of_a_batch_each_has_its_own_outcome(side: Side, project: Declared) -> None:
    exchange, queue = bound(side)
    project(queue)
    side.delete_queue(queue.name)
    messages = [Message(key.encode(), routing_key=key) for key in ("a.1", "b", "a.2")]
    with pytest.raises(PublishManyError) as caught:
        publish_many(messages, exchange=exchange.name, delivery="now")
    outcomes = [type(outcome) for outcome in caught.value.outcomes]
    assert outcomes == [type(None), Unroutable, type(None)]
    assert side.bodies(queue.name, 2) == [b"a.1", b"a.2"]


def test_the_answer_stays_where_it_cannot_be_declared(side: Side, project: Declared) -> None:
    exchange, queue = bound(side)
    project(queue)
    side.delete_queue(queue.name)
    side.declare(QueueConfig(queue.name, max_length=5))
    for _ in range(2):
        with pytest.raises(Unroutable):
            send(exchange=exchange.name, routing_key="a")


def test_what_belongs_to_another_connection_is_not_declared(
    side: Side, project: Declared, settings: Any
) -> None:
    queue = QueueConfig(side.unused_queue(), using="other")
    settings.RMQ_CONNECTIONS = {
        "default": {"URL": settings.RMQ_URL},
        "other": {"URL": "memory://"},
    }
    settings.RMQ_QUEUES = [queue]
    with pytest.raises(Unroutable):
        send(routing_key=queue.name, using="default")


def test_a_full_queue_still_refuses(side: Side, project: Declared) -> None:
    queue = QueueConfig(side.unused_queue(), max_length=1, overflow="reject-publish")
    project(queue)
    send(routing_key=queue.name)
    with pytest.raises(Nacked):
        send(routing_key=queue.name)


@pytest.mark.usefixtures("rmq")
def test_a_relay_declares_it_and_uses_up_no_attempt(store: str, rmq: Any, amqp: Amqp) -> None:
    queue = QueueConfig(amqp.names.queue())
    rmq.RMQ_QUEUES = [queue]
    store_rows(store, 3, queue=queue.name)
    expected = column(store, "message_id")
    relay: Relay = once(store)
    assert (relay.sent, column(store, "id")) == (3, [])
    assert sorted(ids(amqp, queue.name, 3)) == sorted(expected)
