"""What a broker does, asked of the memory broker and of a real one alike.

The library publishes and declares; what became of it is seen from outside: over plain pika on the real
broker, by the memory broker's own means on the other. Every expectation is RabbitMQ's behaviour; where
its versions differ, 3.10 and 4.0 both pass.
"""

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import pytest
from pika import BasicProperties

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
    publish,
    publish_many,
)
from rmq_publisher.amqp.entities import Bare, Entity, ExchangeName, QueueName
from rmq_publisher.transport.memory.broker import MemoryBroker, Received
from rmq_publisher.transport.memory.transport import broker_of
from tests.support.configured import configurer
from tests.support.rig.amqp import Amqp, Names

SOON = 5.0  # what a broker does by itself must be seen within these seconds
WHILE = 0.3  # and what it must not do, not within these


class Taken(Protocol):
    """A message as a consumer has it."""

    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes

    def ack(self) -> None: ...
    def reject(self, *, requeue: bool = False) -> None: ...


class FromMemory:
    """A message of the memory broker, its header read by pika as every consumer's is."""

    def __init__(self, message: Received) -> None:
        self.exchange = message.exchange
        self.routing_key = message.routing_key
        self.redelivered = message.redelivered
        self.properties = BasicProperties()
        self.properties.decode(message.header)
        self.body = message.body
        self.ack, self.reject = message.ack, message.reject


class FromRabbit:
    """A message of the real broker."""

    def __init__(
        self, channel: Any, method: Any, properties: BasicProperties, body: bytes
    ) -> None:
        self.exchange = method.exchange
        self.routing_key = method.routing_key
        self.redelivered = method.redelivered
        self.properties = properties
        self.body = body
        self._channel, self._tag = channel, method.delivery_tag

    def ack(self) -> None:
        self._channel.basic_ack(self._tag)

    def reject(self, *, requeue: bool = False) -> None:
        self._channel.basic_reject(self._tag, requeue=requeue)


class Memory:
    """The memory broker from outside."""

    url = "memory://"

    def __init__(self, broker: MemoryBroker, names: Names) -> None:
        self.broker, self.names = broker, names

    def get(self, queue: str) -> Taken | None:
        message = self.broker.get(queue)
        return FromMemory(message) if message is not None else None

    def depth(self, queue: str) -> int:
        return self.broker.depth(queue)

    def delete_queue(self, name: str) -> None:
        self.broker.delete_queue(name)

    def delete_exchange(self, name: str) -> None:
        self.broker.delete_exchange(name)

    def wait(self, seconds: float) -> None:
        self.broker.advance(seconds)


class Rabbit:
    """The real broker from outside."""

    def __init__(self, amqp: Amqp, names: Names) -> None:
        self.amqp, self.names, self.url = amqp, names, amqp.url

    def get(self, queue: str) -> Taken | None:
        channel = self.amqp.channel
        method, properties, body = channel.basic_get(queue)
        return None if method is None else FromRabbit(channel, method, properties, body)

    def depth(self, queue: str) -> int:
        return self.amqp.depth(queue)

    def delete_queue(self, name: str) -> None:
        self.amqp.delete_queue(name)

    def delete_exchange(self, name: str) -> None:
        self.amqp.delete_exchange(name)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


class Side:
    """One of the two brokers, and what a test says to it."""

    def __init__(self, outside: Memory | Rabbit) -> None:
        self._outside = outside
        self.delete_queue, self.delete_exchange = outside.delete_queue, outside.delete_exchange
        self.get, self.depth, self.wait = outside.get, outside.depth, outside.wait
        self._names = outside.names

    def queue(self, **options: Any) -> QueueConfig:
        """Declare a queue of its own."""
        queue = QueueConfig(self._names.queue(), **options)
        self.declare(queue)
        return queue

    def exchange(self, kind: str = "direct", **options: Any) -> ExchangeConfig:
        """Declare an exchange of its own."""
        exchange = ExchangeConfig(self._names.exchange(), kind, **options)
        self.declare(exchange)
        return exchange

    def unused_queue(self) -> str:
        return self._names.queue()

    def unused_exchange(self) -> str:
        return self._names.exchange()

    def declare(self, *entities: Entity) -> list[Any]:
        return connections["default"].declare(entities, SOON)

    def take(self, queue: str) -> Taken:
        """The next message, for which a broker may need a moment."""
        deadline = time.monotonic() + SOON
        while (message := self.get(queue)) is None:
            assert time.monotonic() < deadline, f"nothing came to {queue}"
            time.sleep(0.01)
        return message

    def bodies(self, queue: str, count: int) -> list[bytes]:
        """So many messages, in order, and no more."""
        taken = [self.take(queue) for _ in range(count)]
        for message in taken:
            message.ack()
        assert self.get(queue) is None
        return [message.body for message in taken]

    def stays_empty(self, queue: str) -> bool:
        time.sleep(WHILE)
        return self.get(queue) is None


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.smoke)])
def side(request: pytest.FixtureRequest, settings: Any, names: Names) -> Iterator[Side]:
    outside: Memory | Rabbit
    if request.param == "memory":
        broker = broker_of("default")
        broker.reset()
        outside = Memory(broker, names)
    else:
        outside = Rabbit(request.getfixturevalue("amqp"), names)
    configurer(settings)(URL=outside.url, PUBLISH_TIMEOUT=SOON)
    yield Side(outside)
    connections.close()


