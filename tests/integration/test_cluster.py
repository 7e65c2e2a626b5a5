"""The engine on a cluster of three nodes: a queue without majority, and nodes killed in turn.

The rig's own test of a cluster is here too: three nodes take long to start, and a file has them once.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pika.exceptions import AMQPConnectionError

from rmq_publisher import BrokerUnavailable, ConfirmTimeout, QueueConfig, connections
from tests.support.calls import (
    PATIENCE,
    Call,
    Took,
    calling,
    error_of,
    eventually,
    now,
    status,
)
from tests.support.plain_clients import beside, client, confirming, publish
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.cluster import Cluster
from tests.support.rig.proxy import Proxy

pytestmark = [pytest.mark.disturbs, pytest.mark.thorough, pytest.mark.timeout(240)]


@pytest.fixture
def first(settings: Any, cluster: Cluster) -> Iterator[Proxy]:
    """The library publishes through a proxy to the first node, which stays up."""
    with Proxy.to(cluster.urls[0]) as proxy:
        settings.RMQ_URL = proxy.url
        settings.RMQ_PUBLISH_TIMEOUT = PATIENCE
        yield proxy
        connections["default"].close(0)  # what is in flight to the sick queue is not answered
    cluster.heal()


@pytest.fixture
def healed(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    connections.close()
    cluster.heal()


def test_a_queue_without_majority_stops_nobody_else(
    first: Proxy, cluster: Cluster, names: Names
) -> None:
    """64 callers fill the window with messages that nobody answers."""
    sick = QueueConfig(names.queue(), queue_type="quorum")
    well = QueueConfig(names.queue())
    now(queue=sick)
    now(queue=well)
    cluster.kill(1)
    cluster.kill(2)
    acked = first.acks
    callers = [calling(queue=sick, timeout=12) for _ in range(64)]
    assert first.wait_for_publishes(2 + 64)
    with Took() as took:  # the first one has to wait until the window is seen to be silent
        now(queue=well, timeout=10)
    assert first.acks - acked == 1
    with Took() as took:
        for _ in range(200):
            now(queue=well)
    assert took.seconds < 10
    eventually(lambda: ("", sick.name) in status().set_aside)
    assert status().set_aside == (("", sick.name),)

    # One at a time to the sick one, and each ends at its own deadline.
    written = first.publishes
    more = [calling(queue=sick, timeout=1) for _ in range(8)]
    assert {type(call.outcome()) for call in callers} == {ConfirmTimeout}
    outcomes = [call.outcome() for call in more]
    assert {type(error) for error in outcomes} <= {ConfirmTimeout, BrokerUnavailable}
    assert first.publishes - written <= 8
    assert status().connects == 1

    # The majority is back: what is tried then is answered, and the queue is one like others.
    cluster.restart(2)
    eventually(lambda: error_of(queue=sick, timeout=2) is None, timeout=60)
    eventually(lambda: status().set_aside == ())
    now(queue=sick)
    assert status().connects == 1


def test_each_node_killed_in_turn(settings: Any, healed: Cluster, names: Names) -> None:
    """Confirmed by a quorum queue means kept; the process goes on by itself on another node."""
    settings.RMQ_URL = healed.urls
    queue = QueueConfig(names.queue(), queue_type="quorum")
    confirmed: list[str] = []
    not_sent: list[str] = []
    stop = threading.Event()

    def work(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            message_id = f"{thread}.{number}"
            error = error_of(queue=queue, message_id=message_id)
            if error is None:
                confirmed.append(message_id)
            stop.wait(0.02)  # enough of them to be hit, few enough to be read back
            if isinstance(error, BrokerUnavailable):
                not_sent.append(message_id)

    def moves_on() -> None:
        before = len(confirmed)
        eventually(lambda: len(confirmed) > before + 50)

    calls = [Call(lambda number=number: work(number)) for number in range(4)]
    try:
        moves_on()
        for index, node in enumerate(healed.nodes):
            was_on_it = status().node == f"127.0.0.1:{node.port}"
            connects = status().connects
            healed.kill(index)
            moves_on()
            assert not was_on_it or status().connects > connects
            healed.restart(index)
            healed.wait_joined()
        moves_on()
    finally:
        stop.set()
    for call in calls:
        call.value()
    reader = Amqp(healed.urls[0])
    received: list[str] = []

    def all_came() -> bool:
        drained = reader.drain(queue.name)
        received.extend(message.properties.message_id for message in drained)
        return set(confirmed) <= set(received)

    eventually(all_came, timeout=2 * PATIENCE)
    reader.close()
    assert not set(not_sent) & set(received)
    assert len(received) - len(set(received)) <= 3 * 64


def test_the_node_that_is_closed_is_not_waited_for(
    settings: Any, healed: Cluster, names: Names
) -> None:
    healed.kill(0)
    settings.RMQ_URL = healed.urls
    with Took() as took:
        now(queue=QueueConfig(names.queue()))
    assert took.seconds < PATIENCE / 2
    assert status().node == f"127.0.0.1:{healed.nodes[1].port}"


# -- the rig --------------------------------------------------------------------------------------


def test_a_quorum_queue_loses_and_regains_its_majority(cluster: Cluster, names: Names) -> None:
    queue = names.queue()
    cluster.kill(1)
    with client(cluster.urls[0]) as connection:
        channel = confirming(connection)
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        publish(channel, queue, b"two of three")
        cluster.kill(2)
        with Proxy.to(cluster.urls[0]) as proxy, client(proxy.url) as minority:
            second = confirming(minority)
            with (
                beside(lambda: proxy.wait_for_acks(1, 1), proxy.cut),
                pytest.raises(AMQPConnectionError),
            ):
                publish(second, queue, b"one of three")
            assert (proxy.publishes, proxy.acks) == (1, 0)
        cluster.restart(2)
        publish(channel, queue, b"two again")
    cluster.heal()
