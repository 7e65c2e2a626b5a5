"""The helpers for users' tests, as users use them: in every kind of test, and in parallel runs."""

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import IsolatedAsyncioTestCase

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.dispatch import Signal
from django.test import TestCase, TransactionTestCase

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ExchangeConfig,
    InvalidMessage,
    Message,
    Producer,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
    signals,
)
from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.conf import loader
from rmq_publisher.testing import (
    Published,
    PublishedMessage,
    assert_not_published,
    assert_published,
    capture,
    memory_broker,
)
from tests.support.configured import configurer
from tests.support.rig.amqp import Amqp
from tests.support.rig.ladder import Broker

ROOT = Path(__file__).resolve().parents[2]


def bodies(published: Any) -> list[bytes]:
    return [message.body for message in published]


@pytest.fixture
def configure(settings: Any) -> Any:
    return configurer(settings)


# -- what is captured -----------------------------------------------------------------------------


def test_everything_that_is_published(db: None) -> None:
    producer = Producer(queue="producer")

    @producer
    def decorated() -> str:
        return "decorated"

    with capture() as published:
        publish("publish", queue="q")
        publish("now", queue="q", delivery="now")
        publish_many(["many", Message("own", routing_key="other")], queue="q")
        producer.publish("producer")
        decorated()
        asyncio.run(apublish("awaited", queue="q"))
    sent = {b"publish", b"now", b"many", b"own", b"producer", b"decorated", b"awaited"}
    assert set(bodies(published)) == sent
    assert len(published) == len(sent)


def test_it_is_a_sequence_that_grows(configure: Any) -> None:
    configure(URL="memory://")
    with capture() as published:
        assert not published
        first = publish("1", queue="q", delivery="now")
        second = publish("2", queue="q", delivery="now")
        assert [message.message_id for message in published] == [first, second]
        assert published[0].message_id == first
        assert bodies(published[1:]) == [b"2"]
        assert published[-1].body == b"2"
        published.clear()
        assert len(published) == 0
    publish("3", queue=QueueConfig("q"), delivery="now")
    assert len(published) == 0


def test_a_message() -> None:
    with capture() as published:
        message_id = publish(
            {"total": Decimal("1.50")}, serializer="json+gzip", exchange="x", routing_key="k",
            headers={"rate": 0.5}, priority=3, delivery="now",
        )  # fmt: skip
    [message] = published
    assert (message.exchange, message.routing_key, message.queue) == ("x", "k", "")
    assert (message.using, message.message_id, message.error) == ("default", message_id, None)
    assert message.queues == ()
    assert message.json() == {"total": "1.50"}
    assert message.headers == {"rate": 0.5}
    assert message.properties.priority == 3


@pytest.mark.parametrize(
    ("options", "queue"),
    [
        ({"queue": "q"}, "q"),
        ({"queue": QueueConfig("q")}, "q"),
        ({"queue": "q", "exchange": "x"}, "q"),
        ({"queue": QueueConfig("q"), "exchange": ExchangeConfig("x"), "routing_key": "k"}, "q"),
        ({"routing_key": "q"}, "q"),
        ({"exchange": "x", "routing_key": "k"}, ""),
        ({"exchange": "x", "declare": [QueueConfig("other")]}, ""),
    ],
)
def test_the_queue_of_a_message(options: dict[str, Any], queue: str) -> None:
    with capture() as published:
        publish("b", delivery="now", **options)
    assert published[0].queue == queue


def test_messages_of_other_threads() -> None:
    with capture() as published:
        threads = [
            threading.Thread(target=publish, args=("b",), kwargs={"queue": "q", "delivery": "now"})
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert_published(published, queue="q", count=8)


def test_bad_arguments_are_still_refused() -> None:
    with capture() as published, pytest.raises(TypeError):
        publish({"no": "serializer"}, queue="q")
    assert_not_published(published)


def test_declaring_finds_everything_there() -> None:
    with capture():
        declared = connections["default"].declare((QueueName("q"), ExchangeConfig("x")), 1)
    assert [(item.entity, item.messages) for item in declared] == [
        ("queue 'q'", 0),
        ("exchange 'x'", None),
    ]


def test_the_signals_are_sent() -> None:
    told: list[str] = []

    def receiver(message_id: str, **_: Any) -> None:
        told.append(message_id)

    signals.message_published.connect(receiver)
    try:
        with capture() as published:
            publish("b", queue="q", delivery="now")
    finally:
        signals.message_published.disconnect(receiver)
    assert told == [published[0].message_id]


# -- whatever the settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", [None, "", "memory://", "amqp://127.0.0.1:1", "amqps://127.0.0.1:1"]
)
def test_any_url(configure: Any, url: str | None) -> None:
    configure(URL=url)
    known = loader.aliases()
    with capture() as published:
        publish("b", queue="q", delivery="now", timeout=0.5)
    assert_published(published, queue="q")
    assert loader.aliases() == known


