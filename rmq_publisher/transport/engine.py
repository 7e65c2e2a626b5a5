"""One life of an I/O thread: it connects, writes what waits, hears the answers, connects again."""

import logging
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from rmq_publisher.conf import ConnectionSettings
from rmq_publisher.topology import Topology
from rmq_publisher.transport.base import Delivery, Status, monotonic
from rmq_publisher.transport.dispatch import Dispatcher
from rmq_publisher.transport.link import Link
from rmq_publisher.transport.loop import Loop
from rmq_publisher.transport.route import Route
from rmq_publisher.transport.verification import LOST, Refusal, Replies, Request

logger = logging.getLogger("rmq_publisher.transport")

TICK_SECONDS = 0.25
CLOSE_SECONDS = 1.0  # for the polite end of a connection
CLOSING_TURNS = 20  # of the loop, more than pika takes to close a socket


class Engine:
    """One I/O thread: it connects, writes what waits, hears the answers, connects again."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.pid = os.getpid()
        self.state = "connecting"
        self.connects = 0
        self.last_error = ""
        self.usable = True
        self._settings = settings
        self._loop = Loop()
        self._inbox: deque[Sequence[Delivery]] = deque()
        self._requests: deque[Request] = deque()
        self._awake = False
        self._news = False  # callers brought something
        self._abandoned = False
        self._stopped = False
        self._close_by: float | None = None
        self._closing = False
        self._link: Link | None = None
        self._one_by_one = False  # a verification ended the last connection, not known which
        self._route = Route(settings.nodes)
        self._crash: Exception | None = None
        self._ticking = False
        self._received = (0, 0.0)  # bytes, and since when no more came
        self.dispatcher = Dispatcher(
            settings.max_in_flight, self._write, self._verify, self._renew_channel
        )
        self._thread = threading.Thread(
            target=self._run, name=f"rmq_publisher {settings.alias}", daemon=True
        )

    # Called by any thread

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the interpreter is shutting down (Python 3.12 and later).
        """
        self._thread.start()

    def submit(self, deliveries: Sequence[Delivery]) -> bool:
        """Take deliveries; return False where this engine is over."""
        if refusal := self.dispatcher.refusal:
            for delivery in deliveries:
                delivery.fail(refusal)
            return True
        if not self.usable:
            return False
        self._inbox.append(deliveries)
        self.wake()
        if self._stopped:
            # The thread may have emptied its inbox for the last time before the append.
            for delivery in deliveries:
                delivery.fail("the I/O thread has ended")
        return True

    def ask(self, request: Request) -> None:
        """Take a request about topology."""
        self._requests.append(request)
        self.wake()
        if self._stopped:
            request.answer([], (LOST, "the I/O thread has ended"))

    def abandoned(self) -> None:
        """Be told that callers gave up."""
        self._abandoned = True
        self.wake()

    def wake(self) -> None:
        """Have the thread look at what is new."""
        # `_awake` is cleared before the thread looks for news a last time and goes to sleep: whoever
        # finds it set is certain to be seen.
        self._news = True
        if not self._awake:
            self._awake = True
            self._loop.wake()

    def close(self, timeout: float) -> None:
        """Drain for at most ``timeout`` seconds, close, and end the thread."""
        self.usable = False
        self._close_by = monotonic() + timeout
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout + CLOSE_SECONDS + TICK_SECONDS)

    def leave_behind(self) -> None:
        """In a forked child: let go of the parent's sockets without calling pika.

        The descriptors stay taken, by the null device, so that nothing closes a number in use. Else
        the child would hold the parent's connection open after the parent's death.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._loop.descriptors:
            os.dup2(null, descriptor)
        os.close(null)

    def status(self) -> Status:
        """Return what is known."""
        link = self._link
        node = link.node if link else self._route.node
        return Status(
            alias=self._settings.alias,
            state=self.state,
            node=str(node),
            vhost=node.vhost,
            tls=node.tls,
            product=link.product if link else "",
            blocked=self.dispatcher.blocked,
            in_flight=self.dispatcher.unanswered,
            waiting=self.dispatcher.waiting + sum(map(len, tuple(self._inbox))),
            connects=self.connects,
            last_error=self.last_error,
            set_aside=self.dispatcher.set_aside.destinations(),
        )

    # The thread

    def _run(self) -> None:
        reason = "the connection was closed"
        try:
            self._connect()
            while not self._stopped:
                self._awake = False
                self._loop.turn(wait=not self._news)
                self._awake = True
                self._cycle()
        except Exception as error:  # noqa: BLE001 (rule 12: whatever it died of, nobody may wait for it)
            reason = f"the I/O thread died of {type(error).__name__}"
            logger.error("%s: %s at %s", self._settings.alias, reason, _place(error))
        finally:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self.usable = False
        self._stopped = True
        self.state = "closed"
        self.last_error = self.last_error if reason == "the connection was closed" else reason
        while self._inbox:
            self.dispatcher.add(self._inbox.popleft())
        self.dispatcher.fail_all(reason)
        while self._requests:
            self._requests.popleft().answer([], (LOST, reason))
        try:
            self._let_go()
        except Exception as error:  # noqa: BLE001 (nobody waits any more, whatever pika says)
            logger.debug("%s: letting go: %s", self._settings.alias, type(error).__name__)
        self._loop.close()

    def _let_go(self) -> None:
        """Cut off what is left of the connection, and let pika close its socket.

        It does so in the turns of the loop that follow; each is made to return at once. One that is
        still being opened may come by a socket in any of them.
        """
        self._closing = True
        if self._link is not None:
            for _ in range(CLOSING_TURNS):
                self._link.abort()
                self._loop.turn(wait=False)

    def _cycle(self) -> None:
        """Once per turn of the loop: take in what callers brought, write what may be written."""
        if self._crash is not None:
            raise self._crash
        self._news = False
        while self._inbox:
            self.dispatcher.add(self._inbox.popleft())
        while self._requests and self._link is not None and self.dispatcher.ready:
            request = self._requests.popleft()
            self._link.verify(request.steps(), request.answer)
        while self._requests and self.dispatcher.refusal:
            self._requests.popleft().answer([], (LOST, self.dispatcher.refusal))
        if self._abandoned:
            self._abandoned = False
            self.dispatcher.reap()
        self.dispatcher.pump()
        if not self._ticking and (self.dispatcher.unanswered or self._close_by is not None):
            self._ticking = True
            self._loop.call_later(TICK_SECONDS, self._tick)
        if self._close_by is not None:
            self._drain()
        self._loop.flush()  # last: all of the above may have written

    def _tick(self) -> None:
        self._ticking = False
        self.dispatcher.tick()
        link = self._link
        if link is None or not self.dispatcher.unanswered:
            self._received = (-1, monotonic())
            return
        now = monotonic()
        received, since = self._received
        if link.received != received:
            self._received = (link.received, now)
        elif not self.dispatcher.blocked and now - since > self._settings.confirm_timeout:
            link.give_up(f"nothing came for {self._settings.confirm_timeout:g} s")

    def _drain(self) -> None:
        """While closing: end when nobody waits any more, or at the deadline."""
        if self._closing or self._close_by is None:
            return
        if self.dispatcher.idle or monotonic() >= self._close_by:
            self._closing = True
            self.dispatcher.fail_all("the connection was closed before the confirm")
            was_ready = self.dispatcher.ready
            self.dispatcher.ready = False  # what a caller still brings is not sent after the close
            if self._link is not None and was_ready:
                self._link.close()
                self._loop.call_later(CLOSE_SECONDS, self._stop)
            else:
                self._stop()

    def _stop(self) -> None:
        self._stopped = True

    # Connecting

    def _connect(self) -> None:
        """Try the next node; a round tries each once."""
        if self._closing:
            return
        settings, node = self._settings, self._route.node
        name = f"{socket.gethostname()} {_program()}[{self.pid}] {settings.alias}"
        try:
            self._link = Link(self._loop, settings, node, name, self, one_by_one=self._one_by_one)
        except OSError as error:  # a certificate or key file; ssl.SSLError is one
            self._failed(f"RMQ_TLS: {error.strerror or type(error).__name__}")

    def link_failed(self, link: Link, reason: str) -> None:
        """A node could not be reached."""
        if link is self._link:
            self._link = None
            self._failed(reason)

    def _failed(self, reason: str) -> None:
        self.last_error = (
            f"cannot use RabbitMQ at {self._route.node} (alias {self._settings.alias!r}): {reason}"
        )
        logger.warning("%s", self.last_error)
        if self._route.failed():
            self._connect()
            return
        self.state = "down"
        self.dispatcher.refuse(self.last_error)
        self._loop.call_later(self._route.delay(), self._connect)

    def link_ready(self, link: Link) -> None:
        """Publishing may begin."""
        self.connects += 1
        self.state = "open"
        self._route.opened(monotonic())
        self._received = (-1, monotonic())
        logger.info("%s: connected to %s (%s)", self._settings.alias, link.node, link.product)
        self.dispatcher.opened(link.frame_max)

    def link_lost(self, link: Link, reason: str) -> None:
        """An open connection is gone; the next attempt is waited for."""
        if link is not self._link:
            return
        self._link = None
        self._one_by_one = link.undecided
        self._route.lost(monotonic(), used=self.dispatcher.answers > 0)
        self.dispatcher.lost()
        if self._closing:
            self._stop()
            return
        self.last_error = f"connection to {link.node} lost: {reason}"
        logger.warning("%s: %s", self._settings.alias, self.last_error)
        self.state = "reconnecting"
        self._loop.call_later(self._route.delay(), self._connect)

    # What a link tells

    def link_crashed(self, error: Exception) -> None:
        """A callback raised. pika would log it and go on with what is half done: the thread ends."""
        self._crash = error

    def link_answered(self, tag: int, *, multiple: bool, nack: bool) -> None:
        """An ack or a nack."""
        self.dispatcher.answered(tag, multiple=multiple, nack=nack)

    def link_returned(self, message_id: str, code: int, text: str) -> None:
        """A message came back."""
        self.dispatcher.returned(message_id, code, text)

    def link_channel_closed(self, code: int, text: str) -> None:
        """One of the messages on the wire made the broker close the channel."""
        logger.warning("%s: publishing channel closed: %d %s", self._settings.alias, code, text)
        self.dispatcher.channel_closed(code, text)

    def link_channel_reopened(self) -> None:
        """Publishing may go on."""
        self.dispatcher.reopened()

    def link_blocked(self, reason: str | None) -> None:
        """The broker's alarm, or None: its end."""
        if reason is None:
            logger.warning("%s: RabbitMQ takes messages again", self._settings.alias)
            self.dispatcher.unblock()
        else:
            logger.warning("%s: RabbitMQ blocks publishing: %s", self._settings.alias, reason)
            self.dispatcher.block(reason)

    # What the dispatcher asks for

    def _write(self, deliveries: Sequence[Delivery]) -> None:
        assert self._link is not None  # noqa: S101 (narrowing; it writes only while ready)
        self._link.write(deliveries)

    def _renew_channel(self) -> None:
        assert self._link is not None  # noqa: S101 (narrowing; it asks only while ready)
        logger.info("%s: all is nacked: another channel is tried", self._settings.alias)
        self._link.renew_channel()

    def _verify(self, topology: Topology) -> None:
        assert self._link is not None  # noqa: S101 (narrowing; it verifies only while ready)

        def done(_replies: Replies, refusal: Refusal | None) -> None:
            if refusal is None or refusal[0] != LOST:
                self.dispatcher.verified(topology, refusal)
            # Else the connection is gone, and with it what was parked goes to the next one.

        steps = [step for entity in topology for step in entity.steps()]
        self._link.verify(steps, done)


def _program() -> str:
    """What an operator recognises this process by, besides its number."""
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return name.encode("utf-8", "backslashreplace").decode()  # argv may hold any bytes


def _place(error: BaseException) -> str:
    """Where an error was raised; its text may carry values and is not told."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
