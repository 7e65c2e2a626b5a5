"""Keeps one connection to consume on: reconnects, and consumes from its queues again."""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from rmq_publisher.amqp.validation import Step
from rmq_publisher.conf.broker_url import Node
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.timing import Backoff, monotonic
from rmq_publisher.transport.consuming import Buffer, Cancelled, Subscription
from rmq_publisher.transport.rabbitmq.connection import Connection
from rmq_publisher.transport.rabbitmq.consume_channel import ConsumeChannel, Sessions
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.naming import connection_name
from rmq_publisher.transport.rabbitmq.reconnecting import Reconnecting
from rmq_publisher.transport.rabbitmq.stream_setup import Services
from rmq_publisher.transport.rabbitmq.topology_channels import LOST, Refusal, Replies

logger = logging.getLogger("rmq_publisher.transport")

Answer = Callable[[Replies, Refusal | None], None]


class _Wanted:
    """A queue that is consumed from whenever that is possible."""

    def __init__(self, subscription: Subscription, answer: Answer | None) -> None:
        self.subscription = subscription
        self.answer = answer  # of the call that waits for its beginning
        self.active = False
        self.backoff = Backoff()


class ConsumeConnection(Connection):
    """A connection whose channel consumes."""

    accepts_locked = False  # consuming from one closes the channel, with what others consume on it

    def __init__(self, buffer: Buffer, sessions: Sessions, *args: Any, **options: Any) -> None:
        self._buffer, self._sessions = buffer, sessions
        super().__init__(*args, **options)

    def _make_channel(self) -> Services:
        owner: Any = self._owner
        self.channel = self._channel = ConsumeChannel(
            self._settings.max_body_size, self._sessions, self._buffer, self._loop,
            self._settings.connect_timeout, owner, self._on_channel_ready, self._on_channel_late,
        )  # fmt: skip
        # Nothing is published on such a connection, so that nothing is confirmed.
        self.channel.services = Services(
            self._loop, self._addresses, self._on_address_failed, lambda *_: None, self.channel
        )
        return self.channel.services


