"""The levels in which failed messages wait: which there are, and which one a wait needs."""

from datetime import timedelta

import pytest

from rmq_publisher import QueueConfig
from rmq_publisher.amqp.validation import TopologyError
from rmq_publisher.consumer.retry_levels import RetryLevels, Stay, no_retries


@pytest.mark.parametrize(
    ("max_attempts", "backoff", "delays"),
    [
        (5, (1, 300), (1_000, 2_000, 4_000, 8_000)),
        (5, (1, 60), (1_000, 2_000, 4_000, 8_000)),
        (9, (1, 20), (1_000, 2_000, 4_000, 8_000, 16_000, 20_000)),
        (9, (2, 2), (2_000,)),
        (2, (1, 300), (1_000,)),
        (1, (1, 300), ()),
        (4, (0.03, timedelta(seconds=0.1)), (30, 60, 100)),
        (3, (0, 0), (1,)),  # a queue cannot keep anything for no time at all
        (10**6, (60, 300), (60_000, 120_000, 240_000, 300_000)),
    ],
)  # fmt: skip
def test_one_level_for_each_distinct_delay(max_attempts, backoff, delays) -> None:
    assert RetryLevels.of("q", max_attempts, backoff).delays == delays


def test_the_delay_doubles_up_to_the_longest() -> None:
    levels = RetryLevels.of("q", 10, (1, 5))
    assert [levels.after(attempt) for attempt in range(1, 6)] == [1000, 2000, 4000, 5000, 5000]
    assert levels.after(10**9) == 5000


def test_a_wait_takes_the_smallest_level_that_is_not_shorter() -> None:
    levels = RetryLevels.of("q", 5, (1, 60))
    assert levels.stay(0) == levels.stay(1000) == Stay("q.retry.1000", 1000)
    assert levels.stay(1001) == Stay("q.retry.2000", 2000)
    assert levels.stay(8000) == Stay("q.retry.8000", 8000)


def test_a_longer_wait_takes_several_stays() -> None:
    levels = RetryLevels.of("q", 3, (1, 60))
    wait, stays = 5_500, []
    while wait > 0:
        stay = levels.stay(wait)
        stays.append(stay.delay)
        wait = stay.rest
    assert stays == [2000, 2000, 2000]


def test_a_level_is_a_quorum_queue_that_dead_letters_at_least_once() -> None:
    first, second = RetryLevels.of("orders", 3, (0.5, 60)).configs("a")
    assert (first.name, second.name) == ("orders.retry.500", "orders.retry.1000")
    assert dict(first.x_arguments) == {
        "x-queue-type": "quorum",
        "x-message-ttl": 500,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "orders",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert (first.using, first.durable) == ("a", True)


@pytest.mark.parametrize(
    ("queue", "reason"),
    [
        (QueueConfig("s", queue_type="stream"), "it is a stream"),
        (QueueConfig("s", arguments={"x-queue-type": "stream"}), "it is a stream"),
        (QueueConfig("e", expires=60), "it expires"),
        (QueueConfig("q"), ""),
        (QueueConfig("q", queue_type="quorum"), ""),
        ("known by name only", ""),
    ],
)
def test_what_has_no_retries_is_told_why(queue, reason) -> None:
    name = queue if isinstance(queue, str) else queue.name
    found = no_retries(queue, RetryLevels.of(name, 5, (1, 300)))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_a_name_must_leave_room_for_the_suffix() -> None:
    suffix = len(".retry.8000")
    fits, too_long = "é" * ((255 - suffix) // 2), "é" * ((255 - suffix) // 2 + 1)
    assert no_retries(fits, RetryLevels.of(fits, 5, (1, 300))) == ""
    assert "257 bytes" in no_retries(too_long, RetryLevels.of(too_long, 5, (1, 300)))
    assert no_retries(too_long, RetryLevels.of(too_long, 1, (1, 300))) == ""  # needs none


def test_a_delay_that_rabbitmq_cannot_keep_is_refused() -> None:
    with pytest.raises(TopologyError, match="backoff"):
        RetryLevels.of("q", 5, (1, 10**9))