def test_several_aliases(configure: Any) -> None:
    configure(CONNECTIONS={"a": {"URL": "amqp://127.0.0.1:1"}, "b": {"URL": "memory://"}})
    with capture() as published:
        publish("1", queue="q", using="a", delivery="now")
        publish("2", queue="q", using="b", delivery="now")
    assert assert_published(published, using="a").body == b"1"
    assert assert_published(published, using="b").body == b"2"


def test_aliases_without_a_url(configure: Any) -> None:
    configure(CONNECTIONS={"a": {"URL": "", "APP_ID": "mine"}})
    with capture() as published:
        publish("1", queue="q", delivery="now")
    [message] = published
    assert (message.using, message.properties.app_id) == ("a", "mine")
    configure(CONNECTIONS={"a": {"URL": "amqp://127.0.0.1:1"}, "b": {}})
    with capture(route=True) as published:
        for using in ("a", "b"):
            publish("1", queue=QueueConfig("q"), using=using, delivery="now")
    assert [message.using for message in published] == ["a", "b"]


def test_wrong_settings_stay_wrong(configure: Any) -> None:
    configure(URL="amqp://localhost", HEARTBEAT="ten")
    with capture(), pytest.raises(ImproperlyConfigured, match="RMQ_HEARTBEAT"):
        publish("1", queue="q")
    configure(CONNECTIONS={"a": "amqp://localhost", "b": {}})
    with capture() as published, pytest.raises(InvalidMessage, match="using='a'"):
        publish("1", queue="q", using="a")
    assert_not_published(published)


def test_nothing_reaches_a_real_broker(configure: Any, amqp: Amqp) -> None:
    configure(URL=amqp.url)
    queue = amqp.declare_queue()
    publish("before", queue=queue, delivery="now")
    connection = connections["default"]
    with capture() as published:
        publish("captured", queue=queue, delivery="now")
        assert connections["default"] is not connection
        connections["default"].close()
    assert connections["default"] is connection
    assert connection.status().state == "open"
    publish("after", queue=queue, delivery="now")
    assert [message.body for message in amqp.drain(queue, 2)] == [b"before", b"after"]
    assert bodies(published) == [b"captured"]


def test_settings_may_change_inside(configure: Any) -> None:
    configure(URL="memory://")
    with capture() as published:
        publish("1", queue="q", delivery="now")
        configure(URL="memory://", APP_ID="shop")
        publish("2", queue="q", delivery="now")
    assert [message.properties.app_id for message in published] == [None, "shop"]


def test_an_exception_passes_and_all_is_as_before() -> None:
    before = connections["default"]
    with pytest.raises(ValueError, match="invalid literal"), capture() as published:
        int(publish("b", queue="q", delivery="now"))
    assert connections["default"] is before
    assert len(published) == 1
    with pytest.raises(RuntimeError, match="no capture is open"):
        assert_published(queue="q")


def test_nested() -> None:
    with capture() as outer:
        publish("1", queue="q", delivery="now")
        with capture() as inner:
            publish("2", queue="q", delivery="now")
            assert assert_published().body == b"2"
        publish("3", queue="q", delivery="now")
        assert_published(count=2)
    assert bodies(outer) == [b"1", b"3"]
    assert bodies(inner) == [b"2"]


def test_as_a_decorator() -> None:
    @capture()
    def function() -> PublishedMessage:
        publish("b", queue="q", delivery="now")
        return assert_published(queue="q")

    assert function().body == b"b"
    assert function().body == b"b"


def test_awaits_what_it_decorates() -> None:
    @capture()
    async def function() -> PublishedMessage:
        await apublish("b", queue="nowhere")
        return assert_published(queue="nowhere")

    assert inspect.iscoroutinefunction(function)  # else frameworks of tests do not await it
    assert asyncio.run(function()).body == b"b"
    assert asyncio.run(function()).body == b"b"
    with pytest.raises(RuntimeError, match="no capture is open"):
        assert_published()