class RobustConsumeConnection(Reconnecting[ConsumeConnection]):
    """One connection after the other, and the queues that are consumed from; all on the I/O thread.

    Attributes:
        product: product and version of the broker; None while there is no connection.
    """

    def __init__(
        self, loop: Loop, settings: ConnectionSettings, buffer: Buffer, sessions: Sessions
    ) -> None:
        super().__init__(loop, settings)
        self._buffer, self._sessions = buffer, sessions
        self.product: str | None = None
        self._ready = self._used = False
        self._wanted: dict[str, _Wanted] = {}
        self._waiting: deque[tuple[tuple[Step, ...], Answer]] = deque()

    # What the thread asks for

    def _open(self, node: Node) -> ConsumeConnection:
        return ConsumeConnection(
            self._buffer, self._sessions, self._loop, self._settings, node,
            f"{connection_name(self._settings)} consumer", self, addresses=self._nodes.addresses,
        )  # fmt: skip

    def settle(self, settled: list[tuple[int, int]]) -> None:
        """Write what was settled on the present channel."""
        if self._connection is not None:
            self._used = True
            self._connection.channel.settle(settled)

    def subscribe(self, subscription: Subscription, answer: Answer) -> None:
        """Consume from a queue; the answer is that of the first time."""
        wanted = self._wanted[subscription.tag] = _Wanted(subscription, answer)
        if self._ready:
            self._take_up(wanted)

    def cancel(self, tag: str, answer: Answer) -> None:
        """Consume from a queue no more."""
        wanted = self._wanted.pop(tag, None)
        if wanted is not None and wanted.active and self._ready and self._connection is not None:
            self._connection.channel.cancel(tag, lambda _refusal: answer([], None))
        else:
            answer([], None)

    def renew(self, answer: Answer) -> None:
        """Open another channel, on which all that is wanted is consumed from."""
        if self._ready and self._connection is not None:
            self._pause()
            self._connection.channel.renew()
        answer([], None)

    def run(self, steps: Iterable[Step], answer: Answer) -> None:
        """Run steps of topology as soon as there is a connection."""
        self._waiting.append((tuple(steps), answer))
        self._run_waiting()

    def _run_waiting(self) -> None:
        while self._waiting and self._ready and self._connection is not None:
            self._connection.verify(*self._waiting.popleft())

    def close(self, timeout: float) -> None:
        """Close the connection by AMQP's handshake; `over` is set after ``timeout`` seconds at most."""
        ready, self._ready = self._ready, False
        self._close(timeout, ready=ready)

    def fail_all(self, reason: str) -> None:
        """Answer all calls that wait, and want nothing any more of what they asked for."""
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            answer([], (LOST, reason))
        for tag, wanted in list(self._wanted.items()):
            if wanted.answer is not None:
                del self._wanted[tag]
                self._answer(wanted, (LOST, reason))

    # Taking queues up

    def _take_up(self, wanted: _Wanted) -> None:
        connection, session = self._connection, self._sessions.current
        is_wanted = self._wanted.get(wanted.subscription.tag) is wanted
        if connection is None or wanted.active or not is_wanted:
            return
        steps = [step for entity in wanted.subscription.topology for step in entity.steps()]

        def verified(_replies: Replies, refusal: Refusal | None) -> None:
            if self._connection is not connection or self._sessions.current != session:
                return  # all is taken up on the channel that has followed
            if refusal is not None:
                self._refused(wanted, refusal)
            elif self._wanted.get(wanted.subscription.tag) is wanted:
                connection.channel.subscribe(wanted.subscription, subscribed)

        def subscribed(refusal: Refusal | None) -> None:
            if refusal is not None:
                self._refused(wanted, refusal)
                return
            wanted.active = True
            wanted.backoff.reset()
            self._answer(wanted, None)

        connection.verify(steps, verified)

    def _answer(self, wanted: _Wanted, refusal: Refusal | None) -> None:
        answer, wanted.answer = wanted.answer, None
        if answer is not None:
            answer([], refusal)

    def _refused(self, wanted: _Wanted, refusal: Refusal) -> None:
        code, text = refusal
        if code == LOST:
            return  # it is taken up on the channel or the connection that follows
        queue, tag = wanted.subscription.queue, wanted.subscription.tag
        if wanted.answer is not None:
            self._wanted.pop(tag, None)
            self._answer(wanted, refusal)
            return
        logger.warning(
            "%s: cannot consume from queue %r: %d %s", self._settings.alias, queue, code, text
        )
        self._loop.call_later(wanted.backoff.delay(), lambda: self._again(wanted))

    def _again(self, wanted: _Wanted) -> None:
        if self._ready:
            self._take_up(wanted)

    def _pause(self) -> list[_Wanted]:
        active = [wanted for wanted in self._wanted.values() if wanted.active]
        for wanted in active:
            wanted.active = False
        return active

    def _take_all_up(self) -> None:
        for wanted in list(self._wanted.values()):
            self._take_up(wanted)

    # What a channel tells

    def cancelled(self, tag: str, reason: str) -> None:
        """The broker cancelled a consumer."""
        wanted = self._wanted.get(tag)
        if wanted is None:
            return
        wanted.active = False
        self._tell_cancelled(wanted, reason)
        self._loop.call_later(wanted.backoff.delay(), lambda: self._again(wanted))

    def channel_closed(self, code: int, text: str) -> None:
        """The broker closed the channel: nobody acknowledged in time, or a queue was refused."""
        for wanted in self._pause():
            self._tell_cancelled(wanted, f"{code} {text}")

    def _tell_cancelled(self, wanted: _Wanted, reason: str) -> None:
        queue = wanted.subscription.queue
        logger.warning("%s: consumer of queue %r: %s", self._settings.alias, queue, reason)
        self._buffer.put([Cancelled(wanted.subscription.tag, reason)])

    # What a connection tells

    def on_ready(self, connection: Connection) -> None:
        """Consuming may begin."""
        self._ready, self._used = True, False
        self._nodes.opened(monotonic())
        self.product = product = connection.product
        logger.info("%s: consuming from %s (%s)", self._settings.alias, connection.node, product)
        self._run_waiting()
        self._take_all_up()

    def on_channel_reopened(self) -> None:
        """Consuming may go on."""
        self._take_all_up()

    def _on_round_failed(self) -> None:
        self.fail_all(self._last_error)

    def on_lost(self, connection: Connection, reason: str) -> None:
        """An open connection is gone."""
        if connection is not self._connection:
            return
        self._connection = self.product = None
        self._ready = False
        self._sessions.end()
        self._pause()
        if self.closing:
            self._stop()
            return
        self._nodes.lost(monotonic(), used=self._used)
        alias = self._settings.alias
        logger.warning("%s: consumer's connection to %s lost: %s", alias, connection.node, reason)
        self._loop.call_later(self._nodes.delay(), self.connect)

    def on_blocked(self, reason: str | None) -> None:
        """A broker that blocks publishers does not block a connection that only consumes."""

    def is_publishing(self) -> bool:
        """Return False: nothing is published here."""
        return False
