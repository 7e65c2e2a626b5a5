"""kombu's and pika's consumers read what is sent here, and `Consumer` reads what they send."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
from pika import BasicProperties

from rmq_publisher import Consumer, publish
from rmq_publisher.consumer import DecodeError, ReceivedMessage
from tests.support.rig.amqp import Amqp

SOON = 10.0
VALUE = {"a": [1, "grüße", None, 2.5], "b": {"c": True}}
COMPRESSIONS = [None, "gzip", "zlib", "bzip2", "lzma", "brotli", "zstd"]
SERIALIZERS = ["json", "yaml", "msgpack"]


def received(queue: str, **options: Any) -> ReceivedMessage:
    """The next message of a queue, acknowledged."""
    with Consumer([queue], **options) as consumer:
        message = consumer._take(SOON, lambda: False)
        assert message is not None
        message.ack()
        return message


@pytest.fixture
def connection(rmq: Any, amqp: Amqp) -> Iterator[kombu.Connection]:
    with kombu.Connection(amqp.url) as made:
        yield made


def kombus(connection: kombu.Connection, queue: str, **options: Any) -> tuple[Any, Any]:
    """The next body and message by kombu's Consumer."""
    got: list[tuple[Any, Any]] = []
    with kombu.Consumer(
        connection.channel(),
        [kombu.Queue(queue, no_declare=True)],
        callbacks=[lambda *given: got.append(given)],
        **options,
    ):
        connection.drain_events(timeout=SOON)
    got[0][1].ack()
    return got[0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_kombu_reads_what_is_sent_here(
    connection: kombu.Connection, amqp: Amqp, serializer: str, compression: str | None
) -> None:
    queue = amqp.declare_queue()
    publish(VALUE, queue=queue, serializer=serializer, compression=compression, delivery="now")
    body, message = kombus(connection, queue, accept=SERIALIZERS)
    assert body == VALUE
    assert message.content_type.startswith("application/")


def test_kombu_reads_zlib_of_a_serializers_name(connection: kombu.Connection, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    publish(VALUE, queue=queue, serializer="json+zlib", delivery="now")
    assert kombus(connection, queue)[0] == VALUE


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_what_kombu_sends_is_read(
    connection: kombu.Connection, amqp: Amqp, serializer: str, compression: str | None
) -> None:
    queue = amqp.declare_queue()
    headers = {"x": 1, "big": 2**40, "f": 1.5, "list": ["a"], "none": None, "table": {"k": "v"}}
    connection.Producer().publish(
        VALUE, routing_key=queue, serializer=serializer, compression=compression, headers=headers,
        priority=3, correlation_id="c",
    )  # fmt: skip
    message = received(queue, accept=[serializer])
    assert message.payload == VALUE
    got = message.headers
    assert {name: got[name] for name in headers} == headers
    assert (message.properties["priority"], message.properties["correlation_id"]) == (3, "c")


def test_a_pickle_of_kombu_is_never_read(connection: kombu.Connection, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    for _ in range(2):
        connection.Producer().publish(VALUE, routing_key=queue, serializer="pickle")
    message = received(queue)
    assert pickle.loads(message.payload) == VALUE  # bytes, for a caller who knows what they are
    with pytest.raises(DecodeError, match="not accepted"):
        received(queue, accept=["json"]).decode()


def test_what_pika_sends_is_read(rmq: Any, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    properties = BasicProperties(
        content_type="application/json; charset=utf-8", headers={"n": 1, "t": {"a": [True, None]}},
        type="kind", timestamp=1_700_000_000,
    )  # fmt: skip
    amqp.channel.basic_publish("", queue, json.dumps(VALUE), properties)
    message = received(queue, accept=["json"])
    assert message.payload == VALUE
    assert message.headers == {"n": 1, "t": {"a": [True, None]}}
    assert message.properties["timestamp"] == 1_700_000_000


def test_a_message_without_any_property_is_bytes(rmq: Any, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    amqp.channel.basic_publish("", queue, b"\x00\xff")
    message = received(queue)
    assert (message.payload, message.headers, message.message_id) == (b"\x00\xff", {}, "")
    assert (message.properties, message.attempts) == ({}, 1)


# -- hostile input ----------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"": inner}
    return inner


HOSTILE = [
    (b"{", BasicProperties(content_type="application/json")),
    (b"[" * 50_000, BasicProperties(content_type="application/json")),
    (b"{}", BasicProperties(content_type="application/json", content_encoding="rot13")),
    (b"{}", BasicProperties(content_type="application/json", content_encoding="gzip")),
    (b"{}", BasicProperties(content_type="application/json", headers={"compression": "nope"})),
    (b"{}", BasicProperties(content_type="application/json",
                            headers={"compression": "application/x-gzip"})),
    (pickle.dumps(1), BasicProperties(content_type="application/x-python-serialize")),
    (b"{}", BasicProperties(content_type="no/such")),
    (b"{}", BasicProperties()),
    (b"", BasicProperties(content_type="application/json")),
    (b"{", BasicProperties(content_type="application/json", headers={"h": "x" * 100_000})),
    (b"{", BasicProperties(content_type="application/json", headers=nested(90))),
]  # fmt: skip


def test_hostile_messages_are_dead_lettered_and_the_next_one_is_handled(
    rmq: Any, amqp: Amqp
) -> None:
    dead = amqp.declare_queue()
    queue = amqp.declare_queue(
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    )
    for body, properties in HOSTILE:
        amqp.channel.basic_publish("", queue, body, properties)
    amqp.channel.basic_publish("", queue, b"1", BasicProperties(content_type="application/json"))
    got: list[Any] = []

    def handle(body: Any, message: ReceivedMessage) -> None:
        got.append(body)
        message.ack()

    with Consumer([queue], callbacks=[handle], accept=["json"]) as consumer:
        consumer.run(limit=len(HOSTILE) + 1, timeout=SOON)
    assert got == [1]
    amqp.wait_for_depth(dead, len(HOSTILE))
    assert amqp.depth(queue) == 0
