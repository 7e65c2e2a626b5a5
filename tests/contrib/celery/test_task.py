"""`CeleryTask`, chains and groups: the messages that they publish, read as kombu and Celery read them."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery
from celery.canvas import maybe_signature
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from kombu.utils.json import loads

from rmq_publisher import InvalidMessage, QueueConfig, cancel
from rmq_publisher.contrib.celery import CeleryTask, chain, group
from rmq_publisher.models import OutboxMessage
from rmq_publisher.outbox.relay import Relay
from rmq_publisher.testing import MemoryBroker, PublishedMessage, memory_broker

pytestmark = pytest.mark.django_db

add = CeleryTask("shop.add")
tell = CeleryTask("shop.tell", queue="tellers", priority=3)


@pytest.fixture(autouse=True)
def published(request: pytest.FixtureRequest) -> Any:
    """What was published, except where a test has a broker."""
    if "memory_queue" in request.fixturenames:
        return None
    return request.getfixturevalue("rmq_published")


@pytest.fixture
def memory_queue(settings: Any) -> MemoryBroker:
    """A broker in memory, with Celery's default queue."""
    settings.RMQ_URL = "memory://"
    broker = memory_broker()
    broker.declare(QueueConfig("celery"))
    return broker


def body(message: PublishedMessage) -> Any:
    return loads(message.body)


def test_the_message_is_celerys_own(published: Any) -> None:
    """Compared with what Celery 5.7 sends for the same call."""
    id_ = add.apply_async((1, 2), {"z": 3}, task_id="my-id", shadow="seen", time_limit=9)
    [message] = published
    theirs = Celery().amqp.as_task_v2(
        "my-id", "shop.add", (1, 2), {"z": 3}, shadow="seen", time_limit=9
    )
    ours = dict(message.headers)
    assert ours.pop("origin").startswith("gen")
    assert ours == {name: theirs.headers[name] for name in theirs.headers if name != "origin"}
    assert body(message) == loads(as_json(theirs.body))
    assert id_ == message.message_id == message.properties.correlation_id == "my-id"
    assert message.properties.content_type == "application/json"
    assert message.properties.content_encoding == "utf-8"
    assert message.properties.priority == 0  # as kombu sends what has none
    assert (message.exchange, message.routing_key) == ("", "celery")


def as_json(value: Any) -> str:
    from kombu.utils.json import dumps  # noqa: PLC0415

    return str(dumps(value))


