"""`publish_many`: one pipelined batch, its outcomes in order, items with options of their own."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pika import BasicProperties

from rmq_publisher import (
    BrokerUnavailable,
    ConfirmTimeout,
    InvalidMessage,
    Message,
    Nacked,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    connections,
    publish_many,
)
from tests.support.publishing import LONG, HoldAnswers, bodies, count, now, taken
from tests.support.rig import wire
from tests.support.rig.faults import Fault, Verdict
from tests.support.rig.proxy import SilentPort, closed_port

SECRET = "s3cr3t-value"


def many(messages, **options):
    return publish_many(messages, delivery="now", **options)


def outcomes(messages, **options):
    with pytest.raises(PublishManyError) as caught:
        many(messages, **options)
    return caught.value.outcomes


class TrickleAcks(Fault):
    """Lets go of one tag at a time, each so many seconds after the one before."""

    def __init__(self, seconds):
        super().__init__()
        self._seconds, self._tag = seconds, 0

    def from_broker(self, link, frame):
        if frame.method != wire.ACK:
            return Verdict.PASS
        upto, multiple = link.answer(frame)
        for tag in range(self._tag + 1 if multiple else upto, upto + 1):
            self._tag += 1
            data = b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50" + tag.to_bytes(8) + b"\0\xce"
            link.later(self._seconds * self._tag, lambda data=data: link._send(link.down, data))
        return Verdict.DROP


@pytest.mark.smoke
def test_many_arrive_in_order_with_the_ids_returned(rmq, amqp):
    """publish_many(...) -> list[str]: one pipelined batch"""
    queue = amqp.declare_queue()
    ids = many([str(n) for n in range(500)], queue=queue)
    messages = taken(amqp, queue)
    assert [message.body for message in messages] == [b"%d" % n for n in range(500)]
    assert [message.properties.message_id for message in messages] == ids
    assert len(set(ids)) == 500


def test_they_leave_as_one_pipeline(rmq, amqp, proxy):
    """one pipelined batch: nothing waits for an answer while the window has room"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now(queue=queue)  # the first on a connection goes alone
    held = proxy._arm(HoldAnswers(64))
    many([str(n) for n in range(64)], queue=queue)
    assert held.hits == 1


def test_from_a_generator_and_of_nothing(rmq, amqp, proxy):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    assert many([], queue=queue) == []
    assert many(iter(()), queue=queue) == []
    assert connections["default"].status().state == "closed"
    assert proxy.connections_made == 0
    assert len(many((str(n) for n in range(3)), queue=queue)) == 3
    assert bodies(amqp, queue) == [b"0", b"1", b"2"]


def test_declared_once_for_all(rmq, amqp, proxy):
    rmq.RMQ_URL = proxy.url
    queue = QueueConfig(amqp.names.queue(), max_length=100)
    extra = QueueConfig(amqp.names.queue())
    many(["x"] * 50, queue=queue, declare=(one for one in [extra]))
    assert count(proxy, "client Queue.Declare") == 2
    assert len(taken(amqp, queue.name)) == 50


# -- outcomes ---------------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_outcomes_come_in_order_none_where_confirmed(rmq, amqp):
    """PublishManyError: of publish_many(delivery="now"): .outcomes, in order, None where confirmed"""
    queue = amqp.declare_queue()
    full = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    now(routing_key=full)
    messages = [
        Message("a", routing_key=queue),
        Message("b", routing_key=amqp.names.unique(), message_id="unroutable"),
        Message("c", routing_key=full, message_id="nacked"),
        Message("d", routing_key=queue, user_id="somebody", message_id="rejected"),
        Message("e", routing_key=queue),
    ]
    with pytest.raises(PublishManyError, match="3 of 5 messages were not confirmed") as caught:
        many(messages, exchange="")
    error = caught.value
    kinds = [type(outcome) for outcome in error.outcomes]
    assert kinds == [type(None), Unroutable, Nacked, Rejected, type(None)]
    assert [outcome.message_id for outcome in error.outcomes if outcome] == [
        "unroutable",
        "nacked",
        "rejected",
    ]
    assert error.message_id == "unroutable"
    assert not error.retryable  # a 406 is among them
    assert error.outcomes[3].reply_code == 406
    assert set(bodies(amqp, queue)) == {b"a", b"e"}


