"""Keeps one connection open to publish on, and passes its events to the dispatcher."""

import logging
from collections.abc import Iterable, Sequence

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.routes import Config
from rmq_publisher.amqp.validation import Step
from rmq_publisher.conf.broker_url import Node
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.telemetry import outages
from rmq_publisher.timing import monotonic
from rmq_publisher.transport import project
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.rabbitmq.connection import Connection
from rmq_publisher.transport.rabbitmq.dispatcher import Dispatcher
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.naming import connection_name
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.reconnecting import Reconnecting
from rmq_publisher.transport.rabbitmq.topology_channels import (
    LOST,
    NO_CHANNEL,
    OnVerified,
    Refusal,
    Replies,
)
from rmq_publisher.transport.rabbitmq.topology_repair import OnFound

logger = logging.getLogger("rmq_publisher.transport")

FIND_SECONDS = 1.0  # for the project's configs, which may have to be imported


class RobustConnection(Reconnecting[Connection]):
    """One connection after the other, and the dispatcher of what they carry."""

    def __init__(self, loop: Loop, settings: ConnectionSettings) -> None:
        super().__init__(loop, settings)
        self._state = "connecting"
        self._connects = 0
        self._is_finding = False  # the project's configs, on another thread
        self._one_by_one = False  # the last connection was ended by one of several verifications
        self._received = (0, 0.0)  # bytes, and since when no more came
        self.dispatcher = Dispatcher(
            settings.max_in_flight,
            self._write,
            self._verify,
            self._renew_channel,
            deciding=lambda: self._open_connection.deciding,
            note=self._note,
            find=self._find_project,
        )

    def status(self, brought: int) -> Status:
        """Return what is known, to any thread; ``brought`` messages are not taken in yet."""
        connection = self._connection
        node = connection.node if connection else self._nodes.node
        return Status(
            alias=self._settings.alias,
            state=self._state,
            node=str(node),
            vhost=node.vhost,
            tls=node.tls,
            product=connection.product if connection else "",
            blocked=self.dispatcher.flow.blocked,
            in_flight=self.dispatcher.unanswered,
            waiting=self.dispatcher.waiting + brought,
            connects=self._connects,
            last_error=self._last_error,
            set_aside=self.dispatcher.set_aside.destinations(),
        )

    # Called by the I/O thread

    def _open(self, node: Node) -> Connection:
        return Connection(
            self._loop,
            self._settings,
            node,
            connection_name(self._settings),
            self,
            addresses=self._nodes.addresses,
            one_by_one=self._one_by_one,
        )

    def ask(self, steps: Iterable[Step], done: OnVerified) -> None:
        """Run steps of topology; only while the dispatcher is ready."""
        self._open_connection.verify(steps, done)

    def watch(self) -> None:
        """Give the connection up when nothing at all has come for too long; called every tick."""
        connection = self._connection
        if connection is None or not self.dispatcher.unanswered:
            self._received = (-1, monotonic())
            return
        now = monotonic()
        received, since = self._received
        if connection.received != received:
            self._received = (connection.received, now)
        elif not self.dispatcher.flow.blocked and now - since > self._settings.confirm_timeout:
            connection.give_up(f"nothing came for {self._settings.confirm_timeout:g} s")

    def close(self, timeout: float) -> None:
        """Close by AMQP's handshake; `over` is set after ``timeout`` seconds at the latest."""
        was_ready = self.dispatcher.flow.ready
        self.dispatcher.flow.ready = False  # what callers still bring is not sent after the close
        self._close(timeout, ready=was_ready)

    def ended(self, reason: str | None) -> None:
        """Note that the thread has ended, and of what if not by being closed."""
        self._state = "closed"
        if reason is not None:
            self._last_error = reason

    # Called by a connection

    def _on_round_failed(self) -> None:
        self._state = "down"
        self.dispatcher.refuse(self._last_error)

    def on_ready(self, connection: Connection) -> None:
        """Publishing may begin."""
        self._connects += 1
        self._state = "open"
        self._nodes.opened(monotonic())
        self._received = (-1, monotonic())
        logger.info(
            "%s: connected to %s (%s)", self._settings.alias, connection.node, connection.product
        )
        outages.ended(self._settings.alias)
        self.dispatcher.opened(connection.frame_max, cautious=self._one_by_one)

    def on_lost(self, connection: Connection, reason: str) -> None:
        """An open connection is gone; the next attempt is waited for."""
        if connection is not self._connection:
            return
        self._connection = None
        self._one_by_one = connection.undecided
        self._nodes.lost(monotonic(), used=self.dispatcher.answers > 0)
        self.dispatcher.lost(connection.ended_by)
        if self.closing:
            self._stop()
            return
        self._last_error = f"connection to {connection.node} lost: {reason}"
        logger.warning("%s: %s", self._settings.alias, self._last_error)
        self._state = "reconnecting"
        self._loop.call_later(self._nodes.delay(), self.connect)

    def is_publishing(self) -> bool:
        """Whether messages are on the wire."""
        return self.dispatcher.unanswered > 0

    def on_answered(self, tag: int, *, multiple: bool, nack: bool) -> None:
        """An ack or a nack."""
        self.dispatcher.answered(tag, multiple=multiple, nack=nack)

    def on_returned(self, message_id: str, code: int, text: str) -> None:
        """A message came back."""
        self.dispatcher.returned(message_id, code, text)

    def on_channel_closed(self, code: int, text: str) -> None:
        """One of the messages on the wire made the broker close the channel."""
        logger.warning("%s: publishing channel closed: %d %s", self._settings.alias, code, text)
        self.dispatcher.channel_closed(code, text)

    def on_channel_reopened(self) -> None:
        """Publishing may go on."""
        self.dispatcher.reopened()

    def on_blocked(self, reason: str | None) -> None:
        """The broker's alarm, or None: its end."""
        if reason is None:
            logger.warning("%s: RabbitMQ takes messages again", self._settings.alias)
            outages.ended(self._settings.alias)
            self.dispatcher.unblock()
        else:
            logger.warning("%s: RabbitMQ blocks publishing: %s", self._settings.alias, reason)
            self.dispatcher.block(reason)

    # Called by the dispatcher

    @property
    def _open_connection(self) -> Connection:
        assert self._connection is not None  # noqa: S101 (narrowing; only called while it is ready)
        return self._connection

    def _write(self, messages: Sequence[OutgoingMessage]) -> None:
        self._open_connection.write(messages)

    def _note(self, text: str) -> None:
        logger.warning("%s: %s", self._settings.alias, text)

    def _find_project(self, found: OnFound) -> None:
        """Have the project's configs found; an import that takes long counts as none."""
        if self._is_finding:
            found(())
            return
        self._is_finding = True

        def late() -> None:
            waiting.pop()(())

        def came(configs: Sequence[Config]) -> None:
            self._is_finding = False
            self._loop.remove_timeout(timer)
            if waiting:
                waiting.pop()(configs)

        waiting = [found]
        timer = self._loop.call_later(FIND_SECONDS, late)
        project.find(
            self._settings.alias,
            lambda configs: self._loop.add_callback(lambda: came(configs)),
        )

    def _renew_channel(self) -> None:
        logger.info("%s: all is nacked: another channel is tried", self._settings.alias)
        self._open_connection.renew_channel()

    def _verify(self, topology: Topology) -> None:
        def done(_replies: Replies, refusal: Refusal | None) -> None:
            if refusal is not None and refusal[0] == NO_CHANNEL:
                self.dispatcher.cannot_verify(topology, refusal[1])
            elif refusal is None or refusal[0] != LOST:
                self.dispatcher.verified(topology, refusal)
            # Else the connection is gone, and with it what was parked goes to the next one.

        steps = [step for entity in topology for step in entity.steps()]
        self._open_connection.verify(steps, done)
