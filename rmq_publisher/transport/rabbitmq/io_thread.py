"""One I/O thread: it takes messages from callers, has them written, drains and ends."""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence

from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.rabbitmq.errors import error_place
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.pika_logs import quiet
from rmq_publisher.transport.rabbitmq.robust_connection import RobustConnection
from rmq_publisher.transport.rabbitmq.topology_channels import LOST, Request

logger = logging.getLogger("rmq_publisher.transport")

TICK_SECONDS = 0.25
CLOSE_SECONDS = 1.0  # for AMQP's closing handshake
CLOSED = "the connection was closed"


class IOThread:
    """One I/O thread, and what callers bring to it."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.pid = os.getpid()
        self.usable = True
        self._settings = settings
        self._loop = Loop()
        self._inbox: deque[Sequence[OutgoingMessage]] = deque()
        self._requests: deque[Request] = deque()
        self._awake = False
        self._news = False  # callers brought something
        self._abandoned = False
        self._stopped = False
        self._left = False  # by a fork
        self._close_by: float | None = None
        self._ticking = False
        self.connection = RobustConnection(self._loop, settings)
        self.dispatcher = self.connection.dispatcher
        self._thread = threading.Thread(
            target=self._run, name=f"rmq_publisher {settings.alias}", daemon=True
        )

    # Called by any thread

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: none can be started.
        """
        self._loop.start_thread(self._thread)

    def submit(self, messages: Sequence[OutgoingMessage]) -> bool:
        """Take messages; return False if this thread has ended."""
        if refusal := self.dispatcher.refusal:
            for message in messages:
                message.delivery.fail(refusal)
            return True
        if not self.usable:
            return False
        self._inbox.append(messages)
        self.wake()
        if self._stopped:
            # The thread may have emptied its inbox for the last time before the append.
            for message in messages:
                message.delivery.fail("the I/O thread has ended")
        return True

    def ask(self, request: Request) -> None:
        """Take a request about topology."""
        self._requests.append(request)
        self.wake()
        if self._stopped:
            request.answer([], (LOST, "the I/O thread has ended"))

    def abandoned(self) -> None:
        """Note that callers gave up."""
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
            longest = timeout + CLOSE_SECONDS + TICK_SECONDS
            self._thread.join(min(longest, threading.TIMEOUT_MAX))

    def leave_behind(self) -> None:
        """In a forked child: let go of the parent's sockets without calling pika."""
        self._left = True
        self._loop.leave_behind()

    def status(self) -> Status:
        """Return what is known."""
        return self.connection.status(brought=sum(map(len, tuple(self._inbox))))

    # The thread

    @quiet()
    def _run(self) -> None:
        reason = CLOSED
        try:
            self.connection.connect()
            while not (self._stopped or self.connection.over):
                self._awake = False
                self._loop.turn(wait=not self._news)
                self._awake = True
                if self._left:
                    # gevent's threads live on in a child, where Python counts them as ended: to end
                    # would be an error, and to go on would send the parent's messages again.
                    threading.Event().wait()
                self._cycle()
        except Exception as error:  # noqa: BLE001 (whatever it was, no caller may be left waiting)
            reason = f"the I/O thread died of {type(error).__name__}"
            logger.error("%s: %s at %s", self._settings.alias, reason, error_place(error))
        finally:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self.usable = False
        self._stopped = True
        self.connection.ended(None if reason == CLOSED else reason)
        while self._inbox:
            self.dispatcher.add(self._inbox.popleft())
        self.dispatcher.fail_all(reason)
        while self._requests:
            self._requests.popleft().answer([], (LOST, reason))
        self._loop.end(self.connection.abort, self._settings.alias)

    def _cycle(self) -> None:
        """Once per turn of the loop: take in what callers brought, write what may be written."""
        if self.connection.crash is not None:
            raise self.connection.crash
        self._news = False
        while self._inbox:
            self.dispatcher.add(self._inbox.popleft())
        while self._requests and self.dispatcher.flow.ready:
            request = self._requests.popleft()
            self.connection.ask(request.steps(), request.answer)
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

    def _tick(self) -> None:
        self._ticking = False
        self.dispatcher.tick()
        self.connection.watch()

    def _drain(self) -> None:
        """While closing: end when no caller waits any more, or at the deadline."""
        if self.connection.closing or self._close_by is None:
            return
        if self.dispatcher.idle or monotonic() >= self._close_by:
            self.dispatcher.fail_all("the connection was closed before the confirm")
            self.connection.close(CLOSE_SECONDS)
