"""The broker of a run, and the queues that are counted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.rig.amqp import Amqp
from tests.support.rig.ladder import Broker, NoBrokerError, find_broker
from tests.support.rig.node import PrivateNode, server_program

_MEMORY = Path("/dev/shm")  # Linux's file system in memory


def start(*, in_memory: bool = False) -> Broker:
    """A broker that is the benchmark's own, as far as it can be had.

    A local server comes before a container here: a container's network would be measured too.

    Args:
        in_memory: its files are kept in memory, so that no disk is measured.
    """
    alone = "RMQ_TEST_URL" not in os.environ and "RMQ_TEST_RUNG" not in os.environ
    if in_memory and not (alone and server_program() is not None and _MEMORY.is_dir()):
        raise NoBrokerError("--memory needs a local RabbitMQ server, and Linux")
    if not (alone and server_program() is not None):
        return find_broker()
    os.environ["RMQ_TEST_RUNG"] = "local"
    tempfile.tempdir = str(_MEMORY) if in_memory else None
    try:
        return find_broker()
    finally:
        tempfile.tempdir = None
        del os.environ["RMQ_TEST_RUNG"]


def start_with_tls() -> PrivateNode:
    """A local node with TLS, for the contests over TLS.

    Raises:
        NoBrokerError: no RabbitMQ server is installed.
    """
    if server_program() is None:
        raise NoBrokerError("the contests over TLS need a local RabbitMQ server")
    return PrivateNode(tls=True).start()


class Queue:
    """A durable classic queue: emptied before each round and counted after it.

    Args:
        amqp: to declare, empty and count it.
        name: the last part of its name.
        tls: a node with TLS, over which the peers publish.
    """

    def __init__(self, amqp: Amqp, name: str, tls: PrivateNode | None = None) -> None:
        self.name = amqp.declare_queue(f"benchmark.{name}")
        self.url = tls.tls_url() if tls is not None else amqp.url
        self.port = urlsplit(self.url).port or 5672
        self.ca_file = tls.certificates.ca_file if tls and tls.certificates else None
        self._amqp = amqp
        self._id_size: int | None = None

    def purge(self, name: str = "") -> None:
        self._amqp.channel.queue_purge(name or self.name)

    def id_size(self) -> int:
        """Bytes of the ids that the library gives its messages; 0 while none is known."""
        return self._id_size or 0

    def look(self) -> None:
        """Learn it from the first message in the queue, which is taken out."""
        if self._id_size is None:
            _, properties, _ = self._amqp.channel.basic_get(self.name, auto_ack=True)
            self._id_size = len(properties.message_id or "") if properties else None

    def count(self, name: str = "") -> int:
        return self._amqp.depth(name or self.name)