def send(body: bytes = b"x", **options: Any) -> str:
    return publish(body, delivery="now", **options)


def words(error: Rejected, *names: str) -> str:
    """The broker's words, the names of the test's things taken out."""
    text = error.reply_text
    for place, name in enumerate(names, start=1):
        text = text.replace(name, f"NAME{place}")
    return text


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


# -- declarations ---------------------------------------------------------------------------------


def test_a_publish_declares_what_it_is_given(side: Side) -> None:
    exchange = ExchangeConfig(side.unused_exchange(), "topic")
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange, "a.#")])
    send(exchange=exchange, routing_key="a.b", queue=queue)
    assert side.bodies(queue.name, 1) == [b"x"]


def test_topology_is_verified_once_per_connection(side: Side) -> None:
    queue = QueueConfig(side.unused_queue())
    send(queue=queue)
    side.delete_queue(queue.name)
    with pytest.raises(Unroutable):
        send(queue=QueueConfig(queue.name))
    connections["default"].close()
    send(queue=queue)
    assert side.bodies(queue.name, 1) == [b"x"]


def test_declaring_tells_how_much_waits(side: Side) -> None:
    exchange = side.exchange()
    queue = side.queue(bindings=[Binding(exchange.name, "k")])
    send(exchange=exchange.name, routing_key="k")
    side.take(queue.name).reject(requeue=True)
    time.sleep(WHILE)
    declared = side.declare(queue, QueueName(queue.name), exchange, ExchangeName(exchange.name))
    assert [(item.entity, item.messages, item.consumers) for item in declared] == [
        (f"queue '{queue.name}'", 1, 0),
        (f"binding of queue '{queue.name}' to exchange '{exchange.name}'", None, None),
        (f"queue '{queue.name}'", 1, 0),
        (f"exchange '{exchange.name}'", None, None),
        (f"exchange '{exchange.name}'", None, None),
    ]


def test_a_declaration_names_what_was_refused(side: Side) -> None:
    made, missing = QueueConfig(side.unused_queue()), side.unused_queue()
    with pytest.raises(Rejected) as caught:
        side.declare(made, QueueName(missing), QueueConfig(side.unused_queue()))
    error = caught.value
    assert (error.reply_code, error.message_id) == (404, "")
    assert words(error, missing) == "NOT_FOUND - no queue 'NAME1' in vhost '/'"
    assert error.__notes__ == [f"while declaring queue '{missing}'"]
    assert side.depth(made.name) == 0


FIVE = {"max_length": 5, "overflow": "drop-head"}
DIFFERENT_QUEUES = [
    ({}, {"durable": False}, "'durable'", "received 'false' but current is 'true'"),
    (FIVE, {"overflow": "drop-head"}, "'x-max-length'",
     "received none but current is the value '5' of type 'signedint'"),
    ({}, FIVE, "'x-max-length'", "received the value '5' of type 'signedint' but current is none"),
    ({}, {"max_length": 2**40}, "'x-max-length'",
     "received the value '1099511627776' of type 'long' but current is none"),
    (FIVE, {**FIVE, "max_length": 6}, "'x-max-length'", "received '6' but current is '5'"),
    (FIVE, {**FIVE, "overflow": "reject-publish"}, "'x-overflow'",
     "received 'reject-publish' but current is 'drop-head'"),
    ({}, {"message_ttl": 5}, "'x-message-ttl'",
     "received the value '5000' of type 'signedint' but current is none"),
    ({}, {"dead_letter_exchange": "x"}, "'x-dead-letter-exchange'",
     "received the value 'x' of type 'longstr' but current is none"),
    ({"dead_letter_exchange": ""}, {"dead_letter_exchange": "", "dead_letter_routing_key": "k"},
     "'x-dead-letter-routing-key'", "received the value 'k' of type 'longstr' but current is none"),
    ({}, {"single_active_consumer": True}, "'x-single-active-consumer'",
     "received the value 'true' of type 'bool' but current is none"),
    ({}, {"max_priority": 3}, "'x-max-priority'",
     "received the value '3' of type 'signedint' but current is none"),
    ({}, {"max_length_bytes": 3}, "'x-max-length-bytes'",
     "received the value '3' of type 'signedint' but current is none"),
    ({}, {"expires": 60}, "'x-expires'",
     "received the value '60000' of type 'signedint' but current is none"),
    ({"queue_type": "quorum"}, {"queue_type": "classic"}, "'x-queue-type'",
     "received 'classic' but current is 'quorum'"),
    ({"queue_type": "quorum"}, {"queue_type": "quorum", "delivery_limit": 3}, "'x-delivery-limit'",
     "received the value '3' of type 'signedint' but current is none"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "what", "difference"), DIFFERENT_QUEUES)
