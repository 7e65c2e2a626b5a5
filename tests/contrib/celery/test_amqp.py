"""`AMQP`: what Celery hands to it, as the messages that are published."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, _state, chain, chord, group, signals
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.exceptions import OperationalError

from rmq_publisher import (
    BrokerUnavailable,
    ExchangeConfig,
    InvalidMessage,
    QueueConfig,
    Rejected,
    Unroutable,
)
from rmq_publisher.models import OutboxMessage
from rmq_publisher.testing import assert_task_sent, capture

pytestmark = pytest.mark.django_db

SOON = timedelta(minutes=10)


def test_the_message_is_celerys_own(app: Celery, rmq_published: Any) -> None:
    result = app.send_task(
        "shop.add", (1, 2), {"z": 3}, shadow="seen", time_limit=9, expires=60, priority=3.0,
        reply_to="answers", headers={"mine": "x"}, delivery_mode=1, ignore_result=False,
    )  # fmt: skip
    [message] = rmq_published
    theirs = app.amqp.as_task_v2(
        result.id, "shop.add", (1, 2), {"z": 3}, shadow="seen", time_limit=9
    )
    ours = dict(message.headers)
    assert datetime.fromisoformat(ours.pop("expires")) > datetime.now(UTC)
    assert ours.pop("mine") == "x"
    wanted = dict(theirs.headers)
    del wanted["expires"]
    assert ours == wanted
    assert message.json() == json.loads(json.dumps(theirs.body))
    properties = message.properties
    assert (message.message_id, properties.correlation_id) == (result.id, result.id)
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.priority, properties.delivery_mode, properties.reply_to) == (
        3,
        1,
        "answers",
    )
    assert 30_000 < int(properties.expiration) <= 60_000
    assert (message.exchange, message.routing_key, message.queue) == ("", "celery", "celery")
    app.send_task("shop.add")
    assert rmq_published[1].properties.priority == 0  # as kombu sends what has none


def test_no_connection_of_kombus_is_opened(
    settings: Any, make_app: Any, rmq_published: Any
) -> None:
    settings.RMQ_URL = "amqp://127.0.0.1:9/"
    app = make_app()
    app.conf.broker_url = "amqp://127.0.0.1:9/"  # nobody listens there
    app.send_task("shop.add")
    assert_task_sent("shop.add", rmq_published)


def test_it_leaves_with_the_transaction(app: Celery, rmq_published: Any) -> None:
    with transaction.atomic():
        app.send_task("shop.add", [1])
        with transaction.atomic():
            app.send_task("shop.add", [2])
            transaction.set_rollback(True)
        assert not rmq_published
    with transaction.atomic():
        chain(app.signature("a"), app.signature("b")).apply_async()
        group(app.signature("a"), app.signature("b")).apply_async()
        transaction.set_rollback(True)
    assert_task_sent("shop.add", args=[1])
    assert len(rmq_published) == 1


def test_options_of_ours(app: Celery, rmq_published: Any, settings: Any) -> None:
    with transaction.atomic():
        app.send_task("now", delivery="now")
        assert_task_sent("now")
    settings.RMQ_CELERY_DELIVERY = "now"
    with transaction.atomic():
        app.send_task("now")
        app.send_task("later", delivery="on_commit", database="default")
        assert_task_sent("now", count=2)
        assert len(rmq_published) == 2
    with pytest.raises(InvalidMessage, match="delivery"):
        app.send_task("never", delivery="soon")


def test_a_failure_of_now_is_kombus(app: Celery) -> None:
    with capture(error=Unroutable(312, "NO_ROUTE")), pytest.raises(OperationalError) as caught:
        app.send_task("shop.add", delivery="now")
    assert isinstance(caught.value.__cause__, Unroutable)


@pytest.mark.parametrize("delivery", ["on_commit", "outbox"])
def test_an_outage_is_not_the_callers(
    app: Celery, delivery: str, django_capture_on_commit_callbacks: Any
) -> None:
    outage = BrokerUnavailable("no connection")
    with capture(on_commit="pending", error=outage):
        with django_capture_on_commit_callbacks(execute=True):
            result = app.send_task("shop.add", delivery=delivery)
        assert OutboxMessage.objects.filter(message_id=result.id).exists()


def test_an_event_loop(app: Celery, rmq_published: Any) -> None:
    async def view() -> None:
        app.send_task("shop.add")

    with pytest.raises(SynchronousOnlyOperation, match=r"await sync_to_async\(task.delay\)"):
        asyncio.run(view())
    assert not rmq_published


def test_an_app_that_is_not_installed_is_said(settings: Any, make_app: Any) -> None:
    settings.INSTALLED_APPS = ["django.contrib.contenttypes"]
    app = make_app()
    with pytest.raises(ImproperlyConfigured, match='add "rmq_publisher" to INSTALLED_APPS'):
        _ = app.amqp


def test_signals_come_in_their_order(app: Celery, rmq_published: Any) -> None:
    seen = []

    def before(sender: str, headers: Any, **_: Any) -> None:
        seen.append(("before", len(rmq_published)))
        headers["added"] = "by a receiver"

    def after(sender: str, **_: Any) -> None:
        seen.append(("after", len(rmq_published)))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        app.send_task("shop.add")
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert seen == [("before", 0), ("after", 1)]
    assert rmq_published[0].headers["added"] == "by a receiver"


def test_serializers_and_compression(app: Celery, rmq_published: Any) -> None:
    app.send_task("a", [1], serializer="pickle")
    app.send_task("a", [1], compression="zlib")
    app.conf.task_serializer = "yaml"
    del app.amqp.send_task_message  # it remembers the settings
    app.send_task("a", [1])
    pickled, zipped, yaml = rmq_published
    assert pickled.properties.content_type == "application/x-python-serialize"
    assert pickled.properties.content_encoding == "binary"
    assert zipped.headers["compression"] == "application/x-gzip"
    assert zipped.json()[0] == [1]
    assert yaml.properties.content_type == "application/x-yaml"


def test_stamps(app: Celery, rmq_published: Any) -> None:
    sig = app.signature("a")
    sig.stamp(tenant="t1")
    sig.apply_async()
    assert rmq_published[0].headers["stamps"] == {"tenant": "t1"}


def test_eagerly_nothing_is_sent(app: Celery, rmq_published: Any) -> None:
    app.conf.task_always_eager = True

    @app.task(shared=False)
    def answer() -> int:
        return 42

    assert answer.delay().get() == 42
    assert not rmq_published


# -- where it goes ---------------------------------------------------------------------------------
def test_quorum_queues_are_declared_as_celery_declares_them(make_app: Any, settings: Any) -> None:
    settings.RMQ_URL = "memory://"
    app = make_app(task_default_queue_type="quorum", task_default_queue="q")
    with capture(route=True) as published:
        app.send_task("a")
        published.broker().declare(QueueConfig("q", queue_type="quorum"))
        with pytest.raises(Rejected, match="406"):
            published.broker().declare(QueueConfig("q"))


def test_a_topic_exchange_and_its_queue(make_app: Any, settings: Any) -> None:
    settings.RMQ_URL = "memory://"
    exchange = Exchange("shop", type="topic")
    app = make_app(
        task_queues=[Queue("mails", exchange, routing_key="mail.any", max_priority=5)],
        task_default_queue="mails",
        task_default_exchange="shop",
        task_default_exchange_type="topic",
        task_default_routing_key="mail.any",
    )
    with capture(route=True) as published:
        app.send_task("a")
        published.broker().declare(QueueConfig("mails", max_priority=5))  # not 406: the same
        app.send_task("a", exchange="shop", routing_key="mail.any", queue=None)
        with pytest.raises(OperationalError, match="NO_ROUTE"):
            app.send_task("a", exchange="shop", routing_key="else", queue=None, delivery="now")
    assert [(message.exchange, message.queues) for message in published] == [
        ("shop", ("mails",))
    ] * 2


def test_a_broadcast_needs_no_worker(app: Celery) -> None:
    app.conf.task_queues = (Broadcast("everyone"), Queue("one", Exchange("all", type="fanout")))
    with capture(route=True) as published:
        published.broker().declare(ExchangeConfig("everyone", "fanout"))
        app.send_task("a", queue="everyone", exchange="everyone", routing_key="x")
        app.send_task("a", queue="one")
    assert [message.queues for message in published] == [(), ("one",)]


def test_a_queue_that_celery_does_not_declare_is_looked_up(app: Celery) -> None:
    queue = Queue("theirs", no_declare=True)
    with capture(route=True) as published, pytest.raises(OperationalError, match="404"):
        app.send_task("a", queue=queue, delivery="now")
    [message] = published.refused
    assert message.queue == "theirs"


# -- its time --------------------------------------------------------------------------------------
def test_by_default_the_worker_waits(app: Celery, rmq_published: Any) -> None:
    app.send_task("a", countdown=600)
    [message] = rmq_published
    assert datetime.fromisoformat(message.headers["eta"]) > datetime.now(UTC)


@pytest.mark.parametrize("option", ["countdown", "eta", "naive"])
def test_the_table_waits(app: Celery, rmq_published: Any, option: str) -> None:
    app.conf.timezone = "Asia/Tokyo"
    when = {
        "countdown": {"countdown": SOON.total_seconds()},
        "eta": {"eta": datetime.now(UTC) + SOON},
        # Celery takes it as local to the app.
        "naive": {"eta": (datetime.now(app.timezone) + SOON).replace(tzinfo=None)},
    }[option]
    result = app.send_task("a", schedule="table", **when)
    assert not rmq_published
    row = OutboxMessage.objects.get(message_id=result.id)
    assert abs(row.available_at - (datetime.now(UTC) + SOON)) < timedelta(minutes=5)


def test_what_has_no_time_left_to_wait_does_not_wait(app: Celery, rmq_published: Any) -> None:
    app.send_task("a", eta=datetime.now(UTC) - SOON, schedule="table")
    assert_task_sent("a")


def test_a_chord_is_unlocked_by_the_worker(
    app: Celery, rmq_published: Any, settings: Any, tmp_path: Any
) -> None:
    settings.RMQ_CELERY_SCHEDULE = "table"
    app.conf.result_backend = f"file://{tmp_path}"
    app.finalize()
    chord([app.signature("a")], app.signature("b")).apply_async()
    # One level for both: a quorum queue of RabbitMQ 4.3 serves them in their order.
    assert_task_sent("celery.chord_unlock", priority=0)
    assert_task_sent("a", priority=0)


# -- inside a worker -------------------------------------------------------------------------------
@pytest.fixture
def running(app: Celery, tmp_path: Any) -> Any:
    """A task that a worker is running: `run(function)` calls it within a rolled back transaction."""
    app.conf.result_backend = f"file://{tmp_path}"

    def run(function: Any) -> str:
        task = app.task(function, bind=True, shared=False, max_retries=3)
        app.finalize()
        task_id = uuid.uuid4().hex
        task.push_request(
            id=task_id, retries=0, called_directly=False, is_eager=False, args=[], kwargs={},
            delivery_info={"exchange": "", "routing_key": "celery"},
        )  # fmt: skip
        _state._task_stack.push(task)
        try:
            with pytest.raises(Exception) as caught, transaction.atomic():  # noqa: PT011
                task.run()
            assert type(caught.value).__name__ in ("Retry", "Ignore")
        finally:
            _state._task_stack.pop()
            task.pop_request()
        return task_id

    return run


def test_a_retry_outlives_the_transaction(running: Any, app: Celery, rmq_published: Any) -> None:
    def retries(self: Any) -> None:
        app.send_task("another")
        self.retry(countdown=1)

    task_id = running(retries)
    assert [message.message_id for message in rmq_published] == [task_id]
    assert rmq_published[0].headers["retries"] == 1


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_retry_by_either_protocol(
    running: Any, app: Celery, rmq_published: Any, protocol: int
) -> None:
    app.conf.task_protocol = protocol

    def retries(self: Any) -> None:
        self.retry(countdown=1)

    task_id = running(retries)
    assert [message.message_id for message in rmq_published] == [task_id]


@pytest.mark.parametrize("kind", ["task", "chain", "group", "chord", "chain of a group"])
def test_what_replaces_a_task_outlives_the_transaction(
    running: Any, app: Celery, rmq_published: Any, kind: str
) -> None:
    add = app.signature("add")
    replacement = {
        "task": add,
        "chain": chain(add, app.signature("last")),
        "group": group([add, app.signature("add")]),
        "chord": chord([add], app.signature("last")),
        "chain of a group": chain(add, group([app.signature("add")]), app.signature("last")),
    }[kind]

    def replaces(self: Any) -> None:
        app.send_task("another")
        self.replace(replacement)

    task_id = running(replaces)
    names = sorted(message.headers["task"] for message in rmq_published)
    assert (
        names
        == {
            "task": ["add"],
            "chain": ["add"],
            "group": ["add", "add", "celery.chord_unlock"],
            "chord": ["add", "celery.chord_unlock"],
            "chain of a group": ["add"],
        }[kind]
    )
    if kind == "task":
        assert rmq_published[0].message_id == task_id
