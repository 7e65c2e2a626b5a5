"""`publish` and `apublish` as the public names promise them, on a real broker."""

import asyncio
import logging
import threading
import time
from copy import deepcopy
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.db.transaction import TransactionManagementError
from pika import BasicProperties

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ConfirmTimeout,
    ExchangeConfig,
    InvalidMessage,
    Nacked,
    Producer,
    PublishError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
)
from tests.support.rig import wire
from tests.support.rig.amqp import Received
from tests.support.rig.faults import Fault, Step, Verdict
from tests.support.rig.proxy import SilentPort, closed_port

SECRET = "s3cr3t-value"
LONG = 60.0  # "does not hang": far above what is measured, far below what a hang would take


def taken(amqp, queue):
    """All that is in a queue now. What was confirmed is there: there is nothing to wait for."""
    messages = []
    while (message := amqp.channel.basic_get(queue, auto_ack=True))[0] is not None:
        messages.append(Received(*message))
    return messages


def only(amqp, queue):
    [message] = taken(amqp, queue)
    return message


def bodies(amqp, queue):
    return [message.body for message in taken(amqp, queue)]


def now(body="x", **options):
    return publish(body, delivery="now", **options)


def count(proxy, event):
    return [entry.what for entry in proxy.events].count(event)


class HoldAnswers(Fault):
    """Keeps acks back until so many publishes went by: only what leaves as one pipeline gets any."""

    def __init__(self, publishes):
        super().__init__()
        self._left, self._held = publishes, []

    def from_client(self, link, frame, step):
        if step is Step.DONE and self._left:
            self._left -= 1
            if not self._left:
                for answer in self._held:
                    link.later(0, answer)
                self.hit()
        return Verdict.PASS

    def from_broker(self, link, frame):
        if self._left and frame.method in (wire.ACK, wire.NACK):
            self._held.append(link.resend(frame))
            return Verdict.DROP
        return Verdict.PASS


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


# -- topology ---------------------------------------------------------------------------------