def test_a_queue_declared_differently(
    side: Side, first: dict[str, Any], second: dict[str, Any], what: str, difference: str
) -> None:
    queue = side.queue(**first)
    with pytest.raises(Rejected) as caught:
        send(queue=QueueConfig(queue.name, **second))
    assert (caught.value.reply_code, caught.value.retryable) == (406, False)
    assert words(caught.value, queue.name) == (
        f"PRECONDITION_FAILED - inequivalent arg {what} for queue 'NAME1' in vhost '/': {difference}"
    )
    side.declare(queue)  # as it is


def test_another_type_of_queue(side: Side) -> None:
    queue = side.queue()
    with pytest.raises(Rejected) as caught:
        side.declare(QueueConfig(queue.name, queue_type="quorum"))
    assert caught.value.reply_code == 406
    assert "inequivalent arg 'x-queue-type'" in caught.value.reply_text  # 3.10 and 4.0 go on apart


def test_queues_that_are_the_same(side: Side) -> None:
    queue = side.queue(arguments={"x-mine": 1}, max_length=5)
    side.declare(
        QueueConfig(queue.name, max_length=5, queue_type="classic"),
        QueueConfig(queue.name, max_length=5, arguments={"x-mine": 2}),  # unknown to the broker
    )


DIFFERENT_EXCHANGES = [
    ({}, {"type": "topic"}, "'type'", "received 'topic' but current is 'direct'"),
    ({}, {"durable": False}, "'durable'", "received 'false' but current is 'true'"),
    ({}, {"auto_delete": True}, "'auto_delete'", "received 'true' but current is 'false'"),
    ({}, {"internal": True}, "'internal'", "received 'true' but current is 'false'"),
    ({"alternate_exchange": "a"}, {}, "'alternate-exchange'",
     "received none but current is the value 'a' of type 'longstr'"),
    ({"alternate_exchange": "a"}, {"alternate_exchange": "b"}, "'alternate-exchange'",
     "received 'b' but current is 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "what", "difference"), DIFFERENT_EXCHANGES)
def test_an_exchange_declared_differently(
    side: Side, first: dict[str, Any], second: dict[str, Any], what: str, difference: str
) -> None:
    exchange = side.exchange(**first)
    with pytest.raises(Rejected) as caught:
        send(exchange=ExchangeConfig(exchange.name, **second), routing_key="k")
    assert caught.value.reply_code == 406
    assert words(caught.value, exchange.name) == (
        f"PRECONDITION_FAILED - inequivalent arg {what} for exchange 'NAME1' in vhost '/': {difference}"
    )
    side.declare(exchange)


IMPOSSIBLE_QUEUES: list[tuple[dict[str, Any], str]] = [
    ({"arguments": {"x-max-length": -1}}, "'x-max-length' {where}: {{value_negative,-1}}"),
    ({"arguments": {"x-max-length": "5"}}, "'x-max-length' {where}: \"expected integer, got longstr\""),
    ({"arguments": {"x-message-ttl": "60000"}},
     "'x-message-ttl' {where}: \"expected integer, got longstr\""),
    ({"arguments": {"x-message-ttl": 2**40}},
     "'x-message-ttl' {where}: {{value_too_large,1099511627776}}"),
    ({"arguments": {"x-max-priority": 256}}, "'x-max-priority' {where}: {{max_value_exceeded,256}}"),
    ({"arguments": {"x-overflow": "drop"}}, "'x-overflow' {where}: invalid_overflow"),
    ({"arguments": {"x-overflow": 1}}, "'x-overflow' {where}: {{unacceptable_type,signedint}}"),
    ({"arguments": {"x-expires": 0}}, "'x-expires' {where}: {{value_zero,0}}"),
    ({"arguments": {"x-single-active-consumer": 1}},
     "'x-single-active-consumer' {where}: {{unacceptable_type,signedint}}"),
    ({"arguments": {"x-queue-type": "lazy"}},
     "'x-queue-type' {where}: \"unsupported queue type 'lazy'\""),
    ({"arguments": {"x-dead-letter-routing-key": "k"}},
     "'x-dead-letter-routing-key' {where}: routing_key_but_no_dlx_defined"),
    ({"delivery_limit": 3}, "'x-delivery-limit' {where} of queue type rabbit_classic_queue"),
    ({"queue_type": "quorum", "arguments": {"x-max-priority": 3}},
     "'x-max-priority' {where} of queue type rabbit_quorum_queue"),
    ({"queue_type": "stream", "dead_letter_exchange": "x"},
     "'x-dead-letter-exchange' {where} of queue type rabbit_stream_queue"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "wrong"), IMPOSSIBLE_QUEUES)
def test_a_queue_that_cannot_be(side: Side, options: dict[str, Any], wrong: str) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        send(queue=QueueConfig(name, **options))
    assert caught.value.reply_code == 406
    where = "for queue 'NAME1' in vhost '/'"
    expected = f"PRECONDITION_FAILED - invalid arg {wrong.format(where=where)}"
    assert words(caught.value, name) == expected
    with pytest.raises(Rejected, match="404"):
        side.declare(QueueName(name))


def test_a_type_that_dead_letters_cannot_have(side: Side) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        send(queue=QueueConfig(name, arguments={"x-dead-letter-exchange": 5}))
    assert words(caught.value, name) == (
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' "
        "in queue 'NAME1' in vhost '/'"
    )


def test_an_alternate_exchange_of_no_name(side: Side) -> None:
    name = side.unused_exchange()
    with pytest.raises(Rejected) as caught:
        side.declare(ExchangeConfig(name, arguments={"alternate-exchange": 5}))
    assert words(caught.value, name) == (
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' "
        "in exchange 'NAME1' in vhost '/'"
    )


def test_a_quorum_queue_is_durable(side: Side) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        side.declare(QueueConfig(name, durable=False, arguments={"x-queue-type": "quorum"}))
    assert words(caught.value, name) == (
        "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'NAME1' in vhost '/'"
    )


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        (QueueConfig("amq.mine"), "queue name 'amq.mine' contains reserved prefix 'amq.*'"),
        (ExchangeConfig("amq.mine"), "exchange name 'amq.mine' contains reserved prefix 'amq.*'"),
    ],
)
def test_reserved_names(side: Side, entity: Entity, text: str) -> None:
    with pytest.raises(Rejected) as caught:
        side.declare(entity)
    assert caught.value.reply_code == 403
    assert caught.value.reply_text == f"ACCESS_REFUSED - {text}"


