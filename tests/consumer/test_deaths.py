"""Where a message died, read from headers that anybody can have written."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rmq_publisher.consumer.deaths import DEATHS_MAX, clean_text, deaths, last_death

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def entry(queue: str, reason: str = "rejected", **other: Any) -> dict[str, Any]:
    return {
        "queue": queue, "reason": reason, "exchange": "x", "routing-keys": ["k"], "count": 2,
        "time": THEN, **other,
    }  # fmt: skip


def test_the_last_death_comes_first_and_the_end_of_a_wait_is_none() -> None:
    found = deaths({"x-death": [entry("orders.retry.1000", "expired"), entry("orders")]})
    assert [death.queue for death in found] == ["orders.retry.1000", "orders"]
    last = last_death(found)
    assert last is not None
    assert (last.queue, last.reason, last.count, last.time) == ("orders", "rejected", 2, THEN)
    assert last.plain()["time"] == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize("queue", ["retry.1000", "orders.retry.", "orders.retry.1s", "retry"])
def test_other_names_are_no_levels(queue: str) -> None:
    last = last_death(deaths({"x-death": [entry(queue)]}))
    assert last is not None
    assert last.queue == queue


def test_what_was_kept_at_a_hand_over_comes_after_the_brokers_list() -> None:
    """RabbitMQ 4 keeps only the last round in its own."""
    headers = {
        "x-death": [entry("orders.retry.1000", "expired")],
        "x-rmq-original": {"x-death": [entry("first", "expired")]},
    }
    found = deaths(headers)
    assert [death.queue for death in found] == ["orders.retry.1000", "first"]
    last = last_death(found)
    assert last is not None
    assert last.queue == "first"


@pytest.mark.parametrize(
    "value",
    [
        None, 1, "text", b"bytes", {}, [], [None], [[]], ["text"], [{}],
        [{"queue": 1, "reason": [], "exchange": None, "routing-keys": "k", "count": "9", "time": 3}],
        [{"queue": b"\xff\0", "count": -1, "routing-keys": [1, None, b"\xff"]}],
        [{"count": 2**63 - 1}],
    ],
)  # fmt: skip
def test_no_value_is_trusted(value: Any) -> None:
    for headers in ({"x-death": value}, {"x-rmq-original": value}):
        for death in deaths(headers):
            assert isinstance(death.queue, str)
            assert isinstance(death.reason, str)
            assert all(isinstance(key, str) for key in death.routing_keys)
            assert 1 <= death.count < 2**31
            assert death.time is None


def test_a_long_history_is_bounded() -> None:
    found = deaths(
        {"x-death": [entry(f"q{n}", **{"routing-keys": ["k"] * 999}) for n in range(999)]}
    )
    assert len(found) == DEATHS_MAX
    assert max(len(death.routing_keys) for death in found) <= 20


def test_text_is_what_every_database_can_store() -> None:
    assert clean_text("a\0b\ud800c") == "a\N{REPLACEMENT CHARACTER}b?c"
    assert clean_text("x" * 999) == "x" * 255
    assert clean_text(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    assert clean_text(7) == ""
