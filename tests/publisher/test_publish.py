"""`publish` and `apublish` as the public names promise them, on a real broker."""

import asyncio
import logging
import time
from copy import deepcopy
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from pika import BasicProperties

from rmq_publisher import (
    ConfirmTimeout,
    InvalidMessage,
    PublishError,
    QueueConfig,
    Unroutable,
    apublish,
    connections,
    publish,
)
from tests.support.publishing import HoldAnswers, bodies, now, only, taken
from tests.support.rig import wire
from tests.support.rig.faults import Fault, Step, Verdict

SECRET = "s3cr3t-value"


class Sequence(Fault):
    """Notes publishes and answers in the order in which they pass."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def from_client(self, link, frame, step):
        if step is Step.DONE:
            self.seen.append("publish")
        return Verdict.PASS

    def from_broker(self, link, frame):
        if frame.method in (wire.ACK, wire.NACK):
            self.seen.append("answer")
        return Verdict.PASS


# -- on the wire ------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_message_arrives_with_what_consumers_rely_on(rmq, amqp):
    """On the wire: ``content_type="application/json"`` when no properties are given,
    ``delivery_mode=2``, a ``message_id`` fixed when the message is made, ``timestamp``, ``app_id``.
    """
    rmq.RMQ_APP_ID = "shop"
    queue = amqp.declare_queue()
    before = int(time.time())
    message_id = now('{"a": "é"}', queue=queue)
    message = only(amqp, queue)
    assert message.body == '{"a": "é"}'.encode()
    properties = message.properties
    assert before <= properties.timestamp <= time.time()
    said = {name: value for name, value in vars(properties).items() if value is not None}
    assert said == {
        "content_type": "application/json", "delivery_mode": 2, "message_id": message_id,
        "timestamp": properties.timestamp, "app_id": "shop",
    }  # fmt: skip


def test_no_app_id_is_made_up(rmq, amqp):
    queue = amqp.declare_queue()
    now(queue=queue)
    assert only(amqp, queue).properties.app_id is None


@pytest.mark.parametrize(
    ("options", "app_id"),
    [
        ({"app_id": "call"}, "call"),
        ({"properties": BasicProperties(app_id="own")}, "own"),
        ({"properties": BasicProperties(app_id="own"), "app_id": "call"}, "call"),
        ({"properties": BasicProperties()}, "setting"),
    ],
)
def test_the_setting_is_the_last_to_say_the_app_id(rmq, amqp, options, app_id):
    """Keywords win over ``properties``; ``RMQ_APP_ID`` is the default of both."""
    rmq.RMQ_APP_ID = "setting"
    queue = amqp.declare_queue()
    now(queue=queue, **options)
    assert only(amqp, queue).properties.app_id == app_id


def test_own_properties_arrive_persistent_also_when_they_leave_it_out_and_are_never_changed(
    rmq, amqp
):
    """``delivery_mode=2`` also when the caller's own properties leave it out; the caller's
    ``BasicProperties`` object is never changed."""
    queue = amqp.declare_queue()
    own = BasicProperties(
        content_type="text/plain", headers={"a": 1, "b": [1]}, correlation_id="c"
    )
    before = deepcopy(vars(own))
    message_id = now(queue=queue, properties=own, headers={"b": 2}, correlation_id="C")
    came = only(amqp, queue).properties
    assert vars(own) == before
    assert (came.delivery_mode, came.content_type, came.message_id) == (
        2,
        "text/plain",
        message_id,
    )
    assert came.headers == {"a": 1, "b": 2}
    assert came.correlation_id == "C"
    now(queue=queue, properties=BasicProperties())
    assert only(amqp, queue).properties.content_type is None


def test_every_keyword_arrives(rmq, amqp):
    """Keywords win over ``properties``; ``expiration`` is seconds, milliseconds on the wire."""
    queue = amqp.declare_queue()
    said = {
        "headers": {"k": "v"}, "priority": 255, "delivery_mode": 1, "message_id": "m-1",
        "correlation_id": "c", "reply_to": "r", "type": "t", "user_id": "guest", "app_id": "a",
        "content_type": "text/plain", "content_encoding": "identity",
    }  # fmt: skip
    other = BasicProperties(
        **{name: 7 if name in ("priority", "delivery_mode") else "other"
           for name in said if name != "headers"},
        expiration="7", headers={"k": "other"},
    )  # fmt: skip
    assert now(queue=queue, properties=other, expiration=90, **said) == "m-1"
    came = vars(only(amqp, queue).properties)
    assert {name: came[name] for name in said} == said
    assert came["expiration"] == "90000"


@pytest.mark.parametrize(
    ("expiration", "sent"), [(90, "90000"), (60.5, "60500"), (timedelta(hours=1), "3600000")]
)
def test_expiration_is_seconds_or_a_timedelta(rmq, amqp, expiration, sent):
    """``expiration`` is seconds or a ``timedelta``"""
    queue = amqp.declare_queue()
    now(queue=queue, expiration=expiration)
    assert only(amqp, queue).properties.expiration == sent


@pytest.mark.parametrize("priority", [0, 1, 255])
def test_priority_is_an_integer_to_255(rmq, amqp, priority):
    """``priority`` 0 to 255 (an integer)"""
    queue = amqp.declare_queue()
    now(queue=queue, priority=priority)
    assert only(amqp, queue).properties.priority == priority


@pytest.mark.parametrize(
    ("body", "sent"),
    [("héllo", "héllo".encode()), (b"\x00\xff\xce", b"\x00\xff\xce"), ("", b""), (b"", b""),
     (b"x" * 400_000, b"x" * 400_000)],
    ids=["str", "bytes", "empty str", "empty bytes", "several frames"],
)  # fmt: skip
def test_text_is_sent_as_utf8_and_bytes_unchanged(rmq, amqp, body, sent):
    """Bodies: ``str`` is sent as UTF-8, ``bytes`` unchanged"""
    queue = amqp.declare_queue()
    now(body, queue=queue)
    assert only(amqp, queue).body == sent


@pytest.mark.parametrize("body", [{"a": 1}, [1], 5, None, True, bytearray(b"x"), Decimal(1)])
@pytest.mark.parametrize("delivery", ["now", "on_commit"])
def test_anything_else_is_a_type_error_without_a_serializer(rmq, body, delivery):
    """anything else is a ``TypeError`` unless a serializer is named"""
    with pytest.raises(TypeError, match="the body must be str or bytes"):
        publish(body, queue="q", delivery=delivery)


def test_a_serializer_on_the_call_or_in_the_settings(rmq, amqp):
    """``serializer="json"``, on the call, the producer or as ``RMQ_SERIALIZER``"""
    queue = amqp.declare_queue()
    now({"a": 1}, queue=queue, serializer="json")
    assert only(amqp, queue).body == b'{"a":1}'
    rmq.RMQ_SERIALIZER = "json"
    now({"a": 2}, queue=queue)
    assert only(amqp, queue).body == b'{"a":2}'
    now({"a": 3}, queue=queue, serializer="json+gzip")
    message = only(amqp, queue)
    assert message.body[:2] == b"\x1f\x8b"
    assert message.properties.content_encoding == "gzip"
    now("as it is", queue=queue)
    assert only(amqp, queue).body == b"as it is"


def test_the_id_is_kept_over_a_retry(rmq, amqp, proxy):
    """a ``message_id`` fixed when the message is made and kept over every retry

    A duplicate carries the same ``message_id``.
    """
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    fault = proxy.cut_after_publish()
    message_id = now("x", queue=queue)
    assert fault.hits == 1
    first, second = taken(amqp, queue)
    assert first.properties.message_id == second.properties.message_id == message_id
    assert vars(first.properties) == vars(second.properties)


@pytest.mark.django_db(transaction=True)
def test_the_message_is_made_at_the_call(rmq, amqp):
    """the body is encoded at the call"""
    queue = amqp.declare_queue()
    value, headers = {"a": 1}, {"h": [1]}
    own = BasicProperties(type="t")
    with transaction.atomic():
        publish(value, queue=queue, serializer="json", headers=headers, properties=own)
        value["a"], own.type = 2, "T"
        headers["h"].append(2)
    message = only(amqp, queue)
    assert message.body == b'{"a":1}'
    assert (message.properties.headers, message.properties.type) == ({"h": [1]}, "t")


# -- where to ---------------------------------------------------------------------------------


def test_the_routing_key_defaults_to_the_queues_name(rmq, amqp):
    """The routing key defaults to the queue's name."""
    queue, exchange = amqp.declare_queue(), amqp.declare_exchange()
    amqp.bind(queue, exchange, queue)
    amqp.bind(queue, exchange, "other")
    now(queue=queue)
    now(queue=QueueConfig(queue))
    now(queue=queue, exchange=exchange)
    now(queue=queue, exchange=exchange, routing_key="other")
    now(routing_key=queue)
    keys = [message.method.routing_key for message in taken(amqp, queue)]
    assert keys == [queue, queue, queue, "other", queue]