def test_exchanges_that_are_always_there(side: Side) -> None:
    kinds = ("direct", "topic", "fanout", "headers")
    side.declare(
        *(ExchangeName(f"amq.{kind}") for kind in (*kinds, "match")),
        *(Bare(ExchangeConfig(f"amq.{kind}", kind)) for kind in kinds),
    )


@pytest.mark.parametrize("ends", ["queue", "exchange"])
def test_a_binding_from_nowhere(side: Side, ends: str) -> None:
    source = side.unused_exchange()
    with pytest.raises(Rejected) as caught:
        getattr(side, ends)(bindings=[Binding(source, "k")])
    assert caught.value.reply_code == 404
    assert words(caught.value, source) == "NOT_FOUND - no exchange 'NAME1' in vhost '/'"
    [note] = caught.value.__notes__
    assert re.fullmatch(rf"while declaring binding of {ends} '.*' to exchange '{source}'", note)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("some", 'value <<"some">>; expected all, any, all-with-x, or any-with-x'),
        (5, "type signedint (value 5); expected longstr"),
    ],
)
def test_a_headers_binding_that_cannot_be(side: Side, value: object, text: str) -> None:
    exchange = side.exchange("headers")
    with pytest.raises(Rejected) as caught:
        side.queue(bindings=[Binding(exchange.name, arguments={"x-match": value})])
    assert caught.value.reply_code == 406
    assert caught.value.reply_text == f"PRECONDITION_FAILED - Invalid x-match field {text}"


# -- routing --------------------------------------------------------------------------------------


def reached(side: Side, queues: Mapping[Any, str], **options: Any) -> list[Any]:
    """Which of the queues one message reaches; each must get it once."""
    try:
        send(**options)
    except Unroutable:
        return []
    found = []
    for label, queue in queues.items():
        message = side.get(queue)
        if message is not None:
            message.ack()
            found.append(label)
            assert side.get(queue) is None, f"{label} got it twice"
    assert found, "confirmed, but in no queue"
    return found


def test_direct(side: Side) -> None:
    exchange = side.exchange("direct")
    keys = ("a", "b", "", "a.b", "#")
    queues = {key: side.queue(bindings=[Binding(exchange.name, key)]).name for key in keys}
    queues["a and b"] = side.queue(
        bindings=[Binding(exchange.name, "a"), Binding(exchange.name, "b")]
    ).name
    for key, expected in {
        "a": ["a", "a and b"], "b": ["b", "a and b"], "": [""], "a.b": ["a.b"], "#": ["#"],
        "c": [], "A": [],
    }.items():  # fmt: skip
        found = reached(side, queues, exchange=exchange.name, routing_key=key)
        assert found == expected, key


def test_fanout(side: Side) -> None:
    exchange = side.exchange("fanout")
    queues = {n: side.queue(bindings=[Binding(exchange.name, f"key{n}")]).name for n in range(3)}
    found = reached(side, queues, exchange=exchange.name, routing_key="whatever")
    assert found == [0, 1, 2]


PATTERNS = (
    "", "#", "*", "a", "a.*", "a.#", "#.a", "*.a", "a.", "*.", "a..b", "a.*.b", "#.#", "*.#", "#.*",
    "a.#.b", "*.*", ".", ".*", "#.b.#", "a.*.#",
)  # fmt: skip
# What RabbitMQ answered.
MATCHES = {
    "": ["", "#", "#.#"],
    "a": ["#", "*", "a", "a.#", "#.a", "#.#", "*.#", "#.*"],
    "b": ["#", "*", "#.#", "*.#", "#.*", "#.b.#"],
    "a.b": ["#", "a.*", "a.#", "#.#", "*.#", "#.*", "a.#.b", "*.*", "#.b.#", "a.*.#"],
    "b.a": ["#", "#.a", "*.a", "#.#", "*.#", "#.*", "*.*", "#.b.#"],
    "a.": ["#", "a.*", "a.#", "a.", "*.", "#.#", "*.#", "#.*", "*.*", "a.*.#"],
    ".a": ["#", "#.a", "*.a", "#.#", "*.#", "#.*", "*.*", ".*"],
    ".": ["#", "*.", "#.#", "*.#", "#.*", "*.*", ".", ".*"],
    "..": ["#", "#.#", "*.#", "#.*"],
    "a..b": ["#", "a.#", "a..b", "a.*.b", "#.#", "*.#", "#.*", "a.#.b", "#.b.#", "a.*.#"],
    "a.b.c": ["#", "a.#", "#.#", "*.#", "#.*", "#.b.#", "a.*.#"],
    "a.x.y.b": ["#", "a.#", "#.#", "*.#", "#.*", "a.#.b", "#.b.#", "a.*.#"],
}