def test_a_plain_queue_may_have_any_arguments(rmq, amqp, proxy):
    """A plain string queue is verified passively (it may have any arguments ...)"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue(
        durable=False, auto_delete=True, arguments={"x-max-length": 5, "x-message-ttl": 60_000}
    )
    now(queue=queue)
    assert bodies(amqp, queue) == [b"x"]
    assert count(proxy, "client Queue.Declare") == 1


def test_a_plain_queue_needs_no_configure_permission(rmq, node, node_amqp):
    """... and needs no configure permission"""
    queue = node_amqp.declare_queue()
    node.add_user("writer", "writer", configure="^$", read="^$", write=r"^(amq\.default|ev)$")
    rmq.RMQ_URL = node.url("writer")
    now(queue=queue)
    assert bodies(node_amqp, queue) == [b"x"]
    with pytest.raises(Rejected) as caught:
        now(queue=QueueConfig(queue))
    assert (caught.value.reply_code, caught.value.retryable) == (403, False)
    now(queue=queue)
    assert bodies(node_amqp, queue) == [b"x"]


def test_what_may_not_be_written_to_is_rejected_for_good(rmq, node, node_amqp):
    """Rejected: 403. A 403 on writing is not seen by a passive declare: the channel is closed."""
    exchange, queue = node_amqp.declare_exchange(kind="fanout"), node_amqp.declare_queue()
    node_amqp.bind(queue, exchange)
    node.add_user("reader", "reader", write=r"^amq\.default$")
    rmq.RMQ_URL = node.url("reader")
    with pytest.raises(Rejected) as caught:
        now(SECRET, exchange=exchange, message_id="m")
    assert (caught.value.reply_code, caught.value.retryable) == (403, False)
    assert (caught.value.message_id, caught.value.exchange) == ("m", exchange)
    assert SECRET not in str(caught.value)
    now("allowed", queue=queue)
    assert bodies(node_amqp, queue) == [b"allowed"]


def test_a_queue_that_is_missing_is_rejected_and_may_come(rmq, amqp):
    """Rejected: the broker closed a channel over it (403, 404, 406): .reply_code; retryable if 404"""
    queue = amqp.names.queue()
    with pytest.raises(Rejected) as caught:
        now(SECRET, queue=queue, message_id="m")
    error = caught.value
    assert (error.reply_code, error.retryable) == (404, True)
    assert (error.message_id, error.exchange, error.routing_key) == ("m", "", queue)
    assert queue in error.reply_text
    assert SECRET not in str(error)
    amqp.declare_queue(queue)
    now(queue=queue, message_id="m")
    assert bodies(amqp, queue) == [b"x"]


def test_an_exchange_that_is_missing_is_rejected_and_may_come(rmq, amqp):
    exchange, queue = amqp.names.exchange(), amqp.declare_queue()
    with pytest.raises(Rejected) as caught:
        now(exchange=exchange, routing_key="k")
    assert (caught.value.reply_code, caught.value.exchange) == (404, exchange)
    amqp.declare_exchange(exchange)
    amqp.bind(queue, exchange, "k")
    now(exchange=exchange, routing_key="k")
    assert bodies(amqp, queue) == [b"x"]


@pytest.mark.smoke
def test_configs_are_declared_with_their_arguments_and_bindings(rmq, amqp):
    """a ``QueueConfig`` or ``ExchangeConfig`` is declared actively with exactly its arguments and
    bindings"""
    source = ExchangeConfig(amqp.names.exchange(), "fanout")
    exchange = ExchangeConfig(
        amqp.names.exchange(), "topic", durable=False, bindings=[Binding(source)]
    )
    queue = QueueConfig(
        amqp.names.queue(),
        max_length=5,
        message_ttl=60,
        arguments={"x-queue-mode": "lazy"},
        bindings=[Binding(exchange, "a.*"), Binding(source.name)],
    )
    now("by name", queue=queue)
    now("by key", exchange=exchange, routing_key="a.b")
    now("by source", exchange=source)
    assert bodies(amqp, queue.name) == [b"by name", b"by key", b"by source"]
    # Declaring it again otherwise is refused: the arguments are exactly these.
    amqp.channel.queue_declare(
        queue.name,
        durable=True,
        arguments={"x-max-length": 5, "x-message-ttl": 60_000, "x-queue-mode": "lazy"},
    )
    amqp.channel.exchange_declare(exchange.name, "topic", durable=False)
    with pytest.raises(Rejected) as caught:
        now(queue=QueueConfig(queue.name, max_length=6))
    assert (caught.value.reply_code, caught.value.retryable) == (406, False)


def test_declare_declares_what_is_neither_queue_nor_exchange_of_the_call(rmq, amqp):
    """declare=() on the call"""
    exchange = ExchangeConfig(amqp.names.exchange(), "fanout")
    one = QueueConfig(amqp.names.queue(), bindings=[Binding(exchange)])
    two = QueueConfig(amqp.names.queue(), bindings=[Binding(exchange)])
    now(exchange=exchange, declare=[one])
    now(exchange=exchange, declare=(two for _ in "a generator"))
    assert (len(taken(amqp, one.name)), len(taken(amqp, two.name))) == (2, 1)


def test_an_empty_queue_skips_verification(rmq, amqp, proxy):
    """An empty queue skips this."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now(routing_key=queue)
    now(routing_key=queue, queue="", exchange="")
    assert len(taken(amqp, queue)) == 2
    assert count(proxy, "client Queue.Declare") == count(proxy, "client Exchange.Declare") == 0


def test_verified_once_per_connection_by_value_and_again_after_a_reconnect(rmq, amqp, proxy):
    """Verified once per connection, again after a reconnect."""
    rmq.RMQ_URL = proxy.url
    name, exchange = amqp.declare_queue(), amqp.declare_exchange()
    amqp.bind(name, exchange, name)

    def everything():
        for _ in range(3):
            now(queue=name)
            now(queue=QueueConfig(name))
            now(queue=name, exchange=exchange)
            publish_many(["x", "y"], queue=QueueConfig(name), delivery="now")

    everything()
    # As a name, as a config, and as a name together with the exchange.
    assert count(proxy, "client Queue.Declare") == 3
    assert count(proxy, "client Exchange.Declare") == 1
    proxy.cut()
    everything()
    assert proxy.connections_made == 2
    assert count(proxy, "client Queue.Declare") == 6
    assert count(proxy, "client Exchange.Declare") == 2
    assert len(taken(amqp, name)) == 30