def test_what_it_cannot_decorate() -> None:
    def generator() -> Iterator[None]:
        yield

    async def asynchronous() -> AsyncIterator[None]:
        yield

    for function in (generator, asynchronous):
        with pytest.raises(
            TypeError, match=r"write `with capture\(\):` in .*" + function.__name__
        ):
            capture()(function)
    with pytest.raises(TypeError, match="enterContext"):
        capture()(TestCase)


def test_unknown_ways_of_committing() -> None:
    with pytest.raises(ValueError, match="on_commit"), capture(on_commit="never"):  # type: ignore[arg-type]
        pass


# -- transactions: TestCase -----------------------------------------------------------------------


@contextmanager
def signal_connected(signal: Signal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def roll_back(body: str) -> None:
    """Publish inside a transaction that does not commit."""
    with transaction.atomic():
        publish(body, queue="q")
        transaction.set_rollback(True)


class TestUnderTestCase(TestCase):
    databases = frozenset({"default", "other"})

    @classmethod
    def setUpTestData(cls) -> None:
        publish("class", queue="q")

    def setUp(self) -> None:
        publish("set up", queue="q")

    def test_outside_of_atomic(self) -> None:
        with capture() as published:
            publish("b", queue="q")
            assert bodies(published) == [b"b"]
            assert published.pending == []
        assert bodies(published) == [b"b"]

    def test_at_the_end_of_the_block(self) -> None:
        with capture() as published:
            publish("b", queue="q")
        assert bodies(published) == [b"b"]

    def test_inside_of_atomic(self) -> None:
        with capture() as published:
            with transaction.atomic():
                publish("outer", queue="q")
                with transaction.atomic():
                    publish("inner", queue="q")
                assert bodies(published) == []
                assert bodies(published.pending) == [b"outer", b"inner"]
            assert bodies(published) == [b"outer", b"inner"]
            assert published.pending == []

    def test_what_was_published_before_an_atomic_block(self) -> None:
        with capture() as published:
            publish("before", queue="q")
            with transaction.atomic():
                publish("inside", queue="q")
                assert bodies(published) == [b"before"]
                assert bodies(published.pending) == [b"inside"]
        assert bodies(published) == [b"before", b"inside"]

    def test_rolled_back(self) -> None:
        with capture() as published:
            roll_back("gone")
            with transaction.atomic():
                publish("1", queue="q")
                roll_back("gone too")
                publish("2", queue="q")
        assert bodies(published) == [b"1", b"2"]

    def test_atomic_without_a_savepoint(self) -> None:
        with capture() as published:
            with transaction.atomic(savepoint=False):
                publish("b", queue="q")
                assert bodies(published) == []
            assert bodies(published) == [b"b"]

    def test_durable(self) -> None:
        with capture() as published:
            with transaction.atomic(durable=True):
                publish("b", queue="q")
            assert bodies(published) == [b"b"]

    def test_two_databases(self) -> None:
        with capture() as published:
            with transaction.atomic(using="other"):
                publish("other", queue="q")
                publish("default", queue="q", database="default")
                assert bodies(published) == [b"default"]
            assert bodies(published) == [b"default", b"other"]

    def test_pending(self) -> None:
        with capture(on_commit="pending") as published:
            publish("1", queue="q")
            publish("now", queue="q", delivery="now")
            with transaction.atomic():
                publish("2", queue="q")
            assert bodies(published) == [b"now"]
            assert bodies(published.pending) == [b"1", b"2"]
        assert bodies(published) == [b"now"]
        assert bodies(published.pending) == [b"1", b"2"]
        assert assert_published(published.pending, body="2").queue == "q"

    def test_with_djangos_own_callbacks(self) -> None:
        with (
            capture(on_commit="pending") as published,
            self.captureOnCommitCallbacks(execute=True) as callbacks,
        ):
            publish("b", queue="q")
            assert bodies(published) == []
        assert len(callbacks) == 1
        assert bodies(published) == [b"b"]
        assert published.pending == []

    def test_nothing_is_sent_twice(self) -> None:
        with capture() as published:
            with self.captureOnCommitCallbacks(execute=True):
                publish("1", queue="q")
                assert bodies(published) == [b"1"]
                publish("2", queue="q")
            assert bodies(published) == [b"1", b"2"]
        assert bodies(published) == [b"1", b"2"]

    def test_nothing_leaves_after_the_end(self) -> None:
        callbacks = self.captureOnCommitCallbacks(execute=True)
        with capture() as outer:
            with callbacks, transaction.atomic(), capture() as inner:
                publish("inside", queue="q")
                publish("now", queue="q", delivery="now")
            assert bodies(inner) == [b"now"]
            assert bodies(inner.pending) == [b"inside"]
            assert bodies(outer) == []
        assert bodies(outer) == []

    def test_what_waited_before_a_nested_capture(self) -> None:
        with capture() as outer:
            publish("outer", queue="q")
            with capture() as inner:
                publish("inner", queue="q")
            assert bodies(outer) == [b"outer"]
        assert bodies(inner) == [b"inner"]

    def test_in_order(self) -> None:
        with capture() as published:
            publish("1", queue="q")
            with transaction.atomic():
                publish("3", queue="q")
                publish("2", queue="q", delivery="now")
            publish("4", queue="q", delivery="outbox")
            publish_many(["5", "6"], queue="q", delivery="now")
            publish("7", queue="q")
        assert bodies(published) == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]

    def test_in_the_order_of_djangos_own_callbacks(self) -> None:
        with capture() as published, self.captureOnCommitCallbacks(execute=True):
            publish("1", queue="q", delivery="outbox")
            publish("2", queue="q")
            publish_many(["3", "4"], queue="q", delivery="outbox")
            publish("5", queue="q")
        assert bodies(published) == [b"1", b"2", b"3", b"4", b"5"]

    def test_what_is_published_while_others_are_sent(self) -> None:
        def answer(message_id: str, **_: Any) -> None:
            if message_id != "answer":
                publish("answer", queue="q", message_id="answer", delivery="now")

        with capture() as published:
            publish("1", queue="q")
            publish("2", queue="q")
            with signal_connected(signals.message_published, answer):
                assert len(published) == 4
        assert bodies(published) == [b"1", b"answer", b"2", b"answer"]

    def test_another_thread_leaves_the_commits_of_this_one(self) -> None:
        with capture() as published:
            publish("2", queue="q")
            thread = threading.Thread(
                target=publish, args=("1",), kwargs={"queue": "q", "delivery": "now"}
            )
            thread.start()
            thread.join()
        assert bodies(published) == [b"1", b"2"]

    def test_an_error_after_the_commit(self) -> None:
        with capture(error=BrokerUnavailable("down")) as published:
            publish("b", queue="q")
            with self.assertLogs("rmq_publisher", "ERROR") as logged:
                assert_not_published(published)
            [message] = published.refused
            assert message.body == b"b"
        assert message.message_id in logged.output[0]

    def test_a_whole_test(self) -> None:
        published = self.enterContext(capture())
        publish("b", queue="q")
        assert_published(queue="q")
        assert bodies(published) == [b"b"]

    async def test_asynchronous(self) -> None:
        await sync_to_async(publish)("waits", queue="q")
        await apublish("now", queue="q")
        assert {message.body for message in self.published} == {b"set up", b"waits", b"now"}

    def run(self, result: Any = None) -> Any:
        with capture() as self.published:
            return super().run(result)