def test_topic(side: Side) -> None:
    exchange = side.exchange("topic")
    queues = {
        pattern: side.queue(bindings=[Binding(exchange.name, pattern)]).name
        for pattern in PATTERNS
    }
    for key, expected in MATCHES.items():
        found = reached(side, queues, exchange=exchange.name, routing_key=key)
        assert found == expected, key


BINDINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "all of nothing": {"x-match": "all"},
    "any of nothing": {"x-match": "any"},
    "1": {"k": 1},
    "'1'": {"k": "1"},
    "true": {"k": True},
    "present": {"k": None},
    "any": {"x-match": "any", "k": 1, "l": 2},
    "all": {"x-match": "all", "k": 1, "l": 2},
    "any present": {"x-match": "any", "z": None, "k": 5},
    "x-": {"x-k": 1},
    "any x-": {"x-match": "any", "x-k": 1},
    "all with x": {"x-match": "all-with-x", "x-k": 1, "k": 7},
    "any with x": {"x-match": "any-with-x", "x-k": 1, "k": 3},
    "big": {"k": 2**40},
    "list": {"k": [1, "a"]},
    "table": {"k": {"a": 1}},
    "decimal": {"k": Decimal("1.5")},
}
ALWAYS = ["nothing", "all of nothing"]
HEADERS_MATCHES: list[tuple[dict[str, Any] | None, list[str]]] = [
    (None, []),
    ({"k": 1}, ["1", "present", "any"]),
    ({"k": "1"}, ["'1'", "present"]),
    ({"k": True}, ["true", "present"]),
    ({"k": None}, ["present"]),
    ({"k": 1, "l": 2}, ["1", "present", "any", "all"]),
    ({"l": 2}, ["any"]),
    ({"k": 2, "l": 1}, ["present"]),
    ({"x-k": 1}, ["any with x"]),
    ({"x-k": 1, "k": 7}, ["present", "all with x", "any with x"]),
    ({"k": 3}, ["present", "any with x"]),
    ({"k": 5}, ["present", "any present"]),
    ({"z": 0}, ["any present"]),
    ({"k": 2**40}, ["present", "big"]),
    ({"k": [1, "a"]}, ["present", "list"]),
    ({"k": ["a", 1]}, ["present"]),
    ({"k": {"a": 1}}, ["present", "table"]),
    ({"k": Decimal("1.5")}, ["present", "decimal"]),
    ({"k": Decimal(1)}, ["present"]),
]


def test_headers(side: Side) -> None:
    exchange = side.exchange("headers")
    queues = {
        label: side.queue(bindings=[Binding(exchange.name, arguments=arguments)]).name
        for label, arguments in BINDINGS.items()
    }
    for headers, expected in HEADERS_MATCHES:
        # "x-" alone asks for nothing: what begins with x- is passed over.
        wanted = {*ALWAYS, "x-", *expected}
        found = reached(side, queues, exchange=exchange.name, headers=headers)
        assert set(found) == wanted, headers


def test_from_exchange_to_exchange(side: Side) -> None:
    source = side.exchange("topic")
    middle = side.exchange("fanout", bindings=[Binding(source.name, "a.*")])
    queues = {
        "through": side.queue(bindings=[Binding(middle.name, "not.looked.at")]).name,
        "both ways": side.queue(
            bindings=[Binding(middle.name), Binding(source.name, "#")]
        ).name,
    }  # fmt: skip
    assert reached(side, queues, exchange=source.name, routing_key="a.b") == [
        "through",
        "both ways",
    ]
    assert reached(side, queues, exchange=source.name, routing_key="b") == ["both ways"]


def test_exchanges_bound_in_a_circle(side: Side) -> None:
    one, two = side.exchange("fanout"), side.exchange("fanout")
    side.declare(
        ExchangeConfig(one.name, "fanout", bindings=[Binding(two.name)]),
        ExchangeConfig(two.name, "fanout", bindings=[Binding(one.name)]),
    )
    queue = side.queue(bindings=[Binding(two.name)])
    assert reached(side, {"q": queue.name}, exchange=one.name) == ["q"]