# -- bad arguments ----------------------------------------------------------------------------

BAD_ARGUMENTS = [
    {"priority": 256}, {"priority": True}, {"priority": 1.5}, {"priority": "1"},
    {"expiration": -1}, {"expiration": float("nan")}, {"expiration": 1e306}, {"expiration": "60"},
    {"expiration": 2**32}, {"delivery_mode": 3},
    {"headers": {"k": object()}}, {"headers": {"k": float("nan")}}, {"headers": {"k": 2**63}},
    {"headers": [("k", 1)]}, {"headers": {"k" * 256: 1}}, {"headers": {"k": "x" * 131_072}},
    {"headers": {"CC": "key"}}, {"headers": {"BCC": [1]}}, {"headers": {"k": "\ud800"}},
    {"properties": {"priority": 1}}, {"properties": BasicProperties(expiration=60)},
    {"correlation_id": "c" * 256}, {"type": 5}, {"user_id": b"guest"}, {"reply_to": "\udfff"},
    {"serializer": "nope"}, {"serializer": 5}, {"serializer": ""},
    {"timeout": 0}, {"timeout": -1}, {"timeout": "5"}, {"timeout": float("nan")}, {"timeout": True},
    {"timeout": 1e300}, {"timeout": timedelta(0)},
    {"queue": "q" * 256}, {"queue": b"q"}, {"queue": None}, {"queue": 5}, {"queue": "\ud800"},
    {"queue": ExchangeConfig("x")},
    {"exchange": "é" * 128}, {"exchange": None}, {"exchange": QueueConfig("q")},
    {"routing_key": b"key"}, {"routing_key": "k" * 256}, {"routing_key": 5},
    {"declare": None}, {"declare": "abc"}, {"declare": [Binding("x")]}, {"declare": 5},
    {"declare": QueueConfig("q")}, {"declare": ["q"]},
    {"using": "nope"}, {"using": ""}, {"using": 5}, {"using": ["default"]}, {"using": "other"},
]  # fmt: skip
BAD_DELIVERIES = [
    {"delivery": "later"}, {"delivery": ""}, {"delivery": 5},
    {"ordering_key": "k"}, {"ordering_key": ""}, {"delivery": "outbox", "ordering_key": ""},
    {"delivery": "outbox", "ordering_key": 5}, {"delivery": "outbox", "ordering_key": "k" * 256},
    {"delivery": "outbox", "ordering_key": "a\0"}, {"delivery": "outbox", "ordering_key": "\ud800"},
    {"delivery": "outbox", "routing_key": "a\0"}, {"routing_key": "a\0"}, {"message_id": "a\0"},
    {"database": "nope"}, {"database": ""}, {"database": 5}, {"database": ["default"]},
]  # fmt: skip
BAD_BODIES = ["\ud800", {"a": 1}, None, bytearray(b"x"), b"x" * 20_001, "é" * 10_001]


ENTRANCES = {
    "publish": publish,
    "publish now": now,
    "publish_many": lambda body, **options: publish_many([body], **options),
    "publish_many now": lambda body, **options: publish_many([body], delivery="now", **options),
    "apublish": lambda body, **options: asyncio.run(apublish(body, **options)),
    # queue and exchange are its own: to its publish() None is the same as left out.
    "Producer": lambda body, queue="", exchange="", **options: Producer(exchange, queue).publish(
        body, **options
    ),
}
WITHOUT_DELIVERY = ("publish", "publish_many")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_bad_arguments_raise_at_the_call_and_nothing_is_sent(rmq, proxy, entrance):
    """Bad arguments raise at the call, never later inside a commit hook

    Refused before a byte is sent: not even a connection is made.
    """
    rmq.RMQ_URL = proxy.url
    rmq.RMQ_MAX_BODY_SIZE = 20_000
    cases = [("x", {"queue": "q", **bad}) for bad in BAD_ARGUMENTS]
    cases += [(body, {"queue": "q"}) for body in BAD_BODIES]
    if entrance in WITHOUT_DELIVERY:
        cases += [("x", {"queue": "q", **bad}) for bad in BAD_DELIVERIES]
    taken_ones = []
    for body, options in cases:
        try:
            with transaction.atomic():
                ENTRANCES[entrance](body, **options)
        except (InvalidMessage, TypeError):
            continue
        taken_ones.append((body, options))
    assert taken_ones == []
    assert proxy.connections_made == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("entrance", WITHOUT_DELIVERY)
