"""What others may listen to: which signal, with which arguments, and that a receiver changes nothing."""

import asyncio
import logging
import threading
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.db import connections as databases
from django.db import transaction

from rmq_publisher import (
    BrokerUnavailable,
    ConfirmTimeout,
    InvalidMessage,
    Message,
    Nacked,
    Producer,
    PublishManyError,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.signals import message_published, publish_failed
from tests.support.publishing import bodies, now
from tests.support.rig.proxy import closed_port

SECRET = "s3cr3t-value"
SENT = {"message_id", "exchange", "routing_key", "using"}
FAILED = SENT | {"error", "will_retry"}

one = pytest.mark.django_db(transaction=True)


@contextmanager
def listening(signal, receiver):
    signal.connect(receiver)
    try:
        yield
    finally:
        assert signal.disconnect(receiver)


class Heard:
    """What was said, as (kind, arguments), and by which thread."""

    def __init__(self):
        self.said = []
        self.threads = set()

    def published(self, signal, sender, **arguments):
        self.said.append(("published", arguments))
        self.threads.add(threading.current_thread())

    def failed(self, signal, sender, **arguments):
        self.said.append(("failed", arguments))
        self.threads.add(threading.current_thread())

    @property
    def ids(self):
        return [(kind, arguments["message_id"]) for kind, arguments in self.said]


@pytest.fixture
def heard():
    heard = Heard()
    with listening(message_published, heard.published), listening(publish_failed, heard.failed):
        yield heard


WAYS = {
    "publish now": lambda body, **options: publish(body, delivery="now", **options),
    "publish on commit": lambda body, **options: publish(body, **options),
    "apublish": lambda body, **options: asyncio.run(apublish(body, **options)),
    "Producer": lambda body, **options: Producer(queue="").publish(body, **options),
    "many now": lambda body, **options: publish_many(
        [Message(body, message_id=options.pop("message_id", None))], delivery="now", **options
    ),
    "many on commit": lambda body, **options: publish_many(
        [Message(body, message_id=options.pop("message_id", None))], **options
    ),
}
every_way = pytest.mark.parametrize("way", WAYS)


# -- which, and with what ---------------------------------------------------------------------


@one
@every_way
def test_a_confirm_is_told_with_the_messages_names(rmq, amqp, heard, way):
    """Signals: ``message_published``"""
    queue = amqp.declare_queue()
    WAYS[way]("x", queue=queue, message_id="m", headers={"h": SECRET})
    [(kind, arguments)] = heard.said
    assert kind == "published"
    assert arguments == {
        "message_id": "m",
        "exchange": "",
        "routing_key": queue,
        "using": "default",
    }


@one
@every_way
def test_a_failure_is_told_with_its_error(rmq, amqp, heard, way):
    """``publish_failed`` (arguments ``error``, ``message_id``, ``exchange``, ``routing_key``,
    ``will_retry``)"""
    exchange = amqp.declare_exchange()
    try:
        WAYS[way](SECRET, exchange=exchange, routing_key="k", message_id="m")
        raised = None
    except (Unroutable, PublishManyError) as error:
        raised = error
    assert (raised is None) is ("commit" in way)
    [(kind, arguments)] = heard.said
    error = arguments.pop("error")
    assert isinstance(error, Unroutable)
    assert kind == "failed"
    assert arguments == {
        "message_id": "m", "exchange": exchange, "routing_key": "k", "using": "default",
        "will_retry": raised is None,
    }  # fmt: skip
    if raised is not None:
        assert error in (raised, *getattr(raised, "outcomes", ()))


def test_every_kind_of_failure_is_told(rmq, amqp, proxy, heard):
    rmq.RMQ_URL = proxy.url
    full = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    now(queue=full)
    queue = amqp.declare_queue()
    now(queue=queue)
    cases = [(Nacked, {"queue": full}), (Rejected, {"queue": amqp.names.unique()}),
             (ConfirmTimeout, {"queue": queue, "timeout": 1})]  # fmt: skip
    for kind, options in cases:
        if kind is ConfirmTimeout:
            proxy.swallow_acks(None)
        with pytest.raises(kind) as caught:
            now(**options)
        assert heard.said[-1][1]["error"] is caught.value
    connections["default"].close(0)
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    with pytest.raises(BrokerUnavailable) as caught:
        now(queue=queue)
    assert heard.said[-1][1]["error"] is caught.value


@one
@every_way
def test_what_is_refused_at_the_call_is_no_failed_publish(rmq, heard, way):
    with pytest.raises(InvalidMessage):
        WAYS[way]("x", queue="q", priority=300)
    with pytest.raises(TypeError):
        WAYS[way]({"a": 1}, queue="q")
    assert heard.said == []


@one
def test_nothing_is_told_before_the_commit_or_of_what_was_rolled_back(rmq, amqp, heard):
    queue = amqp.declare_queue()
    with transaction.atomic():
        publish("x", queue=queue, message_id="1")
        with transaction.atomic():
            publish("x", queue=queue, message_id="ghost")
            transaction.set_rollback(True)
        publish("x", queue=queue, message_id="2")
        publish("x", routing_key="nowhere", message_id="3")
        assert heard.said == []
    assert heard.ids == [("published", "1"), ("published", "2"), ("failed", "3")]


@pytest.mark.parametrize("delivery", ["now", "on_commit"])
@one
def test_each_of_many_is_told_in_order(rmq, amqp, heard, delivery):
    queue = amqp.declare_queue()
    messages = [Message("x", message_id=str(n), routing_key=queue if n % 2 else "nowhere")
                for n in range(6)]  # fmt: skip
    if delivery == "now":
        with pytest.raises(PublishManyError) as caught:
            publish_many(messages, delivery=delivery)
        assert [outcome is None for outcome in caught.value.outcomes] == [
            bool(n % 2) for n in range(6)
        ]
    else:
        publish_many(messages, delivery=delivery)
    assert heard.ids == [("published" if n % 2 else "failed", str(n)) for n in range(6)]


@one
def test_using_is_that_of_the_message(rmq, amqp, heard, broker):
    rmq.RMQ_CONNECTIONS = {"events": {"URL": broker.url}}
    queue = amqp.declare_queue()
    with transaction.atomic():
        publish("x", queue=queue, using="events")
        publish("x", queue=queue, using="default")
    assert [arguments["using"] for _, arguments in heard.said] == ["events", "default"]


@one
@pytest.mark.parametrize("way", [way for way in WAYS if way != "apublish"])
def test_receivers_run_in_the_publishing_thread(rmq, amqp, heard, way):
    WAYS[way]("x", queue=amqp.declare_queue())
    assert heard.threads == {threading.current_thread()}


# -- receivers that raise ---------------------------------------------------------------------


@one
@every_way
@pytest.mark.parametrize("confirmed", [True, False])
def test_a_receiver_that_raises_is_logged_and_changes_nothing(
    rmq, amqp, heard, caplog, way, confirmed
):
    """a receiver that raises is logged and changes nothing"""
    queue = amqp.declare_queue()

    def bad(**_):
        raise RuntimeError("the receiver's own")

    where = {"queue": queue} if confirmed else {"routing_key": amqp.names.unique()}
    with listening(message_published, bad), listening(publish_failed, bad):
        if confirmed or "commit" in way:
            WAYS[way]("x", **where)
        else:
            with pytest.raises((Unroutable, PublishManyError)):
                WAYS[way]("x", **where)
    assert [kind for kind, _ in heard.said] == ["published" if confirmed else "failed"]
    assert bodies(amqp, queue) == [b"x"] * confirmed
    logged = [record for record in caplog.records if "the receiver's own" in record.getMessage()]
    assert [record.levelno for record in logged] == [logging.ERROR]


@one
@every_way
@pytest.mark.parametrize("confirmed", [True, False])
def test_a_coroutine_receiver_is_awaited_wherever_it_is_told(rmq, amqp, caplog, way, confirmed):
    """Else `apublish` would fail of it after the confirm."""
    queue = amqp.declare_queue()
    heard = []

    async def receive(**arguments):
        await asyncio.sleep(0)
        heard.append(set(arguments) - {"signal", "sender"})

    async def bad(**_):
        raise RuntimeError("the receiver's own")

    where = {"queue": queue} if confirmed else {"routing_key": amqp.names.unique()}
    signal = message_published if confirmed else publish_failed
    with listening(signal, receive), listening(signal, bad):
        if confirmed or "commit" in way:
            WAYS[way]("x", **where)
        else:
            with pytest.raises((Unroutable, PublishManyError)):
                WAYS[way]("x", **where)
    assert heard == [SENT if confirmed else FAILED]
    assert "the receiver's own" in caplog.text


@one
def test_a_receiver_may_ask_the_database_also_in_an_event_loop(rmq, amqp, caplog):
    """Most receivers do: a row is marked as sent."""
    queue = amqp.declare_queue()
    counted = []

    def receive(**_):
        counted.append(User.objects.count())
        databases.close_all()  # that of a thread which ends now

    async def main():
        await apublish("x", queue=queue)

    with listening(message_published, receive):
        asyncio.run(main())
        publish("x", queue=queue)
    assert counted == [0, 0]


@one
def test_a_receiver_may_publish_itself(rmq, amqp):
    """The failures of one queue told to another."""
    alarms = amqp.declare_queue()

    def receive(message_id, **_):
        publish(message_id, queue=alarms)

    with listening(publish_failed, receive), transaction.atomic():
        publish("x", routing_key=amqp.names.unique(), message_id="lost")
    assert bodies(amqp, alarms) == [b"lost"]