def test_a_missing_queue_rejects_all_and_they_are_retryable(rmq, amqp):
    queue = amqp.names.queue()
    with pytest.raises(PublishManyError) as caught:
        many(["a", "b"], queue=queue)
    assert [outcome.reply_code for outcome in caught.value.outcomes] == [404, 404]
    assert caught.value.retryable


def test_no_broker(rmq):
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    for outcome in outcomes(["a", "b"], queue="q"):
        assert isinstance(outcome, BrokerUnavailable)


def test_the_errors_show_no_content(rmq, amqp):
    key = amqp.names.unique()
    with pytest.raises(PublishManyError) as caught:
        many([Message(SECRET, headers={"h": SECRET})] * 3, routing_key=key)
    assert SECRET not in repr(caught.value) + repr(caught.value.outcomes)


# -- items with options of their own ----------------------------------------------------------


def test_an_items_own_options_win_over_those_of_the_call(rmq, amqp):
    """Message(body, *, what publish takes about the message itself)"""
    queue, exchange = amqp.declare_queue(), amqp.declare_exchange(kind="topic")
    amqp.bind(queue, exchange, "#")
    own = BasicProperties(type="own", headers={"a": 1})
    ids = many(
        [
            "plain",
            Message("left out", priority=None, headers=None, routing_key=None),
            Message("said", routing_key="b", priority=2, message_id="m", headers={"k": "item"},
                    expiration=timedelta(seconds=60), delivery_mode=1, correlation_id="c"),
            Message({"a": 1}, serializer="json", properties=own),
        ],
        exchange=exchange, routing_key="a", priority=1, headers={"k": "call"}, app_id="shop",
    )  # fmt: skip
    plain, left_out, said, last = taken(amqp, queue)
    for message in (plain, left_out):
        assert message.method.routing_key == "a"
        assert (message.properties.priority, message.properties.headers) == (1, {"k": "call"})
        assert (message.properties.delivery_mode, message.properties.expiration) == (2, None)
    assert said.method.routing_key == "b"
    assert (said.properties.priority, said.properties.headers) == (2, {"k": "item"})
    assert (said.properties.delivery_mode, said.properties.expiration) == (1, "60000")
    assert (said.properties.correlation_id, said.properties.app_id) == ("c", "shop")
    assert (ids[2], said.properties.message_id) == ("m", "m")
    assert (last.body, last.properties.type, last.method.routing_key) == (b'{"a":1}', "own", "a")
    assert vars(own) == vars(BasicProperties(type="own", headers={"a": 1}))


def test_a_message_is_used_again_with_another_id(rmq, amqp):
    queue = amqp.declare_queue()
    message = Message("x")
    ids = many([message, message], queue=queue)
    assert len(set(ids)) == 2
    assert len(taken(amqp, queue)) == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("delivery", ["now", "on_commit"])
@pytest.mark.parametrize(
    "bad",
    [
        Message("x", priority=300), Message({"a": 1}), Message("x", routing_key="k" * 256),
        Message("x", headers={"k": object()}), Message("x", expiration=-1), {"a": 1}, None, "\ud800",
        Message("x", ordering_key="k"), Message("x", routing_key=b"k"), Message("x", serializer="no"),
    ],
    ids=repr,
)  # fmt: skip
def test_one_bad_item_refuses_all_and_nothing_is_sent(rmq, proxy, delivery, bad):
    """Bad arguments raise at the call"""
    rmq.RMQ_URL = proxy.url
    with transaction.atomic(), pytest.raises((InvalidMessage, TypeError)):
        publish_many(["good", bad, "good"], queue="q", delivery=delivery)
    assert proxy.connections_made == 0


@pytest.mark.parametrize("bodies", ["text", b"bytes", bytearray(b"x"), {"a": 1}])
def test_one_body_in_the_place_of_many_is_a_type_error(rmq, bodies):
    """Else each letter of it would be a message."""
    rmq.RMQ_SERIALIZER = "json"
    with pytest.raises(TypeError, match="bodies must be an iterable of bodies"):
        many(bodies, queue="q")


@pytest.mark.parametrize("bodies", [None, 5, Message("x")])
def test_what_is_no_iterable_is_a_type_error(rmq, bodies):
    with pytest.raises(TypeError, match="bodies must be an iterable of bodies"):
        many(bodies, queue="q")