def test_alternate_exchanges(side: Side) -> None:
    last = side.exchange("fanout", internal=True)
    caught = side.queue(bindings=[Binding(last.name)])
    second = side.exchange("direct", alternate_exchange=last.name)
    first = side.exchange("direct", alternate_exchange=second.name)
    bound = side.queue(bindings=[Binding(first.name, "k"), Binding(second.name, "second")])
    dead_end = side.exchange("fanout", bindings=[Binding(first.name, "nowhere")])
    queues = {"caught": caught.name, "bound": bound.name}

    def to(key: str) -> list[str]:
        return reached(side, queues, exchange=first.name, routing_key=key)

    assert to("k") == ["bound"]
    assert to("second") == ["bound"]
    assert to("other") == ["caught"]
    assert to("nowhere") == [], f"it matched, though {dead_end.name} led no further"


def test_an_alternate_exchange_that_is_missing(side: Side) -> None:
    exchange = side.exchange("direct", alternate_exchange=side.unused_exchange())
    with pytest.raises(Unroutable):
        send(exchange=exchange.name, routing_key="k")


def test_an_exchange_of_its_own_accord_goes_with_its_last_binding(side: Side) -> None:
    exchange = side.exchange("direct", auto_delete=True)
    queues = [side.queue(bindings=[Binding(exchange.name, key)]) for key in "ab"]
    side.delete_queue(queues[0].name)
    side.declare(ExchangeName(exchange.name))
    side.delete_queue(queues[1].name)
    with pytest.raises(Rejected, match="404"):
        side.declare(ExchangeName(exchange.name))


def test_a_deleted_exchange_takes_its_bindings_along(side: Side) -> None:
    source = side.exchange("fanout")
    middle = side.exchange("fanout", bindings=[Binding(source.name)])
    side.queue(bindings=[Binding(middle.name)])
    side.delete_exchange(middle.name)
    with pytest.raises(Unroutable):
        send(exchange=source.name)


def test_carbon_copies(side: Side) -> None:
    queues = {name: side.queue().name for name in ("to", "cc", "bcc")}
    send(
        routing_key=queues["to"],
        headers={"CC": [queues["cc"], queues["to"]], "BCC": [queues["bcc"]], "h": 2.5},
    )
    for name in queues.values():
        message = side.take(name)
        assert message.routing_key == queues["to"]
        headers = message.properties.headers
        assert set(headers) == {"CC", "h"}  # nobody sees the blind ones
        assert headers["CC"] == [queues["cc"], queues["to"]]
        assert side.get(name) is None


@pytest.mark.parametrize("copies", ["CC", "BCC"])
def test_a_carbon_copy_is_enough(side: Side, copies: str) -> None:
    exchange = side.exchange("topic")
    queue = side.queue(bindings=[Binding(exchange.name, "c.*")])
    send(exchange=exchange.name, routing_key="a", headers={copies: ["b", "c.d"]})
    message = side.take(queue.name)
    assert message.routing_key == "a"
    with pytest.raises(Unroutable):
        send(exchange=exchange.name, routing_key="a", headers={copies: ["b"]})


# -- queues that are full -------------------------------------------------------------------------


def fill(queue: str, *bodies: bytes, **options: Any) -> list[str]:
    """Publish one by one; tell what became of each."""
    outcomes = []
    for body in bodies:
        try:
            send(body, routing_key=queue, **options)
        except Nacked:
            outcomes.append("nack")
        else:
            outcomes.append("ack")
    return outcomes


def test_a_full_queue_drops_its_head(side: Side) -> None:
    queue = side.queue(max_length=2).name
    assert fill(queue, b"1", b"2", b"3", b"4") == ["ack"] * 4
    assert side.bodies(queue, 2) == [b"3", b"4"]


def test_a_full_queue_refuses(side: Side) -> None:
    queue = side.queue(max_length=2, overflow="reject-publish").name
    assert fill(queue, b"1", b"2", b"3", b"4") == ["ack", "ack", "nack", "nack"]
    assert side.bodies(queue, 2) == [b"1", b"2"]
    assert fill(queue, b"5") == ["ack"]


def test_what_a_refusal_says(side: Side) -> None:
    queue = side.queue(max_length=0, overflow="reject-publish").name
    with pytest.raises(Nacked) as caught:
        send(routing_key=queue, message_id="m")
    assert caught.value.retryable
    assert caught.value.message_id == "m"
    assert str(caught.value).replace(queue, "NAME") == (
        "refused by a queue (exchange '', routing key 'NAME', message m)"
    )


def test_a_queue_is_full_of_bytes(side: Side) -> None:
    dropping = side.queue(max_length_bytes=3).name
    assert fill(dropping, b"aa", b"b", b"cc", b"dddd") == ["ack"] * 4
    assert side.bodies(dropping, 0) == []
    fill(dropping, b"aa", b"b", b"cc")
    assert side.bodies(dropping, 2) == [b"b", b"cc"]
    refusing = side.queue(max_length_bytes=4, overflow="reject-publish").name
    assert fill(refusing, b"aaa", b"bb", b"c") == ["ack", "nack", "ack"]
    assert side.bodies(refusing, 2) == [b"aaa", b"c"]


def test_one_of_several_queues_refuses(side: Side) -> None:
    exchange = side.exchange("fanout")
    full = side.queue(
        max_length=0, overflow="reject-publish", bindings=[Binding(exchange.name)]
    ).name
    other = side.queue(bindings=[Binding(exchange.name)]).name
    with pytest.raises(Nacked):
        send(exchange=exchange.name)
    assert side.bodies(other, 1) == [b"x"]
    assert side.bodies(full, 0) == []


