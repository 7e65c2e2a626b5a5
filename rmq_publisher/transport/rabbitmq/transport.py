"""The transport over AMQP, as callers hold it: one I/O thread and one connection at a time.

When that thread dies, is closed, or was left behind by a fork, the next call starts another one.
"""

import os
import threading
from collections.abc import Sequence

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.exceptions import BrokerUnavailable, PublishError, Rejected
from rmq_publisher.transport.base import Status, closing_seconds
from rmq_publisher.transport.broker_guard import check_allowed
from rmq_publisher.transport.consuming import Source
from rmq_publisher.transport.outcome import Declared, Delivery
from rmq_publisher.transport.rabbitmq.consume_thread import ConsumeThread
from rmq_publisher.transport.rabbitmq.errors import why_not_started
from rmq_publisher.transport.rabbitmq.frames import marshal
from rmq_publisher.transport.rabbitmq.io_thread import IOThread
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.topology_channels import LOST, Request


class AmqpTransport:
    """RabbitMQ as one process reaches it, until its settings change."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._thread: IOThread | None = None
        self._not_started = ""  # why the last attempt to start a thread failed

    def __repr__(self) -> str:
        return f"<AmqpTransport {self.settings.alias}>"

    def _running(self) -> IOThread:
        check_allowed(self.settings)
        thread = self._thread
        if thread is not None and thread.usable and thread.pid == os.getpid():
            return thread
        with self._lock:
            thread = self._thread
            if thread is None or not thread.usable or thread.pid != os.getpid():
                thread = self._start()
            return thread

    def _start(self) -> IOThread:
        """Start an I/O thread.

        Raises:
            BrokerUnavailable: this process has no thread, descriptor or memory left for one.
        """
        try:
            thread = IOThread(self.settings)
            thread.start()
        except Exception as error:
            self._not_started = f"no connection {self.settings.alias!r}: {why_not_started(error)}"
            raise BrokerUnavailable(self._not_started) from error
        self._not_started = ""
        self._thread = thread
        return thread

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries, in order.

        Raises:
            BrokerUnavailable: no I/O thread can be started.
        """
        messages = [
            OutgoingMessage(delivery, marshal(delivery.envelope)) for delivery in deliveries
        ]
        while not self._running().submit(messages):
            pass

    def abandoned(self) -> None:
        """Note that callers gave up."""
        thread = self._thread
        if thread is not None:
            thread.abandoned()

    def declare(self, topology: Topology, timeout: float) -> list[Declared]:
        """Declare or verify on a separate channel, in order; stop at the first refusal.

        Args:
            topology: what to declare (configs) or verify (names).
            timeout: seconds.

        Raises:
            Rejected: the broker refused; ``reply_code`` and ``reply_text`` are its words.
            BrokerUnavailable: no connection, or no answer in time.
        """
        request = Request(topology)
        self._running().ask(request)
        if not request.answered.wait(timeout):
            status = self.status()
            raise BrokerUnavailable(
                f"no answer from RabbitMQ at {status.node} within {timeout:g} s ({status.state})"
                + (f": {status.last_error}" if status.last_error else "")
            )
        if request.refusal is None:
            return request.replies
        code, text = request.refusal
        raise _refused(topology, len(request.replies), code, text)

    def open_source(self) -> Source:
        """Return a consumer's connection, which begins to connect.

        Raises:
            BrokerUnavailable: no I/O thread can be started.
        """
        check_allowed(self.settings)
        try:
            thread = ConsumeThread(self.settings)
            thread.start()
        except Exception as error:
            reason = f"no consumer {self.settings.alias!r}: {why_not_started(error)}"
            raise BrokerUnavailable(reason) from error
        return thread

    def status(self) -> Status:
        """Return what is known now; nothing is asked."""
        thread = self._thread
        if thread is not None:
            return thread.status()
        node, reason = self.settings.nodes[0], self._not_started
        return Status(
            self.settings.alias,
            "down" if reason else "closed",
            str(node),
            node.vhost,
            node.tls,
            last_error=reason,
        )

    def close(self, timeout: float | None = None) -> None:
        """Drain what is in flight for at most ``timeout`` seconds, then close.

        The next publish opens a connection again. ``timeout`` defaults to RMQ_PUBLISH_TIMEOUT.

        Raises:
            TypeError, ValueError: ``timeout`` is no number of seconds; nothing is closed.
        """
        seconds = closing_seconds(self.settings, timeout)
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.pid == os.getpid():
            thread.close(seconds)

    def leave_behind(self) -> None:
        """In a forked child: let go of the parent's I/O thread."""
        if self._thread is not None:
            self._thread.leave_behind()


def _refused(topology: Topology, answered: int, code: int, text: str) -> PublishError:
    if code <= LOST:
        return BrokerUnavailable(text)
    names = [step.entity for entity in topology for step in entity.steps()]
    error = Rejected(code, text)
    if answered < len(names):
        error.add_note(f"while declaring {names[answered]}")
    return error