@pytest.mark.parametrize("bad", ["nope", "", 5])
def test_a_database_that_is_none_is_refused_also_where_it_does_not_count(rmq, entrance, bad):
    with pytest.raises(InvalidMessage, match="is not in DATABASES"):
        ENTRANCES[entrance]("x", queue="q", database=bad, delivery="now")


def test_what_the_settings_lack_is_told_at_the_call(rmq):
    rmq.RMQ_URL = None
    with pytest.raises(ImproperlyConfigured, match="RMQ_URL is not set"):
        publish("x", queue="q")


@pytest.mark.parametrize("bad", BAD_ARGUMENTS[:22], ids=lambda bad: str(*bad))
def test_the_error_of_a_bad_argument_says_which(rmq, bad):
    with pytest.raises((InvalidMessage, TypeError), match=next(iter(bad))):
        now(queue="q", **bad)


@pytest.mark.parametrize("delivery", ["now", "on_commit", None])
def test_an_ordering_key_without_the_outbox_is_refused(rmq, delivery):
    with pytest.raises(InvalidMessage, match='ordering_key needs delivery="outbox"'):
        publish("x", queue="q", ordering_key="k", delivery=delivery)


def test_the_setting_says_the_delivery_that_is_left_out(rmq, amqp):
    rmq.RMQ_DELIVERY = "now"
    with pytest.raises(Rejected):
        publish("x", queue=amqp.names.queue())


# -- using ------------------------------------------------------------------------------------


def test_using_may_be_left_out_when_there_is_one(rmq, amqp):
    """``using`` names a RabbitMQ connection; it may be left out when there is one."""
    rmq.RMQ_CONNECTIONS = {"events": {"URL": rmq.RMQ_URL}}
    rmq.RMQ_URL = None
    queue = amqp.declare_queue()
    now(queue=queue)
    now(queue=queue, using="events")
    assert len(taken(amqp, queue)) == 2
    assert connections["events"].status().connects == 1


def test_several_connections_are_told_apart(rmq, amqp, proxy):
    rmq.RMQ_CONNECTIONS = {"events": {"URL": proxy.url}}
    queue = amqp.declare_queue()
    with pytest.raises(InvalidMessage, match=r"using= must name one of .*'default', 'events'"):
        now(queue=queue)
    now("direct", queue=queue, using="default")
    assert proxy.publishes == 0
    now("through the proxy", queue=queue, using="events")
    assert proxy.publishes == 1
    now("by its config", queue=QueueConfig(queue, using="events"))
    assert proxy.publishes == 2
    now("by both", queue=QueueConfig(queue, using="events"), using="events")
    assert proxy.publishes == 3
    assert len(taken(amqp, queue)) == 4


@pytest.mark.parametrize("option", ["queue", "exchange", "declare"])
def test_a_call_that_contradicts_its_config_is_refused(rmq, option):
    """Either of the two would be a guess."""
    rmq.RMQ_CONNECTIONS = {"events": {}}
    config = (ExchangeConfig if option == "exchange" else QueueConfig)("theirs", using="events")
    options = {"queue": "q", option: [config] if option == "declare" else config}
    with pytest.raises(
        InvalidMessage, match=r"'theirs' belongs to .* 'events', and the call is for 'default'"
    ):
        now(**options, using="default")


def test_configs_of_different_connections_are_a_contradiction(rmq, amqp, proxy):
    rmq.RMQ_CONNECTIONS = {"events": {"URL": proxy.url}}
    queue = QueueConfig(amqp.names.queue(), using="default")
    exchange = ExchangeConfig(amqp.names.exchange(), using="events")
    with pytest.raises(InvalidMessage, match="belong to different RabbitMQ connections"):
        now(queue=queue, exchange=exchange)