def test_one_id_for_all_is_refused(rmq):
    """publish_many(bodies, **as publish without message_id)"""
    own = BasicProperties(message_id="m")
    with pytest.raises(InvalidMessage, match="give each Message its own"):
        many(["a", "b"], queue="q", properties=own)
    with pytest.raises(TypeError, match="message_id"):
        many(["a", "b"], queue="q", message_id="m")


@pytest.mark.parametrize("of_item", [False, True])
def test_an_ordering_key_without_the_outbox_is_refused(rmq, of_item):
    """``ordering_key`` without ``"outbox"`` is refused."""
    messages = ["a", Message("b", ordering_key="k") if of_item else "b"]
    with pytest.raises(InvalidMessage, match='ordering_key needs delivery="outbox"'):
        publish_many(messages, queue="q", ordering_key=None if of_item else "k")


# -- the timeout ------------------------------------------------------------------------------


def test_the_timeout_bounds_the_time_without_progress(rmq, amqp, proxy):
    """for ``publish_many`` it bounds the time without progress"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now(queue=queue)
    proxy._arm(TrickleAcks(0.3))
    started = time.monotonic()
    ids = many([str(n) for n in range(6)], queue=queue, timeout=0.9)
    assert time.monotonic() - started > 0.9, "the answers came too fast to show anything"
    assert len(ids) == 6


def test_without_progress_it_ends_and_the_rest_is_not_sent(rmq, amqp, proxy):
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT, rmq.RMQ_MAX_IN_FLIGHT = proxy.url, LONG, 10
    queue = amqp.declare_queue()
    now(queue=queue)
    proxy.swallow_acks(None)
    started = time.monotonic()
    kinds = [type(one) for one in outcomes([str(n) for n in range(25)], queue=queue, timeout=1)]
    assert time.monotonic() - started < LONG / 2
    # What was in the window has an unknown outcome; what was behind it never left.
    assert kinds == [ConfirmTimeout] * 10 + [BrokerUnavailable] * 15
    connections["default"].close(0)
    assert bodies(amqp, queue) == [b"x", *(b"%d" % n for n in range(10))]


def test_a_silent_port_ends_at_the_timeout(rmq):
    started = time.monotonic()
    with SilentPort() as silent:
        rmq.RMQ_URL, rmq.RMQ_CONNECT_TIMEOUT = silent.url, LONG
        for outcome in outcomes(["x"] * 100, queue="q", timeout=0.3):
            assert isinstance(outcome, BrokerUnavailable)
        connections["default"].close(0)
    assert time.monotonic() - started < LONG / 2


# -- whatever comes ---------------------------------------------------------------------------


def test_any_mixture_has_each_its_own_outcome(rmq, amqp):
    good = amqp.declare_queue()
    full = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    now(routing_key=full)
    kinds = {
        "good": ({"routing_key": good}, type(None)),
        "returned": ({"routing_key": amqp.names.unique()}, Unroutable),
        "refused": ({"routing_key": full}, Nacked),
        "rejected": ({"routing_key": good, "user_id": "somebody"}, Rejected),
    }

    @hypothesis_settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from(list(kinds)), max_size=90))
    def check(wanted):
        messages = [Message(str(n), **kinds[kind][0]) for n, kind in enumerate(wanted)]
        expected = [kinds[kind][1] for kind in wanted]
        try:
            many(messages)
            came = [type(None)] * len(wanted)
        except PublishManyError as error:
            came = [type(outcome) for outcome in error.outcomes]
        assert came == expected
        arrived = bodies(amqp, good)
        once = list(dict.fromkeys(arrived))
        assert once == [str(n).encode() for n, kind in enumerate(wanted) if kind == "good"]
        if Rejected not in expected:
            assert arrived == once  # only a closed channel sends again what was on it

    check()


def test_batches_of_several_threads_do_not_mix_their_outcomes(rmq, amqp):
    queue = amqp.declare_queue()
    lost = amqp.names.unique()
    results = {}

    def run(name):
        messages = [
            Message(f"{name}-{n}", routing_key=queue if n % 3 else lost) for n in range(60)
        ]
        results[name] = outcomes(messages)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(results) == 8
    for name, came in results.items():
        assert [outcome is None for outcome in came] == [bool(n % 3) for n in range(60)], name
    arrived = bodies(amqp, queue)
    for name in range(8):
        own = [body for body in arrived if body.startswith(b"%d-" % name)]
        assert own == [b"%d-%d" % (name, n) for n in range(60) if n % 3]