GIVEN = {
    "datetime": datetime(2026, 11, 30, 1, 2, 3, 4, tzinfo=UTC),
    "date": date(2026, 11, 30),
    "time": time(1, 2, 3),
    "decimal": Decimal("1.10"),
    "uuid": uuid.UUID(int=7),
    "bytes": b"plain",
    "base64": b"\xff\x00",
    "plain": [1, 2.5, None, True, "ü\ud800", {"a": {}}],
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_task_receives_what_was_passed(published: Any, name: str) -> None:
    add.delay(GIVEN[name], x=[GIVEN[name]])
    args, kwargs, _ = body(published[0])
    assert args == [GIVEN[name]]
    assert kwargs == {"x": [GIVEN[name]]}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: add.delay(object()), r"args\[0\] is of type object"),
        (lambda: add.delay(a={"b": [1, {2}]}), r"kwargs\['a'\]\['b'\]\[1\] is of type set"),
        (lambda: add.delay({(1, 2): 3}), r"a key of args\[0\] is of type tuple"),
        (lambda: add.delay({"__type__": "x", "__value__": 1}), "take for a mark"),
        (lambda: add.apply_async("abc"), "args must be a list or tuple"),
        (lambda: add.apply_async((), [1]), "kwargs must be a dict"),
        (lambda: add.apply_async((), {1: 2}), "keys are str"),
        (lambda: add.apply_async(countdwon=1), "no option of a task: countdwon"),
        (lambda: add.apply_async(countdown="1"), "countdown must be seconds"),
        (lambda: add.apply_async(countdown=1, eta=GIVEN["datetime"]), "give one of them"),
        (lambda: add.apply_async(eta=datetime(2030, 1, 1)), "has no time zone"),  # noqa: DTZ001
        (lambda: add.apply_async(expires=True), "expires must be seconds"),
        (lambda: add.apply_async(schedule="soon"), "schedule must be one of"),
        (lambda: add.apply_async(priority=256), "priority"),
        (lambda: add.apply_async(link="shop.tell"), "link and link_error take signatures"),
        (lambda: CeleryTask(""), "must not be empty"),
        (lambda: CeleryTask(1), "must be a str"),  # type: ignore[arg-type]
        (lambda: CeleryTask("a", nonsense=1), "no option of a task"),  # type: ignore[call-arg]
        (
            lambda: CeleryTask("a", signature=lambda x: x).delay(),
            "missing a required argument: 'x'",
        ),
        (lambda: group(add.s()) | add.s(), "a chord.*AMQP"),
        (lambda: add.s() | group(add.s()), "not group"),
        (lambda: group(1), "a group takes signatures and chains"),
        (lambda: chain(), "at least one task"),
    ],
)
def test_bad_calls_are_refused_and_send_nothing(published: Any, call: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        call()
    assert not published


def test_what_is_refused_names_no_value(published: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        add.delay("secret", {"password": {1}})
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError) as refused:
        CeleryTask("a", signature=lambda x: x).delay("secret", "secret")
    assert "secret" not in str(refused.value)


def test_an_argument_that_contains_itself_is_refused(published: Any) -> None:
    deep: list[Any] = []
    deep.append(deep)
    with pytest.raises(InvalidMessage, match="nested too deeply"):
        add.delay(deep)


def test_it_leaves_with_the_transaction(published: Any) -> None:
    with transaction.atomic():
        add.delay(1)
        transaction.set_rollback(True)
    with transaction.atomic():
        add.delay(2)
    assert [body(message)[0] for message in published] == [[2]]


def test_expires_is_a_header_and_the_messages_expiration(published: Any) -> None:
    add.apply_async(expires=60)
    add.apply_async(expires=datetime.now(UTC) - timedelta(seconds=5))
    later, past = published
    left = datetime.fromisoformat(later.headers["expires"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < left <= timedelta(seconds=60)
    assert 30_000 < int(later.properties.expiration) <= 60_000
    assert past.properties.expiration == "0"


def test_the_worker_waits_for_an_eta(published: Any) -> None:
    add.apply_async(countdown=60, schedule="worker")
    eta = datetime.fromisoformat(published[0].headers["eta"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < eta <= timedelta(seconds=60)


def test_the_broker_waits_by_celerys_native_delay(published: Any) -> None:
    from kombu.transport.native_delayed_delivery import calculate_routing_key  # noqa: PLC0415

    add.apply_async(countdown=60.5, schedule="broker", queue="", routing_key="some.key")
    [message] = published
    assert message.exchange == "celery_delayed_27"
    assert message.routing_key == calculate_routing_key(60, "some.key")
    assert message.headers["eta"]


def test_a_config_is_declared_and_settings_are_the_default(published: Any, settings: Any) -> None:
    queue = QueueConfig("quorum", queue_type="quorum")
    CeleryTask("a", queue=queue).delay()
    assert published[0].routing_key == "quorum"
    settings.RMQ_CELERY_DELIVERY = "now"
    with transaction.atomic():
        add.delay()
        assert len(published) == 2


def test_a_chain_brings_the_rest_along(published: Any) -> None:
    last = (add.s(1, 2) | add.s(3) | tell.si("done")).apply_async()
    [message] = published
    args, _, embed = body(message)
    assert args == [1, 2]
    signatures = [maybe_signature(one, app=Celery()) for one in embed["chain"]]
    assert [one.task for one in signatures] == ["shop.tell", "shop.add"]  # the next one is last
    assert [one.args for one in signatures] == [["done"], [3]]
    assert [one.immutable for one in signatures] == [True, False]
    assert signatures[0].options["queue"] == "tellers"
    assert signatures[0].options["task_id"] == last != message.message_id


def test_options_of_a_chain(published: Any) -> None:
    last = chain(add.s(), add.s()).apply_async(
        (5,), task_id="the-last", link=tell.s(), link_error=tell.s("failed"), priority=7
    )
    [message] = published
    args, _, embed = body(message)
    assert (args, last, message.properties.priority) == ([5], "the-last", 7)
    assert [one["task"] for one in embed["errbacks"]] == ["shop.tell"]
    [then] = embed["chain"]
    assert then["options"]["task_id"] == "the-last"
    assert [one["task"] for one in then["options"]["link"]] == ["shop.tell"]


def test_a_group_leaves_together(published: Any) -> None:
    ids = group([add.s(1), add.s(2) | tell.s()]).apply_async(priority=1)
    first, second = published
    assert ids[0] == first.message_id
    assert ids[1] == body(second)[2]["chain"][0]["options"]["task_id"]
    assert first.headers["group"] == second.headers["group"] is not None
    assert [message.headers["group_index"] for message in published] == [0, 1]
    assert [message.properties.priority for message in published] == [1, 1]


def test_a_group_with_one_bad_task_sends_nothing(published: Any) -> None:
    with pytest.raises(InvalidMessage):
        group(add.s(1), add.s(object())).apply_async()
    assert not published


def test_a_group_with_one_that_cannot_be_published_sends_nothing(published: Any) -> None:
    with pytest.raises(InvalidMessage, match="priority"):
        group(add.s(1), add.set(priority=256).s(2)).apply_async()
    assert not published


@pytest.mark.parametrize("delivery", ["on_commit", "outbox"])
def test_by_default_the_table_waits(published: Any, settings: Any, delivery: str) -> None:
    """With a countdown the worker is not told when: it gets the task when its time has come."""
    settings.RMQ_CELERY_DELIVERY = delivery
    when = datetime.now(UTC) + timedelta(minutes=10)
    ids = [add.apply_async(countdown=600), add.apply_async(countdown=timedelta(minutes=10))]
    ids += [add.apply_async(eta=when), *group(add.s(), add.s()).apply_async(countdown=600)]
    ids.append(chain(add.s(), add.s()).apply_async(countdown=600))
    assert not published
    rows = {row.message_id: row for row in OutboxMessage.objects.all()}
    assert len(rows) == len(ids)
    for row in rows.values():
        assert abs(row.available_at - when) < timedelta(minutes=5)
    assert cancel(ids[0])
    assert not OutboxMessage.objects.filter(message_id=ids[0])


def test_a_call_and_the_settings_say_who_waits(published: Any, settings: Any) -> None:
    """`schedule=` of a call goes before `RMQ_CELERY_SCHEDULE`, both ways."""
    settings.RMQ_CELERY_SCHEDULE = "worker"
    stored = [add.apply_async(countdown=600, schedule="table")]
    add.apply_async(countdown=600)
    settings.RMQ_CELERY_SCHEDULE = "table"
    add.apply_async(countdown=600, schedule="worker")
    stored.append(add.apply_async(countdown=600))
    assert [message.headers["eta"] is None for message in published] == [False, False]
    found = OutboxMessage.objects.order_by("id").values_list("message_id", flat=True)
    assert list(found) == stored


@pytest.mark.django_db(transaction=True)
def test_what_the_table_held_has_an_eta_only_if_one_was_given(memory_queue: Any) -> None:
    """A countdown is over when the worker gets the task; an eta that was given is its business, too."""
    when = datetime.now(UTC) + timedelta(minutes=10)
    counted, given = add.apply_async(countdown=600), add.apply_async(eta=when)
    OutboxMessage.objects.update(available_at=datetime.now(UTC) - timedelta(seconds=1))
    Relay("default", once=True).run()
    messages = [each.properties for each in memory_queue.drain("celery")]
    etas = {each.message_id: each.headers["eta"] for each in messages}
    assert etas[counted] is None
    assert datetime.fromisoformat(etas[given]) == when


def test_the_table_and_now_contradict(published: Any) -> None:
    with pytest.raises(InvalidMessage, match="now"):
        add.apply_async(countdown=1, delivery="now")
    with pytest.raises(InvalidMessage, match="ordering_key"):
        add.apply_async(countdown=1, ordering_key="k")
    assert not published


def test_links(published: Any) -> None:
    add.apply_async(link=[tell.s(), tell.si("x")], link_error=tell.s())
    embed = body(published[0])[2]
    assert [one["immutable"] for one in embed["callbacks"]] == [False, True]
    assert [one["task"] for one in embed["errbacks"]] == ["shop.tell"]


def test_set_and_partial_arguments(published: Any) -> None:
    tell.set(priority=9).s("last", k=1).set(queue="other").delay("first", k=2)
    [message] = published
    assert (message.routing_key, message.properties.priority) == ("other", 9)
    assert body(message)[:2] == [["first", "last"], {"k": 2}]
    assert tell.defaults["priority"] == 3


def test_in_an_event_loop(published: Any) -> None:
    async def view() -> str:
        with pytest.raises(SynchronousOnlyOperation):
            add.delay(1)
        return await add.adelay(2)

    assert asyncio.run(view()) == published[0].message_id
    assert len(published) == 1


def test_reprs_show_no_argument() -> None:
    shown = repr([add, add.s("secret"), add.s("secret") | add.s(), group(add.s("secret"))])
    assert "secret" not in shown