def test_an_unknown_using_says_which_there_are(rmq):
    with pytest.raises(
        InvalidMessage, match=r"names no RabbitMQ connection\. There are: 'default'"
    ):
        now(queue="q", using="nope")


def test_a_databases_name_as_using_says_database(rmq):
    """An unknown name that is a database's says to use ``database=``."""
    with pytest.raises(InvalidMessage, match="It is a database: write database='other'"):
        now(queue="q", using="other")


def test_a_connections_name_as_database_says_using(rmq):
    rmq.RMQ_CONNECTIONS = {"events": {}}
    with pytest.raises(
        InvalidMessage, match=r"database='events' is not in DATABASES.*using='events'"
    ):
        publish("x", queue="q", database="events", using="default")


# -- database ---------------------------------------------------------------------------------

both = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@both
@pytest.mark.parametrize("alias", ["default", "other"])
def test_the_open_atomic_block_says_the_database(rmq, amqp, alias):
    """Left out: the alias whose ``atomic`` block is open in this thread"""
    queue = amqp.declare_queue()
    with transaction.atomic(using=alias):
        publish("x", queue=queue)
        assert bodies(amqp, queue) == []
    assert bodies(amqp, queue) == [b"x"]


@both
def test_default_when_none_is_open_and_at_once(rmq, amqp):
    """``default`` when none is; at once when there is no transaction"""
    queue = amqp.declare_queue()
    publish("x", queue=queue)
    assert bodies(amqp, queue) == [b"x"]


@both
def test_several_open_blocks_ask_for_a_name(rmq, amqp):
    """when several are open, an error asks for it"""
    queue = amqp.declare_queue()
    with transaction.atomic(using="default"), transaction.atomic(using="other"):
        with pytest.raises(InvalidMessage, match=r"open on default, other: say .* with database="):
            publish("x", queue=queue)
        now("now needs none", queue=queue)
        publish("named", queue=queue, database="default")
    assert bodies(amqp, queue) == [b"now needs none", b"named"]


@both
def test_the_named_database_counts_and_no_other(rmq, amqp):
    """``database`` names the Django alias whose transaction counts."""
    queue = amqp.declare_queue()
    with transaction.atomic(using="default"), transaction.atomic(using="other"):
        publish("other", queue=queue, database="other")
        publish("default", queue=queue, database="default")
    assert bodies(amqp, queue) == [b"other", b"default"]
    with transaction.atomic(using="default"):
        publish("at once", queue=queue, database="other")
        assert bodies(amqp, queue) == [b"at once"]
        transaction.set_rollback(True)


@both
def test_another_threads_block_does_not_count(rmq, amqp):
    """``atomic`` block open *in this thread*"""
    queue = amqp.declare_queue()
    opened, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(using="other"):
            opened.set()
            done.wait(LONG)
        transaction.get_connection("other").close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(LONG)
    with transaction.atomic():
        publish("x", queue=queue)
    done.set()
    thread.join(LONG)
    assert bodies(amqp, queue) == [b"x"]


@pytest.mark.django_db(databases=["default", "other"])
def test_the_blocks_of_a_test_case_do_not_count(rmq, amqp, django_capture_on_commit_callbacks):
    """when several are open (TestCase's own aside)"""
    queue = amqp.declare_queue()
    capture = django_capture_on_commit_callbacks
    with capture(using="default", execute=True) as of_default:
        publish("default", queue=queue)
    with capture(using="other", execute=True) as of_other, transaction.atomic(using="other"):
        publish("other", queue=queue)
    assert (len(of_default), len(of_other)) == (1, 1)
    assert bodies(amqp, queue) == [b"default", b"other"]


@both
def test_with_autocommit_off_djangos_own_error_stands(rmq, amqp):
    """With autocommit off outside ``atomic``, Django's own error stands."""
    queue = amqp.declare_queue()
    transaction.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError, match="on_commit"):
            publish("x", queue=queue)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert bodies(amqp, queue) == []