def test_an_exchange_alone_is_somewhere_to_go(rmq, amqp):
    queue, exchange = amqp.declare_queue(), amqp.declare_exchange(kind="fanout")
    amqp.bind(queue, exchange)
    now(exchange=exchange)
    assert only(amqp, queue).method.routing_key == ""


@pytest.mark.smoke
def test_mandatory_is_always_on(rmq, amqp):
    """``mandatory`` is always on. Unroutable: returned by the broker; retryable (a binding may come)"""
    exchange, queue = amqp.declare_exchange(kind="topic"), amqp.declare_queue()
    with pytest.raises(Unroutable) as caught:
        now(SECRET, exchange=exchange, routing_key="a.b", message_id="m", headers={"h": SECRET})
    error = caught.value
    assert (error.reply_code, error.reply_text) == (312, "NO_ROUTE")
    assert (error.message_id, error.exchange, error.routing_key) == ("m", exchange, "a.b")
    assert error.retryable
    assert SECRET not in str(error)
    amqp.bind(queue, exchange, "a.*")
    now("later", exchange=exchange, routing_key="a.b", message_id="m")
    assert bodies(amqp, queue) == [b"later"]
    with pytest.raises(Unroutable):
        now(routing_key=amqp.names.unique())


def test_a_confirmed_message_is_in_every_queue_it_was_routed_to(rmq, amqp):
    """A confirmed message is in every queue it was routed to."""
    exchange = amqp.declare_exchange(kind="topic")
    queues = [amqp.declare_queue() for _ in range(4)]
    for queue in queues[:3]:
        amqp.bind(queue, exchange, "a.#")
    now(exchange=exchange, routing_key="a.b", headers={"CC": ["a.c"], "BCC": ["z"]})
    assert [len(taken(amqp, queue)) for queue in queues] == [1, 1, 1, 0]


