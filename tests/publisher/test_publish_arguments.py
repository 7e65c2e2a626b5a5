"""What `publish()` refuses, and which connection and database a call means."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.db.transaction import TransactionManagementError
from pika import BasicProperties

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    InvalidMessage,
    Producer,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
)
from tests.support.publishing import LONG, HoldAnswers, bodies, now, taken

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
    if entrance == "Producer":
        cases.remove(("x", {"queue": "q", "declare": None}))  # left out, as with kombu
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
        InvalidMessage, match=r"is not a RabbitMQ connection\. There are: 'default'"
    ):
        now(queue="q", using="nope")


def test_a_databases_name_as_using_says_database(rmq):
    """An unknown name that is a database's says to use ``database=``."""
    with pytest.raises(InvalidMessage, match=r"It is a database: .*write database='other'"):
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