# -- outcomes ---------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_takes_later(rmq, amqp, proxy):
    """Nacked: refused by a queue; retryable. Nothing but a lost connection is retried in a call."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    now("first", queue=queue)
    with pytest.raises(Nacked) as caught:
        now(SECRET, queue=queue, message_id="m")
    assert caught.value.retryable
    assert (caught.value.message_id, caught.value.routing_key) == ("m", queue)
    assert SECRET not in str(caught.value)
    assert proxy.publishes == 2
    assert bodies(amqp, queue) == [b"first"]
    now("second", queue=queue, message_id="m")
    assert bodies(amqp, queue) == [b"second"]


def test_nothing_but_a_lost_connection_is_retried(rmq, amqp, proxy):
    """Nothing but a lost connection is retried within a call."""
    rmq.RMQ_URL = proxy.url
    with pytest.raises(Unroutable):
        now(routing_key=amqp.names.unique())
    assert proxy.publishes == 1
    with pytest.raises(Rejected):
        now(queue=amqp.names.unique())
    assert proxy.publishes == 1
    assert count(proxy, "client Queue.Declare") == 1
    assert proxy.connections_made == 1


def test_no_broker_is_unavailable_and_it_may_come(rmq, amqp):
    """BrokerUnavailable: not sent: no connection, login refused, blocked; retryable"""
    good, rmq.RMQ_URL = rmq.RMQ_URL, f"amqp://guest:guest@127.0.0.1:{closed_port()}/"
    with pytest.raises(BrokerUnavailable) as caught:
        now(SECRET, queue="q", message_id="m")
    assert caught.value.retryable
    assert (caught.value.message_id, caught.value.routing_key) == ("m", "q")
    assert SECRET not in str(caught.value)
    status = connections["default"].status()
    assert status.state == "down"
    assert status.node in status.last_error
    rmq.RMQ_URL = good
    queue = amqp.declare_queue()
    now(queue=queue, message_id="m")
    assert bodies(amqp, queue) == [b"x"]


def test_a_refused_login_is_unavailable_and_the_password_not_shown(rmq, broker, caplog):
    rmq.RMQ_URL = f"amqp://guest:{SECRET}@{broker.host}:{broker.port}/"
    with (
        caplog.at_level(logging.DEBUG, "rmq_publisher"),
        pytest.raises(BrokerUnavailable) as caught,
    ):
        now(queue="q")
    assert "login was refused" in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text


@pytest.mark.disturbs
def test_a_blocked_broker_is_unavailable(rmq, node, node_amqp):
    queue = node_amqp.declare_queue()
    rmq.RMQ_URL = node.url()
    now("before", queue=queue)
    node.block()
    with pytest.raises(PublishError):
        now("notices the alarm", queue=queue, timeout=0.5)
    with pytest.raises(BrokerUnavailable, match="block") as caught:
        now("during", queue=queue, timeout=LONG)
    assert caught.value.retryable
    assert connections["default"].status().blocked


# -- the timeout ------------------------------------------------------------------------------


@pytest.fixture
def promptly():
    """A call with a timeout of its own ends long before the settings' times are over."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < LONG / 3


def test_the_timeout_bounds_connecting(rmq, promptly):
    """``timeout`` bounds a whole call (connect, ...)"""
    rmq.RMQ_CONNECT_TIMEOUT = rmq.RMQ_PUBLISH_TIMEOUT = LONG
    with SilentPort() as silent:
        rmq.RMQ_URL = silent.url
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            now(queue="q", timeout=0.3)
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            now(queue="q", timeout=timedelta(seconds=0.3))
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            asyncio.run(apublish("x", queue="q", timeout=0.3))
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            Producer(queue="q", timeout=0.3).publish("x")
        connections["default"].close(0)


def test_the_timeout_bounds_declaring(rmq, amqp, proxy, promptly):
    """``timeout`` bounds a whole call (... declare, ...)"""
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, LONG
    queue = amqp.declare_queue()
    now(routing_key=queue)
    proxy.stall("client")
    with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
        now("never written", queue=queue, timeout=0.3)
    proxy.resume()
    now("then", routing_key=queue)
    assert bodies(amqp, queue) == [b"x", b"then"]


