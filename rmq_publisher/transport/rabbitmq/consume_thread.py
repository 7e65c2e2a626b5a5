"""The I/O thread of one consumer: it takes deliveries in, writes what was settled, and closes."""

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from rmq_publisher.amqp.validation import Step
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.exceptions import BrokerUnavailable, Rejected
from rmq_publisher.process.lifecycle import InChild, register
from rmq_publisher.transport.consuming import Buffer, Delivered, Item, Subscription
from rmq_publisher.transport.outcome import Declared
from rmq_publisher.transport.rabbitmq.consume_channel import Sessions
from rmq_publisher.transport.rabbitmq.consume_connection import Answer, RobustConsumeConnection
from rmq_publisher.transport.rabbitmq.errors import error_place
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.pika_logs import quiet
from rmq_publisher.transport.rabbitmq.topology_channels import LOST, Refusal, Replies

logger = logging.getLogger("rmq_publisher.transport")

LINGER = 0.001  # seconds in which more may be settled without waking the thread
CLOSE_SECONDS = 1.0  # beyond what a close was given, for the thread to end

_living: "weakref.WeakSet[ConsumeThread]" = weakref.WeakSet()


class _Question:
    """What a caller asks of the thread, and the answer."""

    def __init__(self, begin: Callable[[Answer], None]) -> None:
        self.begin = begin
        self.replies: Replies = []
        self.refusal: Refusal | None = None
        self.answered = threading.Event()

    def answer(self, replies: Replies, refusal: Refusal | None) -> None:
        """Take the answer."""
        self.replies, self.refusal = replies, refusal
        self.answered.set()