class TestUnderTransactionTestCase(TransactionTestCase):
    databases = frozenset({"default", "other"})

    def test_commits_are_real(self) -> None:
        with capture() as published:
            publish("at once", queue="q")
            with transaction.atomic():
                publish("later", queue="q")
                assert bodies(published) == [b"at once"]
                assert bodies(published.pending) == [b"later"]
            roll_back("gone")
        assert bodies(published) == [b"at once", b"later"]

    def test_pending_is_no_different(self) -> None:
        with capture(on_commit="pending") as published, transaction.atomic():
            publish("b", queue="q")
            assert bodies(published.pending) == [b"b"]
        assert bodies(published) == [b"b"]
        assert published.pending == []

    def test_nothing_leaves_after_the_end(self) -> None:
        with capture() as outer:
            with transaction.atomic(), capture() as inner:
                publish("b", queue="q")
            assert bodies(outer) == []
        assert bodies(inner) == []
        assert bodies(inner.pending) == [b"b"]


class TestAsync(IsolatedAsyncioTestCase):
    async def test_awaited(self) -> None:
        with capture() as published:
            await asyncio.gather(*(apublish(f"{n}", queue="q") for n in range(5)))
        assert_published(published, count=5)


def test_what_waited_before_it_began(configure: Any, db: None) -> None:
    configure(URL="memory://")
    broker = memory_broker()
    broker.reset()
    with TestCase.captureOnCommitCallbacks(execute=True):
        publish("before", queue=QueueConfig("q"))
        with capture() as published:
            publish("inside", queue="q")
            assert bodies(published) == [b"inside"]
            assert published.pending == []
        assert broker.depths() == {}
    assert [message.body for message in broker.drain("q")] == [b"before"]