def test_what_a_consumer_holds_takes_no_place(side: Side) -> None:
    queue = side.queue(max_length=1, overflow="reject-publish").name
    fill(queue, b"1")
    held = side.take(queue)
    assert fill(queue, b"2", b"3") == ["ack", "nack"]
    held.reject(requeue=True)
    time.sleep(WHILE)
    assert side.depth(queue) == 2
    assert side.bodies(queue, 2) == [b"1", b"2"]


def test_what_comes_back_to_a_full_queue_is_its_head(side: Side) -> None:
    queue = side.queue(max_length=1).name
    fill(queue, b"1")
    held = side.take(queue)
    fill(queue, b"2")
    held.reject(requeue=True)
    time.sleep(WHILE)
    assert side.bodies(queue, 1) == [b"2"]


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


# -- time and dead letters ------------------------------------------------------------------------


def death(message: Taken) -> list[dict[str, Any]]:
    """The entries of x-death, without their time, which must be now."""
    entries = [dict(entry) for entry in message.properties.headers["x-death"]]
    for entry in entries:
        assert abs(entry.pop("time") - datetime.now(UTC)).total_seconds() < 120
    return entries


def firsts(message: Taken) -> tuple[str, ...]:
    headers = message.properties.headers
    return tuple(headers[f"x-first-death-{name}"] for name in ("exchange", "queue", "reason"))


def test_messages_expire(side: Side) -> None:
    queue = side.queue(message_ttl=0.2).name
    plain = side.queue().name
    fill(queue, b"1")
    fill(queue, b"2", expiration=0.05)
    fill(plain, b"3", expiration=0.05)
    fill(plain, b"4")
    assert side.depth(queue) + side.depth(plain) >= 2
    side.wait(0.5)
    assert side.bodies(queue, 0) == []
    assert side.bodies(plain, 1) == [b"4"]


def test_zero_expires_at_once(side: Side) -> None:
    queue = side.queue().name
    fill(queue, b"1", properties=BasicProperties(expiration="0"))
    assert side.stays_empty(queue)


def test_what_stands_behind_another_message_expires_at_the_head_only(side: Side) -> None:
    queue = side.queue().name
    fill(queue, b"long", expiration=60)
    fill(queue, b"short", expiration=0.05)
    side.wait(0.3)
    assert side.depth(queue) == 2
    assert side.bodies(queue, 1) == [b"long"]


def test_a_rejected_message_goes_to_the_dead_letters(side: Side) -> None:
    exchange = side.exchange("direct")
    dead = side.queue(bindings=[Binding(exchange.name, "dead")])
    queue = side.queue(dead_letter_exchange=exchange.name, dead_letter_routing_key="dead")
    send(
        b"body", queue=queue.name, message_id="m", expiration=60, type="t",
        headers={"mine": 1.0, "CC": ["elsewhere"]},
    )  # fmt: skip
    side.take(queue.name).reject()
    message = side.take(dead.name)
    assert (message.exchange, message.routing_key) == (exchange.name, "dead")
    assert (message.body, message.redelivered) == (b"body", False)
    properties = message.properties
    assert (properties.message_id, properties.type, properties.delivery_mode) == ("m", "t", 2)
    assert properties.content_type == "application/json"
    assert properties.expiration is None
    assert properties.headers["mine"] == 1
    assert death(message) == [
        {
            "count": 1,
            "reason": "rejected",
            "queue": queue.name,
            "exchange": "",
            "routing-keys": [queue.name, "elsewhere"],
            "original-expiration": "60000",
        }
    ]
    assert firsts(message) == ("", queue.name, "rejected")


def test_an_acknowledged_message_does_not(side: Side) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name)
    fill(queue.name, b"1", b"2")
    side.take(queue.name).ack()
    side.take(queue.name).reject(requeue=True)
    assert side.stays_empty(dead.name)
    assert side.bodies(queue.name, 1) == [b"2"]


@pytest.mark.parametrize(
    ("options", "expiration", "original"),
    [
        ({}, 0.05, {"original-expiration": "50"}),
        ({"message_ttl": 0.05}, None, {}),
        ({"message_ttl": 0.05}, 60, {"original-expiration": "60000"}),
    ],
)
def test_an_expired_message_goes_to_the_dead_letters(
    side: Side, options: dict[str, Any], expiration: float | None, original: dict[str, str]
) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name, **options)
    send(queue=queue.name, expiration=expiration)
    side.wait(0.2)
    message = side.take(dead.name)
    [entry] = death(message)
    expected = {"count": 1, "reason": "expired", "queue": queue.name, "exchange": "", **original}
    assert entry == {**expected, "routing-keys": [queue.name]}
    assert message.properties.expiration is None


