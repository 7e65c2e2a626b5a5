"""Names given as members of an Enum, or as other subclasses of str, are plain where they arrive."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    InvalidMessage,
    QueueConfig,
    connections,
    consume,
    publish,
)
from rmq_publisher.amqp.validation import TopologyError, milliseconds
from rmq_publisher.consumer.handlers import options_of
from rmq_publisher.models import OutboxMessage
from tests.support.rig.amqp import Amqp


class Name(str, Enum):  # noqa: UP042 (a StrEnum shows its value)
    ORDERS = "orders"
    EVENTS = "events"
    QUORUM = "quorum"
    TTL = "x-message-ttl"
    ID = "my-id"
    KEY = "my-key"
    DEFAULT = "default"
    OUTBOX = "outbox"
    TYPE = "topic"
    OVERFLOW = "reject-publish"


class Number(IntEnum):
    FIVE = 5


def kinds(value: Any) -> set[type]:
    """The types of all strings and numbers inside."""
    if isinstance(value, dict):
        return {kind for item in value.items() for each in item for kind in kinds(each)}
    if isinstance(value, list | tuple):
        return {kind for item in value for kind in kinds(item)}
    return {type(value)}


def test_topology_holds_plain_values() -> None:
    queue = QueueConfig(
        Name.ORDERS,  # type: ignore[arg-type]
        queue_type=Name.QUORUM,
        overflow=Name.OVERFLOW,
        dead_letter_exchange=Name.EVENTS,
        delivery_limit=Number.FIVE,
        arguments={Name.TTL: Number.FIVE},
        bindings=[Binding(Name.EVENTS, Name.ORDERS)],
    )
    exchange = ExchangeConfig(Name.EVENTS, Name.TYPE, alternate_exchange=Name.ORDERS)
    assert str(queue) == "queue 'orders'"
    assert str(exchange) == "exchange 'events'"
    for entity in (queue, exchange):
        for step in entity.steps():
            assert kinds(dict(step.arguments)) <= {str, int, bool}
            assert "Name" not in step.entity


def test_what_differs_is_seen() -> None:
    with pytest.raises(TopologyError, match="queue_type must be one of"):
        QueueConfig("a", queue_type=Name.ORDERS)
    with pytest.raises(TopologyError, match="both as a keyword and in arguments"):
        QueueConfig("a", message_ttl=1, arguments={Name.TTL: Number.FIVE})
    assert QueueConfig(Name.ORDERS) == QueueConfig("orders")


@pytest.mark.django_db
def test_a_message_shows_plain_names(rmq_published: Any) -> None:
    id_ = publish(
        "b", queue=Name.ORDERS, exchange=Name.EVENTS, using=Name.DEFAULT, message_id=Name.ID
    )
    [message] = rmq_published
    told = [id_, message.using, message.exchange, message.routing_key, message.queue]
    assert told == ["my-id", "default", "events", "orders", "orders"]
    assert kinds(told) == {str}


@pytest.mark.django_db(transaction=True)
def test_a_row_holds_plain_names(settings: Any) -> None:
    settings.RMQ_OUTBOX_GRACE = 0
    with transaction.atomic():
        publish(
            "b",
            exchange=Name.EVENTS,
            routing_key=Name.KEY,
            ordering_key=Name.KEY,
            delivery=Name.OUTBOX,  # type: ignore[arg-type]
            database=Name.DEFAULT,
            using=Name.DEFAULT,
        )
    row = OutboxMessage.objects.get()
    found = (row.using, row.exchange, row.routing_key, row.ordering_key)
    assert found == ("default", "events", "my-key", "my-key")


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 0), (0.0004, 1), (0.0016, 2), (1.001, 1001), (1.0004, 1000)]
)
def test_durations_become_the_nearest_millisecond_and_never_none(
    seconds: float, expected: int
) -> None:
    """Of a queue and of a message alike: 0 would drop what no consumer waits for."""
    assert milliseconds("it", seconds) == expected
    assert QueueConfig("q", message_ttl=seconds).x_arguments["x-message-ttl"] == expected


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [0.0004, 1.001])
def test_an_expiration_is_rounded_as_a_time_to_live(rmq_published: Any, seconds: float) -> None:
    publish("b", queue="q", expiration=seconds)
    assert rmq_published[0].properties.expiration == str(milliseconds("it", seconds))


def test_the_default_exchange_routes_by_a_members_value(rmq: Any, amqp: Amqp) -> None:
    queue = amqp.declare_queue()

    class Mine(str, Enum):  # noqa: UP042 (as above)
        QUEUE = queue

    publish("b", queue=Mine.QUEUE, delivery="now")
    assert [message.body for message in amqp.drain(queue)] == [b"b"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: publish("b", queue="q", using=Name.ID),
        lambda: publish("b", queue="q", database=Name.ID),
        lambda: publish("b", queue="q", delivery=Name.ID),  # type: ignore[arg-type]
        lambda: publish({}, queue="q", serializer=Name.ID),
        lambda: publish("b", queue="q", compression=Name.ID),
        lambda: connections[Name.ID],
    ],
)
def test_errors_show_plain_names(call: Any) -> None:
    with pytest.raises((InvalidMessage, ImproperlyConfigured), match="my-id") as caught:
        call()
    assert "Name" not in str(caught.value)


def test_aliases_and_handlers_have_plain_names(settings: Any) -> None:
    settings.RMQ_CONNECTIONS = {Name.ID: {"URL": "memory://"}, Name.KEY: {"URL": "memory://"}}

    def handle(_: Any) -> None:
        raise NotImplementedError

    consume(Name.ORDERS, name=Name.ID, using=Name.KEY)(handle)
    handler = options_of(handle)
    told = [*connections, handler.name, handler.queue, handler.using]
    assert {"my-id", "my-key", "orders"} <= set(told)
    assert kinds(told) == {str}