@pytest.mark.django_db
def test_the_mark_of_pytest_django() -> None:
    with capture() as published:
        with transaction.atomic():
            publish("b", queue="q")
        assert_published(queue="q")
    assert_published(published, queue="q")


@pytest.mark.django_db(transaction=True)
def test_the_mark_of_pytest_django_with_commits() -> None:
    with capture() as published:
        with transaction.atomic():
            publish("b", queue="q")
            assert_not_published()
        assert_published(queue="q")
    assert_published(published, queue="q")


# -- errors ---------------------------------------------------------------------------------------


def test_an_error_of_ones_own() -> None:
    with capture(error=Unroutable(312, "NO_ROUTE")) as published:
        with pytest.raises(Unroutable) as caught:
            publish("b", queue="q", message_id="m", delivery="now")
        with pytest.raises(PublishManyError) as many:
            publish_many(["1", "2"], queue="q", delivery="now")
        with pytest.raises(Unroutable):
            asyncio.run(apublish("c", queue="q"))
    error = caught.value
    assert (error.message_id, error.routing_key, error.reply_code) == ("m", "q", 312)
    ids = [message.message_id for message in published.refused]
    assert [outcome.message_id for outcome in many.value.outcomes if outcome] == ids[1:3]
    assert bodies(published.refused) == [b"b", b"1", b"2", b"c"]
    assert published.refused[0].error is error
    assert len(published) == 0
    assert repr(published) == "<Published: 0 messages, 4 refused, 0 pending>"


# -- routing --------------------------------------------------------------------------------------

EVENTS = ExchangeConfig("events", "topic")
ORDERS = QueueConfig("orders", bindings=[Binding(EVENTS, "orders.#")])
AUDIT = QueueConfig("audit", bindings=[Binding(EVENTS, "#")])


def test_routed_by_what_the_project_declares(configure: Any) -> None:
    configure(URL="amqp://127.0.0.1:1", QUEUES=[ORDERS, AUDIT], EXCHANGES=[EVENTS])
    with capture(route=True) as published:
        publish("1", exchange="events", routing_key="orders.new", delivery="now")
        publish("2", exchange="events", routing_key="users.new", delivery="now")
        with pytest.raises(Rejected, match="404"):
            publish("3", queue="unknown", delivery="now")
        assert published.broker().depths()["audit"] == 2
    assert published[0].queues == ("orders", "audit")
    assert assert_published(published, queue="audit", count=2).body == b"1"
    assert assert_published(published, queue="orders").body == b"1"
    [refused] = published.refused
    assert (refused.body, refused.queue, type(refused.error)) == (b"3", "unknown", Rejected)
    assert [message.body for message in published.broker("default").drain("orders")] == [b"1"]


def test_exchanges_that_nothing_is_bound_to_are_declared(configure: Any) -> None:
    configure(URL="memory://", EXCHANGES=[EVENTS])
    with capture(route=True), pytest.raises(Unroutable):
        publish("1", exchange="events", routing_key="orders.new", delivery="now")


def test_looking_into_a_queue_counts_testcases_transaction_as_none(
    configure: Any, db: None
) -> None:
    configure(URL="memory://", QUEUES=[ORDERS], EXCHANGES=[EVENTS])
    with capture(route=True) as published:
        broker = published.broker()
        publish("b", queue="orders")
        assert broker.depth("orders") == 1
        with transaction.atomic():
            publish("c", queue="orders")
            assert broker.depths()["orders"] == 1
        assert [message.body for message in broker.drain("orders")] == [b"b", b"c"]


def test_each_capture_has_a_fresh_broker(configure: Any) -> None:
    configure(URL="memory://", QUEUES=[ORDERS], EXCHANGES=[EVENTS])
    memory_broker().reset()
    for _ in range(2):
        with capture(route=True) as published:
            publish("b", queue="orders", delivery="now")
            assert published.broker().depth("orders") == 1
    assert memory_broker().depths() == {}


def test_the_broker_of_each_alias(configure: Any) -> None:
    configure(
        CONNECTIONS={"a": {"URL": "memory://"}, "b": {"URL": "memory://"}},
        QUEUES=[QueueConfig("q", using="a")],
    )
    with capture(route=True) as published:
        publish("1", queue="q", using="a", delivery="now")
        with pytest.raises(Rejected):
            publish("2", queue="q", using="b", delivery="now")
        assert published.broker("a").depths()["q"] == 1
        assert "q" not in published.broker("b").depths()
        with pytest.raises(ValueError, match="using="):
            published.broker()


