"""The levels on both brokers: what is sent to one comes back to the consumed queue in time."""

import pytest

from rmq_publisher.consumer.retry_levels import RetryLevels
from tests.support.sides import Side, send


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_waits_in_a_level_comes_back(side: Side, queue_type: str) -> None:
    queue = side.queue(queue_type=queue_type)
    levels = RetryLevels.of(queue.name, 2, (0.2, 60))
    side.declare_own(*levels.configs())
    send(b"1", routing_key=levels.name(200))
    side.wait(0.2)
    message = side.take(queue.name)
    assert (message.body, message.routing_key) == (b"1", queue.name)
