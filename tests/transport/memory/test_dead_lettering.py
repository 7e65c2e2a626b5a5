"""Time, expiry and dead letters in the memory broker."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pika import BasicProperties

from rmq_publisher import (
    QueueConfig,
    Rejected,
)
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.transport import broker_of
from tests.support.memory import memory_settings, send

Q = QueueConfig("q")


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    return memory_settings(settings)


@pytest.fixture
def broker(configure: Callable[..., None]) -> MemoryBroker:
    """That of the alias ``default``, empty."""
    return broker_of("default")


def test_the_clock_can_be_set_forward(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig(
            "wait", message_ttl=3600, dead_letter_exchange="", dead_letter_routing_key="work"
        ),
        QueueConfig("work", message_ttl=60),
    )
    send(queue="wait")
    broker.advance(3599)
    assert broker.depths() == {"wait": 1, "work": 0}
    broker.advance(2)
    assert broker.depths() == {"wait": 0, "work": 1}
    broker.advance(60)
    assert broker.depths() == {"wait": 0, "work": 0}
    broker.reset()
    broker.declare(QueueConfig("q", message_ttl=60))
    send(queue="q")
    assert broker.depth("q") == 1


def test_what_expires_at_once_does_where_time_stands_still(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.declare(Q)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    send(queue="q", properties=BasicProperties(expiration="0"))
    assert broker.depth("q") == 0


def test_what_is_late_happens_in_its_order_and_time(broker: MemoryBroker) -> None:
    def waits(seconds: float, key: str) -> dict[str, Any]:
        return {
            "message_ttl": seconds,
            "dead_letter_exchange": "",
            "dead_letter_routing_key": key,
        }

    broker.declare(
        QueueConfig("end", max_length=1),
        QueueConfig("slow", **waits(100, "end")),
        QueueConfig("first", **waits(10, "second")),
        QueueConfig("second", **waits(20, "end")),
    )
    send(b"quick", queue="first")
    send(b"slow", queue="slow")
    now = time.time()
    broker.advance(1000)
    [message] = broker.drain("end")
    assert message.body == b"slow"  # it came last, and pushed the other one out
    send(b"quick", queue="first")
    broker.advance(1000)
    [message] = broker.drain("end")
    latest, earlier = message.headers["x-death"]
    assert (latest["queue"], earlier["queue"]) == ("second", "first")
    assert (latest["time"] - earlier["time"]).total_seconds() == pytest.approx(20, abs=1)
    assert earlier["time"].timestamp() - now == pytest.approx(1010, abs=5)


def test_what_stood_behind_another_dies_when_it_comes_to_the_head(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead", message_ttl=60),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    send(b"long", queue="q", expiration=1000)
    send(b"short", queue="q", expiration=1)
    broker.advance(500)
    assert broker.depths() == {"dead": 0, "q": 2}
    message = broker.get("q")
    assert message is not None
    assert message.body == b"long"
    assert broker.depths() == {"dead": 1, "q": 0}  # with a minute from now, not from its death
    broker.advance(59)
    assert broker.depth("dead") == 1
    broker.advance(2)
    assert broker.depth("dead") == 0


def test_the_last_death_is_told_as_well(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("middle", dead_letter_exchange="", dead_letter_routing_key="dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="middle"),
    )
    send(queue="q", expiration=1)
    broker.advance(2)
    message = broker.get("middle")
    assert message is not None
    message.reject()
    [message] = broker.drain("dead")
    headers = message.headers
    for which, queue, reason in (("first", "q", "expired"), ("last", "middle", "rejected")):
        assert headers[f"x-{which}-death-queue"] == queue
        assert headers[f"x-{which}-death-reason"] == reason
        assert headers[f"x-{which}-death-exchange"] == ""


def test_dead_letters_keep_the_types_of_headers(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    headers = {
        "float": 1.5, "decimal": Decimal("1.50"), "when": datetime(2024, 1, 1, tzinfo=UTC),
        "bytes": b"\xff", "big": 2**40, "none": None, "yes": True, "list": [1.25], "CC": ["x"],
    }  # fmt: skip
    send(queue="q", headers=headers)
    message = broker.get("q")
    assert message is not None
    message.reject()
    [message] = broker.drain("dead")
    kept = {name: message.headers[name] for name in headers}
    assert kept == headers
    assert [type(value) for value in kept.values()] == [type(value) for value in headers.values()]


FORGED = {"queue": "q", "reason": "expired"}


@pytest.mark.parametrize(
    ("forged", "count"),
    [
        ("text", 1),
        (["text"], 1),
        ([{"queue": 1}], 1),
        ([{}], 1),
        ([FORGED | {"count": "two"}], 1),
        ([FORGED | {"count": None}], 1),
        ([FORGED | {"count": 2}], 3),
        ([FORGED | {"count": 2**63 - 1}], 2**63 - 1),
    ],
)
def test_what_a_publisher_writes_into_x_death_does_no_harm(
    broker: MemoryBroker, forged: Any, count: int
) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    send(queue="q", headers={"x-death": forged}, expiration=1)
    broker.advance(2)
    [message] = broker.drain("dead")
    assert message.headers["x-death"][0]["queue"] == "q"
    assert message.headers["x-death"][0]["count"] == count


def test_headers_that_death_makes_too_large(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    send(queue="q", headers={"h": "x" * 130_950}, expiration=1)
    broker.advance(2)
    assert broker.depths() == {"dead": 0, "q": 0}


def test_quorum_queues_give_up_after_twenty(broker: MemoryBroker) -> None:
    send(queue=QueueConfig("q", queue_type="quorum"))
    for attempts in range(21):
        message = broker.get("q")
        assert message is not None
        counts = {"x-delivery-count": attempts, "x-acquired-count": attempts}
        assert message.headers == (counts if attempts else {})
        message.reject(requeue=True)
    assert broker.get("q") is None


def test_streams_cannot_be_got_from(broker: MemoryBroker) -> None:
    send(queue=QueueConfig("s", queue_type="stream"))
    with pytest.raises(Rejected, match=r"540 NOT_IMPLEMENTED - basic\.get not supported"):
        broker.get("s")
    assert broker.depth("s") == 1