def test_settings_may_change_while_routing(configure: Any) -> None:
    configure(URL="memory://", QUEUES=[ORDERS], EXCHANGES=[EVENTS])
    with capture(route=True) as published:
        publish("1", queue="orders", delivery="now")
        configure(URL="memory://", QUEUES=[ORDERS], EXCHANGES=[EVENTS], APP_ID="shop")
        publish("2", queue="orders", delivery="now")
        assert published.broker().depth("orders") == 2


def test_what_no_broker_takes_is_told_at_once(configure: Any) -> None:
    configure(URL="memory://", QUEUES=[QueueConfig("bad", arguments={"x-message-ttl": "1"})])
    before = connections["default"]
    with pytest.raises(Rejected, match="for queue 'bad'"), capture(route=True):
        pytest.fail("not reached")
    assert connections["default"] is before
    with pytest.raises(RuntimeError, match="no capture is open"):
        assert_not_published()


def test_without_routing_there_is_no_broker() -> None:
    with capture() as published, pytest.raises(RuntimeError, match="route=True"):
        published.broker()


def test_the_memory_broker_of_the_settings(configure: Any) -> None:
    configure(URL="memory://")
    broker = memory_broker()
    broker.reset()
    publish("b", queue=QueueConfig("q"), delivery="now")
    assert memory_broker("default") is broker
    assert broker.depths() == {"q": 1}
    broker.reset()
    configure(URL="amqp://localhost")
    with pytest.raises(RuntimeError, match="'default' is not memory://"):
        memory_broker()


# -- assertions -----------------------------------------------------------------------------------


@pytest.fixture
def published() -> Iterator[Published]:
    with capture() as published:
        publish(
            {"id": 1, "total": Decimal("2.50")}, serializer="json", queue="orders", message_id="m1",
            headers={"tenant": "a", "n": None, "flag": True, "more": {"a": [1.0], "b": 2}},
            type="created", delivery="now",
        )  # fmt: skip
        publish("text", queue="mails", message_id="m2", priority=1, delivery="now")
        publish(b"\xff\x00", exchange="x", routing_key="k", message_id="m3", delivery="now")
        publish("text", queue="mails", message_id="m4", expiration=3, delivery="now")
        yield published


@pytest.mark.parametrize(
    ("criteria", "message_id"),
    [
        ({"queue": "orders"}, "m1"),
        ({"routing_key": "orders", "exchange": ""}, "m1"),
        ({"exchange": "x"}, "m3"),
        ({"message_id": "m2"}, "m2"),
        ({"body": {"id": 1, "total": "2.50"}}, "m1"),
        ({"body": {"id": 1, "total": Decimal("2.50")}}, "m1"),
        ({"body": {"total": "2.50", "id": 1}}, "m1"),
        ({"body": '{"id":1,"total":"2.50"}'}, "m1"),
        ({"body": b'{"id":1,"total":"2.50"}'}, "m1"),
        ({"body": b"\xff\x00"}, "m3"),
        ({"headers": {"tenant": "a"}}, "m1"),
        ({"headers": {"n": None}}, "m1"),
        ({"headers": {"flag": True, "more": {"b": 2, "a": (1.0,)}}}, "m1"),
        ({"headers": {}, "queue": "orders"}, "m1"),
        ({"type": "created"}, "m1"),
        ({"priority": 1}, "m2"),
        ({"expiration": "3000"}, "m4"),
        ({"body": "text", "priority": 1, "using": "default", "delivery_mode": 2}, "m2"),
    ],
)
def test_finding_a_message(
    published: Published, criteria: dict[str, Any], message_id: str
) -> None:
    assert assert_published(published, **criteria).message_id == message_id
    assert assert_published(**criteria).message_id == message_id
    with pytest.raises(AssertionError, match=r"^1 of 4 messages fit .*; there should be none\."):
        assert_not_published(published, **criteria)