def test_without_a_key_for_dead_letters_they_keep_their_own(side: Side) -> None:
    exchange, graves = side.exchange("direct"), side.exchange("direct")
    dead = side.queue(bindings=[Binding(graves.name, "own")])
    copied = side.queue(bindings=[Binding(graves.name, "copy")])
    queue = side.queue(
        dead_letter_exchange=graves.name, bindings=[Binding(exchange.name, "own")]
    ).name
    send(exchange=exchange.name, routing_key="own", headers={"CC": ["copy"]})
    side.take(queue).reject()
    for name in (dead.name, copied.name):
        message = side.take(name)
        assert (message.exchange, message.routing_key) == (graves.name, "own")
        assert message.properties.headers["CC"] == ["copy"]
        [entry] = death(message)
        assert (entry["exchange"], entry["routing-keys"]) == (exchange.name, ["own", "copy"])


@pytest.mark.parametrize(
    ("overflow", "outcomes", "dead_bodies"),
    [
        ("drop-head", ["ack", "ack"], [b"1"]),
        ("reject-publish", ["ack", "nack"], []),
        ("reject-publish-dlx", ["ack", "nack"], [b"2"]),
    ],
)
def test_what_a_full_queue_does_with_dead_letters(
    side: Side, overflow: str, outcomes: list[str], dead_bodies: list[bytes]
) -> None:
    dead = side.queue()
    queue = side.queue(
        max_length=1, overflow=overflow, dead_letter_exchange="", dead_letter_routing_key=dead.name
    )
    assert fill(queue.name, b"1", b"2") == outcomes
    if dead_bodies:
        message = side.take(dead.name)
        assert message.body == dead_bodies[0]
        assert [entry["reason"] for entry in death(message)] == ["maxlen"]
    assert side.stays_empty(dead.name)


def test_dead_letters_without_an_exchange_are_dropped(side: Side) -> None:
    queue = side.queue(dead_letter_exchange=side.unused_exchange())
    fill(queue.name, b"1", b"2")
    side.take(queue.name).reject()
    assert side.bodies(queue.name, 1) == [b"2"]


def test_dead_letters_go_by_alternate_exchanges_too(side: Side) -> None:
    last = side.exchange("fanout")
    dead = side.queue(bindings=[Binding(last.name)])
    exchange = side.exchange("direct", alternate_exchange=last.name)
    queue = side.queue(dead_letter_exchange=exchange.name)
    fill(queue.name, b"1")
    side.take(queue.name).reject()
    assert side.bodies(dead.name, 1) == [b"1"]


def test_a_retry_by_way_of_a_waiting_queue(side: Side) -> None:
    work, waiting = side.unused_queue(), side.unused_queue()
    side.declare(
        QueueConfig(
            waiting, message_ttl=0.05, dead_letter_exchange="", dead_letter_routing_key=work
        ),
        QueueConfig(work, dead_letter_exchange="", dead_letter_routing_key=waiting),
    )
    send(queue=work)
    for tries in range(4):
        if tries:
            side.wait(0.2)
        message = side.take(work)
        if tries:
            entries = death(message)
            assert [(entry["queue"], entry["reason"], entry["count"]) for entry in entries] == [
                (waiting, "expired", tries),
                (work, "rejected", tries),
            ]
            assert firsts(message) == ("", work, "rejected")
        message.reject()


def test_dead_letters_do_not_run_in_circles(side: Side) -> None:
    one, two = side.unused_queue(), side.unused_queue()
    for name, other in ((one, two), (two, one)):
        side.declare(
            QueueConfig(
                name, message_ttl=0.05, dead_letter_exchange="", dead_letter_routing_key=other
            )
        )
    send(queue=one)
    side.wait(0.5)
    assert (side.depth(one), side.depth(two)) == (0, 0)


def test_dead_letters_do_not_come_back_by_themselves_after_a_rejection_either(side: Side) -> None:
    waiting = side.unused_queue()
    side.declare(
        QueueConfig(
            waiting, message_ttl=0.05, dead_letter_exchange="", dead_letter_routing_key=waiting
        )
    )
    work = side.queue(dead_letter_exchange="", dead_letter_routing_key=waiting)
    send(queue=work.name)
    side.take(work.name).reject()
    side.wait(0.3)
    assert side.depth(waiting) == 0


def test_a_quorum_queue_buries_what_was_given_back_too_often(side: Side) -> None:
    dead = side.queue()
    queue = side.queue(
        queue_type="quorum", delivery_limit=2, dead_letter_exchange="",
        dead_letter_routing_key=dead.name,
    ).name  # fmt: skip
    send(queue=queue, headers={"mine": 1})
    for attempts in range(3):
        message = side.take(queue)
        assert message.redelivered is bool(attempts)
        headers = message.properties.headers
        assert headers.pop("x-delivery-count", 0) == attempts  # 3.10 also says 0
        assert headers == {"mine": 1}
        message.reject(requeue=True)
    message = side.take(dead.name)
    assert [entry["reason"] for entry in death(message)] == ["delivery_limit"]
    assert "x-delivery-count" not in message.properties.headers
    assert side.get(queue) is None


def test_a_stream_takes_messages(side: Side) -> None:
    queue = side.queue(queue_type="stream")
    send(queue=queue.name)
    with pytest.raises(Rejected, match="x-queue-type"):
        side.declare(QueueConfig(queue.name))


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