class ConsumeThread:
    """One I/O thread with a connection of its own (a `Source`).

    Args:
        settings: of the RabbitMQ alias.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._loop = Loop()
        self._buffer = Buffer()
        self._sessions = Sessions()
        self._questions: deque[_Question] = deque()
        self._settled: deque[tuple[int, int, int]] = deque()
        self._awake = False
        self._news = False
        self._flushed = False  # in the last cycle
        self._ended = ""  # why the thread has ended
        self._left = False  # by a fork
        self._close_seconds: float | None = None
        self._connection = RobustConsumeConnection(
            self._loop, settings, self._buffer, self._sessions
        )
        self._thread = threading.Thread(
            target=self._run, name=f"rmq_publisher consumer {settings.alias}", daemon=True
        )
        _living.add(self)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: none can be started.
        """
        self._loop.start_thread(self._thread)

    # Called by any thread

    def _wake(self) -> None:
        # As in `io_thread.IOThread.wake`: cleared before the thread looks for news a last time.
        self._news = True
        if not self._awake:
            self._awake = True
            self._loop.wake()

    def _ask(self, begin: Callable[[Answer], None], timeout: float) -> list[Declared]:
        question = _Question(begin)
        self._questions.append(question)
        self._wake()
        if self._ended:
            question.answer([], (LOST, self._ended))
        if not question.answered.wait(timeout):
            raise BrokerUnavailable(
                f"no answer from RabbitMQ (alias {self._settings.alias!r}) within {timeout:g} s"
            )
        if question.refusal is None:
            return question.replies
        code, text = question.refusal
        raise Rejected(code, text) if code > LOST else BrokerUnavailable(text)

    def subscribe(self, subscription: Subscription, timeout: float) -> None:
        """Consume from a queue, now and after every lost connection.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked within ``timeout`` seconds.
        """
        try:
            self._ask(partial(self._connection.subscribe, subscription), timeout)
        except BrokerUnavailable:
            self._questions.append(_Question(partial(self._connection.cancel, subscription.tag)))
            self._wake()
            raise

    def cancel(self, tag: str, timeout: float) -> None:
        """Stop consuming; what has been delivered may still be taken and settled."""
        self._ask(partial(self._connection.cancel, tag), timeout)

    def renew(self, timeout: float) -> None:
        """Return all unsettled messages to the broker, and consume again."""
        self._ask(self._connection.renew, timeout)

    def run(self, steps: Sequence[Step], timeout: float) -> list[Declared]:
        """Run steps of topology in order; raises as `subscribe` does."""
        return self._ask(partial(self._connection.run, steps), timeout)

    def take(self, timeout: float | None, over: Callable[[], bool]) -> Item | None:
        """Return what came, in order; None after ``timeout`` seconds or once ``over()`` is true.

        Raises:
            BrokerUnavailable: the thread has ended.
        """
        item = self._buffer.get()
        if item is None and not self._ended:
            if self._settled:  # the broker may send nothing before it has these
                self._loop.wake()
            item = self._buffer.wait(timeout, lambda: bool(self._ended) or over())
        if item is None and self._ended and not over():
            raise BrokerUnavailable(f"the consumer's thread has ended: {self._ended}")
        return item

    def settle(self, delivered: Delivered, verdict: int) -> bool:
        """Settle a delivery; return False where the channel that brought it is lost."""
        session = delivered.session
        if session != self._sessions.current or self._ended:
            return False
        self._settled.append((session, delivered.tag, verdict))
        self._wake()
        return True

    def is_current(self, delivered: Delivered) -> bool:
        """Return whether a delivery can still be settled."""
        return delivered.session == self._sessions.current

    @property
    def broker(self) -> str | None:
        """Product and version of the broker; None without a connection."""
        return self._connection.product

    def wake(self) -> None:
        """Have all threads in `take` call ``over()`` again."""
        self._buffer.wake()

    def close(self, timeout: float) -> None:
        """Send the acks, return unsettled messages, and close."""
        if self._pid != os.getpid():
            return
        self._close_seconds = timeout
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(min(timeout + CLOSE_SECONDS, threading.TIMEOUT_MAX))

    def leave_behind(self) -> None:
        """In a forked child: let go of the parent's socket."""
        self._left = True
        self._buffer = Buffer()  # what came is redelivered by the broker, to the parent
        self._ended = "it belongs to the parent process"
        self._sessions.end()
        self._loop.leave_behind()

    # The thread

    @quiet()
    def _run(self) -> None:
        reason = "it was closed"
        try:
            self._connection.connect()
            while not self._connection.over:
                if self._flushed:
                    # More are often settled soon, and being woken for each would cost more than that.
                    self._loop.turn(wait=not self._news, longest=LINGER)
                else:
                    self._awake = False
                    self._loop.turn(wait=not self._news)
                    self._awake = True
                if self._left:
                    threading.Event().wait()  # as in `io_thread.IOThread`
                self._cycle()
        except Exception as error:  # noqa: BLE001 (whatever it died of, nobody may wait for it)
            reason = f"it died of {type(error).__name__}"
            logger.error(
                "%s: the consumer's thread: %s at %s",
                self._settings.alias,
                reason,
                error_place(error),
            )
        finally:
            self._end(reason)

    def _cycle(self) -> None:
        if self._connection.crash is not None:
            raise self._connection.crash
        self._news = False
        # Read before the flush: what was settled before the close must be sent before it.
        close_seconds = self._close_seconds
        self._flushed = self._flush()
        while self._questions:
            question = self._questions.popleft()
            question.begin(question.answer)
        if close_seconds is not None and not self._connection.closing:
            self._connection.close(close_seconds)

    def _flush(self) -> bool:
        """Write what was settled; return whether there was anything."""
        settled = self._settled
        if not settled:
            return False
        current = self._sessions.current
        items = []
        while settled:
            session, tag, verdict = settled.popleft()
            if session == current:
                items.append((tag, verdict))
        if items:
            self._connection.settle(items)
        return True

    def _end(self, reason: str) -> None:
        self._ended = reason
        self._sessions.end()
        self._connection.fail_all(reason)
        while self._questions:
            self._questions.popleft().answer([], (LOST, reason))
        self._loop.end(self._connection.abort, self._settings.alias)
        self._buffer.wake()


def _after_fork() -> None:
    for thread in list(_living):
        thread.leave_behind()


register(InChild.CONSUMERS, _after_fork)
