"""The helpers for users' tests, as users use them: in every kind of test, and in parallel runs."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    QueueConfig,
    Rejected,
    Unroutable,
    connections,
    publish,
)
from rmq_publisher.testing import (
    Published,
    assert_not_published,
    assert_published,
    capture,
    memory_broker,
)

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
    assert broker.depth("q") == 1
    broker.reset()
    configure(URL="amqp://localhost")
    with pytest.raises(RuntimeError, match="'default' is not memory://"):
        memory_broker()


# -- assertions -----------------------------------------------------------------------------------


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
    error = "Rejected: rejected by the broker: 404 NOT_FOUND - no queue 'r' in vhost '/' "
    error += "(exchange '', routing key 'r', message m5)"
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
