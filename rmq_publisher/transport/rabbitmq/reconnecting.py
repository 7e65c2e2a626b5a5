"""Replaces a lost connection with the next: tries the nodes in turn, and pauses between rounds."""

from typing import Generic, TypeVar

from rmq_publisher.conf.broker_url import Node
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.telemetry import outages
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.rabbitmq.connection import Connection
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.node_selection import NodeSelection
from rmq_publisher.transport.rabbitmq.tls import TLSFileError

ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Reconnecting(Generic[ConnectionT]):
    """One connection after the other, all on the I/O thread.

    Attributes:
        over: whether it was closed, and the thread has nothing left to do.
        closing: whether it is being closed, so that no new connection is opened.
        crash: what a callback raised; the thread must end with it.
    """

    def __init__(self, loop: Loop, settings: ConnectionSettings) -> None:
        self.over = self.closing = False
        self.crash: Exception | None = None
        self._loop, self._settings = loop, settings
        self._connection: ConnectionT | None = None
        self._nodes = NodeSelection(settings.nodes, settings.publish_timeout)
        self._last_error = ""

    def _open(self, node: Node) -> ConnectionT:
        """Begin to connect to a node."""
        raise NotImplementedError

    def _on_round_failed(self) -> None:
        """No node could be reached; the next round begins after a pause."""
        raise NotImplementedError

    def connect(self) -> None:
        """Try the next node; a round tries each once."""
        if self.closing:
            return
        try:
            self._connection = self._open(self._nodes.begin(monotonic()))
        except TLSFileError as error:
            self._failed(str(error))

    def _close(self, timeout: float, *, ready: bool) -> None:
        self.closing = True
        if self._connection is not None and ready:
            self._connection.close()
            self._loop.call_later(timeout, self._stop)
        else:
            self._stop()

    def _stop(self) -> None:
        self.over = True

    def abort(self) -> bool:
        """Cut the connection off, if there is one; return whether there is."""
        self.closing = True
        if self._connection is not None:
            self._connection.abort()
        return self._connection is not None

    def on_failed(self, connection: Connection, reason: str) -> None:
        """A node could not be reached."""
        if connection is self._connection:
            self._connection = None
            self._failed(reason)

    def _failed(self, reason: str) -> None:
        reason = self._nodes.addresses.failed(reason)
        self._last_error = f"cannot use RabbitMQ at {self._nodes.node}: {reason}"
        outages.attempt_failed(self._settings.alias, self._last_error)
        if self._nodes.failed():
            self.connect()
            return
        self._on_round_failed()
        self._loop.call_later(self._nodes.delay(), self.connect)

    def on_crashed(self, error: Exception) -> None:
        """A callback raised. pika would log it and carry on, half done; instead, the thread ends."""
        self.crash = error
