"""Where scenarios take place: a node, a cluster, a proxy, and the library pointed at them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self

from django.test import override_settings

from rmq_publisher import connections
from tests.support.rig import wire
from tests.support.rig.amqp import Amqp, Received
from tests.support.rig.cluster import Cluster
from tests.support.rig.node import PrivateNode
from tests.support.rig.proxy import Proxy

from .plan import Size

PATIENCE = 60.0  # seconds: what takes longer hangs


class Stage:
    """Starts what is asked for, once, and ends it all."""

    def __init__(
        self,
        size: Size,
        seed: int,
        *,
        node: PrivateNode | None = None,
        cluster: Callable[[], Cluster] | None = None,
    ) -> None:
        """Without a node or a cluster it starts its own, once one is needed."""
        self.size = size
        self._given_node = node
        self._given_cluster = cluster
        self.seed = seed
        self._endings: list[Callable[[], None]] = []
        self._names = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        connections["default"].close(1)
        while self._endings:
            self._endings.pop()()

    def chance(self, scenario: str) -> random.Random:
        """What is random in a scenario, whatever else runs."""
        return random.Random(f"{self.seed} {scenario}")

    def name(self, what: str) -> str:
        """A name that nobody else uses."""
        self._names += 1
        return f"faults.{what}.{self._names}"

    @cached_property
    def node(self) -> PrivateNode:
        """A node to freeze and block."""
        if self._given_node is not None:
            return self._given_node
        node = PrivateNode()
        self._endings.append(node.discard)
        return node.start()

    @cached_property
    def cluster(self) -> Cluster:
        """Three nodes to kill."""
        if self._given_cluster is not None:
            return self._given_cluster()
        cluster = Cluster()
        self._endings.append(cluster.discard)
        return cluster.start()

    @property
    def broker(self) -> str:
        """Product and version of what runs."""
        url = self.cluster.urls[0] if "cluster" in vars(self) else self.node.url()
        return wire.product(url)

    @contextmanager
    def proxy(self, url: str = "") -> Iterator[Proxy]:
        """A proxy in front of the node, or of another one."""
        with Proxy.to(url or self.node.url()) as proxy:
            yield proxy

    @contextmanager
    def library(self, url: str | list[str], **settings: Any) -> Iterator[None]:
        """The library publishes there; its connection is closed afterwards."""
        named = {f"RMQ_{name}": value for name, value in settings.items()}
        with override_settings(RMQ_URL=url, **named):
            try:
                yield
            finally:
                connections["default"].close(1)

    def declare(self, queue: str) -> None:
        """A durable queue on the node."""
        amqp = Amqp(self.node.url())
        amqp.channel.queue_declare(queue, durable=True)
        amqp.close()

    def read(self, url: str, queue: str, expected: int) -> list[Received]:
        """All that a queue holds; waits until `expected` came, and takes the surplus as well."""
        amqp = Amqp(url)
        received: list[Received] = []

        def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            received.append(Received(method, properties, body))
            if len(received) % 1000 == 0:  # a quorum queue holds back at 2,000
                channel.basic_ack(method.delivery_tag, multiple=True)

        deadline = time.monotonic() + PATIENCE
        tag = amqp.channel.basic_consume(queue, take)
        while len(received) < expected and time.monotonic() < deadline:
            amqp.connection.process_data_events(time_limit=0.1)
        amqp.channel.basic_cancel(tag)
        if received:
            amqp.channel.basic_ack(received[-1].method.delivery_tag, multiple=True)
        received += amqp.drain(queue)
        amqp.close()
        return received


def until(holds: Callable[[], Any], seconds: float = PATIENCE) -> bool:
    """Wait for a state that has no event; tell whether it came."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