@pytest.mark.parametrize(
    "criteria",
    [
        {"queue": "x"},
        {"queue": "k"},
        {"exchange": ""} | {"routing_key": "k"},
        {"body": {"id": 1}},
        {"body": {"id": 1, "total": 2.5}},
        {"body": object()},
        {"body": "tex"},
        {"body": b"tex"},
        {"headers": {"tenant": "b"}},
        {"headers": {"absent": None}},
        {"headers": {"flag": 1}},
        {"headers": {"more": {"a": [1], "b": 2}}},
        {"headers": {"more": {"a": [1.0], "b": 2.0}}},
        {"headers": {"tenant": b"a"}},
        {"headers": {"tenant": object()}},
        {"body": {"id": True, "total": "2.50"}},
        {"body": {"id": 1.0, "total": "2.50"}},
        {"type": "deleted"},
        {"queue": "orders", "type": "deleted"},
        {"expiration": 3},
        {"using": "other"},
    ],
)
def test_finding_none(published: Published, criteria: dict[str, Any]) -> None:
    assert_not_published(**criteria)
    with pytest.raises(AssertionError, match=r"^0 of 4 messages fit .*; there should be 1\."):
        assert_published(**criteria)


def test_counting(published: Published) -> None:
    assert assert_published(published, queue="mails", count=2).message_id == "m2"
    assert assert_published(count=4).message_id == "m1"
    with pytest.raises(
        AssertionError, match=r"^2 of 4 messages fit body='text'; there should be 1"
    ):
        assert_published(body="text")
    with pytest.raises(
        AssertionError, match=r"^4 messages fit everything; there should be none\."
    ):
        assert_not_published()
    with pytest.raises(ValueError, match="assert_not_published"):
        assert_published(count=0)


def test_unknown_criteria(published: Published) -> None:
    for function in (assert_published, assert_not_published):
        with pytest.raises(TypeError, match="did you mean 'queue'"):
            function(published, qeue="q")  # type: ignore[arg-type]


def test_what_a_failed_assertion_says(published: Published) -> None:
    with (
        capture(error=Rejected(404, "NOT_FOUND - no queue 'r' in vhost '/'")) as refusing,
        pytest.raises(Rejected),
    ):
        publish("refused", queue="r", message_id="m5", delivery="now")
    with pytest.raises(AssertionError) as caught:
        assert_published(published, queue="mails", priority=1, body="long " * 100)
    mails = "queue 'mails'; exchange ''; routing key 'mails'; 4 bytes 'text'"
    headers = "headers 'tenant', 'n', 'flag', 'more'"
    orders = f"queue 'orders'; exchange ''; routing key 'orders'; {headers}; 23 bytes "
    wanted = "long " * 23 + "long"  # 120 characters with the quote in front
    assert str(caught.value).splitlines() == [
        f"0 of 4 messages fit queue='mails', priority=1, body='{wanted}...; there should be 1.",
        "Published were:",
        f"  differs in body: {mails}; m2",
        f"  differs in priority, body: {mails}; m4",
        f"""  differs in queue, priority, body: {orders}'{{"id":1,"total":"2.50"}}'; m1""",
        r"  differs in queue, priority, body: exchange 'x'; routing key 'k'; 2 bytes b'\xff\x00'; m3",
    ]
    with pytest.raises(AssertionError) as caught:
        assert_published(refusing, queue="r")
    error = "Rejected: rejected by the broker: 404 NOT_FOUND - no queue 'r' in vhost '/'"
    assert str(caught.value).splitlines()[1:] == [
        "Refused were:",
        f"  fits: queue 'r'; exchange ''; routing key 'r'; 7 bytes 'refused'; m5; {error}",
    ]


def test_what_it_says_of_what_waits(db: None) -> None:
    with capture() as published, transaction.atomic():
        publish("b", queue="q", message_id="m")
        with pytest.raises(AssertionError) as caught:
            assert_published(published, queue="q")
        with pytest.raises(AssertionError, match="There are:"):
            assert_published(published.pending, queue="other")
    assert str(caught.value).splitlines() == [
        "0 of 0 messages fit queue='q'; there should be 1.",
        "A commit is waited for by:",
        "  fits: queue 'q'; exchange ''; routing key 'q'; 1 bytes 'b'; m",
    ]


def test_bodies_are_shown_shortened_and_values_of_headers_never() -> None:
    with capture() as published:
        publish("x" * 1000, queue="q", headers={"h": "SECRET"}, delivery="now")
        publish({"a": "y" * 1000}, serializer="json+zlib", queue="z", delivery="now")
        publish(b"\x1f\x8b broken", content_encoding="gzip", queue="q", delivery="now")
        with pytest.raises(AssertionError) as caught:
            assert_published(published, queue="other")
    text = str(caught.value)
    assert "SECRET" not in text
    assert max(map(len, text.splitlines())) < 400
    assert "1000 bytes 'xxx" in text
    assert '{"a":"yyy' in text
    assert r"b'\x1f\x8b broken'" in text
    assert "xxx" not in repr(published[0])


