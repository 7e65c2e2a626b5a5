"""`capture()` and the plugin's fixture: what is captured, whatever the settings, and in transactions."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from unittest import IsolatedAsyncioTestCase

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.dispatch import Signal
from django.test import TestCase, TransactionTestCase

from rmq_publisher import (
    BrokerUnavailable,
    ExchangeConfig,
    InvalidMessage,
    Message,
    Producer,
    PublishManyError,
    QueueConfig,
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
    PublishedMessage,
    assert_not_published,
    assert_published,
    capture,
    memory_broker,
)
from tests.support.rig.amqp import Amqp


def bodies(published: Any) -> list[bytes]:
    return [message.body for message in published]


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