@pytest.mark.parametrize("given", [{}, {"routing_key": ""}, {"queue": "", "exchange": ""}])
@pytest.mark.parametrize("delivery", ["now", "on_commit"])
def test_naming_nothing_is_refused(rmq, given, delivery):
    """A publish that names neither queue, exchange nor routing key is refused."""
    with pytest.raises(InvalidMessage, match="nowhere to go"):
        publish("x", delivery=delivery, **given)


def test_a_direct_reply_is_refused(rmq):
    """RabbitMQ delivers it and returns it all the same; a made-up one ends the connection."""
    for given in (
        {"routing_key": "amq.rabbitmq.reply-to.g1.b2"},
        {"queue": "amq.rabbitmq.reply-to.x"},
    ):
        with pytest.raises(InvalidMessage, match="direct reply-to"):
            publish("x", delivery="now", **given)


# -- database ---------------------------------------------------------------------------------


both = pytest.mark.django_db(transaction=True, databases=["default", "other"])


# -- one id twice -----------------------------------------------------------------------------


def test_the_same_id_twice_in_flight_waits_for_the_first(rmq, amqp, proxy):
    """The same ``message_id`` twice in flight: the second waits until the first is resolved."""
    rmq.RMQ_URL = proxy.url
    one, two = amqp.declare_queue(), amqp.declare_queue()
    now(queue=one)
    now(queue=two)
    passed = proxy._arm(Sequence())

    async def main(ids):
        await asyncio.gather(
            apublish("first", queue=one, message_id=ids[0]),
            apublish("second", queue=two, message_id=ids[1]),
        )

    asyncio.run(main(["m", "m"]))
    assert passed.seen == ["publish", "answer", "publish", "answer"]
    assert bodies(amqp, one) == [b"x", b"first"]
    assert bodies(amqp, two) == [b"x", b"second"]
    # With ids of their own they leave together.
    held = proxy._arm(HoldAnswers(2))
    asyncio.run(main(["m", "n"]))
    assert held.hits == 1


def test_the_same_id_again_is_a_message_like_any_other(rmq, amqp):
    queue = amqp.declare_queue()
    assert [now(queue=queue, message_id="m") for _ in range(2)] == ["m", "m"]
    assert [message.properties.message_id for message in taken(amqp, queue)] == ["m", "m"]


# -- what may be told -------------------------------------------------------------------------


def test_no_log_line_holds_a_body_or_a_headers_value(rmq, amqp, proxy, caplog):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    other = amqp.declare_queue()
    secret = {"body": SECRET, "headers": {"h": SECRET, "l": [SECRET], "t": {"k": SECRET}}}
    calls = [
        {"queue": queue}, {"queue": queue}, {"routing_key": "nowhere"}, {"queue": "missing"},
        {"exchange": "missing"}, {"queue": queue, "user_id": "somebody"},
        {"queue": queue, "reply_to": "amq.rabbitmq.reply-to"}, {"queue": queue, "priority": 300},
    ]  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        now(**secret, **calls[0])
        for options in calls[1:]:
            with pytest.raises(PublishError) as caught:
                now(**secret, **options)
            assert SECRET not in repr(caught.value)
        proxy.swallow_acks(None)
        with pytest.raises(ConfirmTimeout):
            now(**secret, routing_key=other, timeout=1)
        connections["default"].close(0)
    assert "rmq_publisher" in {record.name.split(".")[0] for record in caplog.records}
    assert SECRET not in caplog.text
