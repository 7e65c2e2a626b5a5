"""Messages that wait for their next attempt: a broker that is killed or restarted, a full queue."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rmq_publisher import Consumer, QueueConfig, connections, publish_many
from rmq_publisher.consumer.retry_levels import RetryLevels
from tests.support.configured import configurer
from tests.support.rig.node import PrivateNode

BODIES = [b"%d" % number for number in range(200)]
SOON = 60.0  # a node may have to boot

pytestmark = pytest.mark.disturbs


@pytest.fixture
def on_node(settings: Any, node: PrivateNode) -> Iterator[PrivateNode]:
    configurer(settings)(URL=node.url(), PUBLISH_TIMEOUT=20)
    yield node
    connections.close()


def waiting(queue: QueueConfig, delay: float) -> None:
    """Have messages wait for their second attempt, as a worker hands them over."""
    levels = RetryLevels.of(queue.name, 2, (delay, delay))
    connections["default"].declare((queue, *levels.configs()), SOON)
    level = levels.stay(0).queue
    publish_many(BODIES, routing_key=level, headers={"x-rmq-attempts": 1}, delivery="now")


def come_back(queue: QueueConfig) -> set[bytes]:
    """The bodies that come, each at least once, as second attempts."""
    found: set[bytes] = set()
    with Consumer([queue.name], prefetch_count=10) as consumer:
        while (
            len(found) < len(BODIES)
            and (message := consumer._take(SOON, lambda: False)) is not None
        ):
            assert message.attempts == 2
            found.add(message.body)
            message.ack()
    return found


def killed(node: PrivateNode) -> None:
    # Which queues there are, the broker writes to disk every three minutes: these are younger.
    node.eval("[dets:sync(Table) || Table <- dets:all()]")
    node.restart()


def restarted(node: PrivateNode) -> None:
    node.eval("rabbit:stop(), rabbit:start()", SOON)
    node.wait_ready()


@pytest.mark.parametrize("end", [restarted, killed])
def test_what_waits_survives_the_end_of_the_broker(
    on_node: PrivateNode, end: Callable[[PrivateNode], None]
) -> None:
    queues = [QueueConfig("classic"), QueueConfig("quorum", queue_type="quorum")]
    for queue in queues:
        waiting(queue, 2.0)  # some of them expire before the end, some after it
    end(on_node)
    for queue in queues:
        assert come_back(queue) == set(BODIES)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_nothing_is_lost_to_a_full_queue(on_node: PrivateNode, queue_type: str) -> None:
    queue = QueueConfig(
        f"full {queue_type}", queue_type=queue_type, max_length=7, overflow="reject-publish"
    )
    waiting(queue, 1.0)
    assert come_back(queue) == set(BODIES)