# -- as users run them ----------------------------------------------------------------------------

PROJECT = {
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "project"
execute_from_command_line(sys.argv)
""",
    "project.py": """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "rmq_publisher", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
USE_TZ = True
""",
    "shop/__init__.py": "",
    "shop/models.py": """
from django.db import models

class Order(models.Model):
    item = models.CharField(max_length=100)
""",
    "shop/queues.py": """
from rmq_publisher import Binding, ExchangeConfig, QueueConfig

EVENTS = ExchangeConfig("shop.events", "topic")
ORDERS = QueueConfig("orders", bindings=[Binding(EVENTS, "orders.#")])
""",
    "shop/views.py": """
from django.db import transaction
from django.http import JsonResponse

from rmq_publisher import publish
from shop.models import Order
from shop.queues import ORDERS

@transaction.atomic
def orders(request):
    if request.method == "GET":
        return JsonResponse({})
    order = Order.objects.create(item="tea")
    publish({"id": order.pk, "item": order.item}, queue=ORDERS, serializer="json")
    return JsonResponse({"id": order.pk})
""",
    "shop/urls.py": """
from django.urls import path
from shop.views import orders

urlpatterns = [path("orders/", orders)]
""",
    "shop/tests/__init__.py": "",
}
HOW_TO = ROOT / "docs" / "how-to" / "testing.md"
BLOCK = re.compile(r"^```python\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose tests are the examples of the how-to."""
    files = dict(PROJECT)
    for name, block in BLOCK.findall(HOW_TO.read_text("utf-8")):
        files[name] = block
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def run(project: Path, *arguments: str, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=project,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{project}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output
    return output


# The plugin by its module's name: the package need not be installed.
PYTEST = (
    "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:rmq_publisher", "-p",
    "rmq_publisher.pytest_plugin", "--ds=project", "--rootdir=.", "-q", "shop",
)  # fmt: skip
WITHOUT_RABBITMQ = ("--ignore=shop/tests/test_rabbitmq.py",)


def test_the_how_to_with_pytest(project: Path, broker: Broker) -> None:
    output = run(project, *PYTEST, TEST_RMQ_URL=broker.url)
    assert re.search(r"^1[0-9] passed", output, re.MULTILINE), output


def test_the_how_to_with_xdist(project: Path) -> None:
    output = run(project, *PYTEST, *WITHOUT_RABBITMQ, "-n", "3")
    assert re.search(r"^1[0-9] passed", output, re.MULTILINE), output


@pytest.mark.parametrize("processes", ["1", "3"])
def test_the_how_to_with_manage_py_test(project: Path, processes: str) -> None:
    output = run(project, "manage.py", "test", "--parallel", processes)
    assert re.search(r"Ran 1[0-9] tests", output), output


def test_fixtures_among_settings_of_a_test(project: Path) -> None:
    (project / "shop" / "tests" / "test_more.py").write_text("""
from rmq_publisher import conf, publish
from rmq_publisher.testing import assert_published

def test_no_url(rmq_published, settings):
    settings.RMQ_APP_ID = "later"
    publish("b", queue="q", delivery="now")
    assert assert_published().properties.app_id == "later"

def test_all_is_as_before():
    assert conf.aliases() == ()

def test_settings_first(settings, rmq_broker):
    settings.RMQ_URL = "amqp://127.0.0.1:1"
    publish("b", queue="orders", delivery="now")
    assert len(rmq_broker.drain("orders")) == 1

def test_all_is_as_before_again():
    assert conf.aliases() == ()
""")
    output = run(project, *PYTEST, "-k", "test_more")
    assert "4 passed" in output


def test_without_pytest_django(project: Path) -> None:
    (project / "test_plain.py").write_text("""
import django
django.setup()
from rmq_publisher import conf, publish

def test_a_message(rmq_published):
    publish("b", queue="q", delivery="now")
    assert len(rmq_published) == 1

def test_all_is_as_before():
    assert conf.aliases() == ()
""")
    arguments = [*PYTEST[:-4], "-p", "no:django", "-q", "test_plain.py"]
    output = run(project, *arguments, DJANGO_SETTINGS_MODULE="project")
    assert "2 passed" in output


def test_the_plugin_costs_nothing_until_it_is_used(project: Path) -> None:
    run(
        project,
        "-c",
        "import sys, rmq_publisher.pytest_plugin\n"
        "assert not {'django', 'pika', 'rmq_publisher.testing'} & set(sys.modules)",
    )