def test_the_timeout_bounds_the_wait_for_the_confirm(rmq, amqp, proxy, promptly):
    """ConfirmTimeout: outcome unknown: the deadline; retryable"""
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, LONG
    queue = amqp.declare_queue()
    now(queue=queue)
    proxy.swallow_acks(None)
    with pytest.raises(ConfirmTimeout, match="within 1 s") as caught:
        now(SECRET, queue=queue, timeout=1, message_id="m")
    assert caught.value.retryable
    assert (caught.value.message_id, caught.value.routing_key) == ("m", queue)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfirmTimeout):
        asyncio.run(apublish("x", queue=queue, timeout=1))
    connections["default"].close(0)


def test_the_timeout_bounds_the_retry(rmq, amqp, proxy, promptly):
    """``timeout`` bounds a whole call (... retry)"""
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT, rmq.RMQ_CONNECT_TIMEOUT = proxy.url, LONG, LONG
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = proxy.cut_after_publish()
    proxy.swallow_acks(None)  # of the connections that follow
    with pytest.raises(ConfirmTimeout, match="within 1 s"):
        now(queue=queue, timeout=1)
    assert fault.hits == 1
    connections["default"].close(0)


def test_a_second_lost_connection_is_an_unknown_outcome(rmq, amqp, proxy):
    """ConfirmTimeout: ... or a second lost connection"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    proxy.cut_after_publish(1)
    proxy.cut_after_publish(2)
    with pytest.raises(ConfirmTimeout, match="second time") as caught:
        now(queue=queue, message_id="m")
    assert caught.value.retryable
    assert {message.properties.message_id for message in taken(amqp, queue)} == {"m"}


# -- event loops ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: publish("x", queue="q"), lambda: publish("x", queue="q", delivery="now"),
        lambda: publish_many(["x"], queue="q"), lambda: Producer(queue="q").publish("x"),
        lambda: Producer(queue="q")(lambda: "x")(),
    ],
    ids=["publish", "now", "publish_many", "Producer", "decorator"],
)  # fmt: skip
def test_blocking_calls_in_an_event_loop_raise_and_name_apublish(rmq, proxy, call):
    """``publish()`` and ``Producer.publish()`` inside a running event loop raise and name
    ``apublish``."""
    rmq.RMQ_URL = proxy.url

    async def main():
        with pytest.raises(SynchronousOnlyOperation, match="apublish"):
            call()

    asyncio.run(main())
    assert proxy.connections_made == 0


@pytest.mark.smoke
def test_apublish_awaits_the_confirm(rmq, amqp):
    """apublish(...): now, awaiting the confirm"""
    queue = amqp.declare_queue()

    async def main():
        message_id = await apublish({"a": 1}, queue=queue, serializer="json", headers={"h": 1})
        return message_id, await asyncio.to_thread(bodies, amqp, queue)

    message_id, arrived = asyncio.run(main())
    assert (bool(message_id), arrived) == (True, [b'{"a":1}'])
    with pytest.raises(Unroutable):
        asyncio.run(apublish("x", routing_key=amqp.names.unique()))
    with pytest.raises(Rejected):
        asyncio.run(apublish("x", queue=amqp.names.unique()))


def test_apublish_does_not_hold_up_the_loop(rmq, amqp, proxy):
    """Without blocking the event loop: 64 at once leave as one pipeline, before any answer."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now(queue=queue)  # the first on a connection goes alone
    held = proxy._arm(HoldAnswers(64))

    async def main():
        return await asyncio.gather(*(apublish(str(n), queue=queue) for n in range(64)))

    ids = asyncio.run(main())
    assert held.hits == 1
    assert [message.properties.message_id for message in taken(amqp, queue)[1:]] == ids


def test_apublish_works_in_any_number_of_loops(rmq, amqp):
    queue = amqp.declare_queue()
    for n in range(3):
        asyncio.run(apublish(str(n), queue=queue))
    assert bodies(amqp, queue) == [b"0", b"1", b"2"]
    assert connections["default"].status().connects == 1


def test_a_cancelled_apublish_stays_cancelled_and_hurts_nobody(rmq, amqp, proxy):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now("first", queue=queue)
    swallowed = proxy.swallow_acks(1)

    async def main():
        task = asyncio.create_task(apublish("second", queue=queue, timeout=LONG))
        assert await asyncio.to_thread(swallowed.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await apublish("third", queue=queue)

    asyncio.run(main())
    assert bodies(amqp, queue) == [b"first", b"second", b"third"]


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
