"""One queue of a worker: its consumer, its threads, and its pauses while nothing can be handled."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from rmq_publisher.consumer.budget import Budget
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import Ended, Outcome
from rmq_publisher.exceptions import BrokerUnavailable, PublishError
from rmq_publisher.timing import Backoff, monotonic

logger = logging.getLogger("rmq_publisher.consumer")

IDLE_SECONDS = 1.0  # without a message, after which a thread releases its resources
MAX_PAUSE = 30.0  # seconds between checks whether messages can be handled again


class Work(Protocol):
    """What a worker does with the messages of a queue; called by several threads at once.

    Attributes:
        name: for log lines and output.
        batch: the largest number of messages for one call of `handle`.
        timeout: seconds that a run may take; None for no limit.
        keeps: whether messages are kept during a pause, because a stream cannot take them back.
    """

    name: str
    batch: int
    timeout: float | None
    keeps: bool

    def handle(self, messages: Sequence[ReceivedMessage]) -> Sequence[Outcome]:
        """Handle messages and settle them; return how each ended.

        It never raises. Messages with the outcome `Ended.NOT_AN_ATTEMPT` are left unsettled: the queue
        pauses, and they are returned to it.
        """

    def is_possible(self, outcome: Outcome) -> bool:
        """Return whether messages can be handled again after this outcome, as far as is known."""

    def overran(self, messages: Sequence[ReceivedMessage]) -> None:
        """Record that handling these took too long, in a process that is about to end."""

    def close(self) -> None:
        """Release everything, after the threads have ended and before the consumer is closed."""

    def idle(self) -> None:
        """Release what a thread does not need while there are no messages."""

    def thread_ends(self) -> None:
        """Release everything that a thread holds."""


class LaneQueue(Protocol):
    """Where a lane's messages come from: a `WorkerQueue`."""

    @property
    def is_connected(self) -> bool: ...  # noqa: D102
    def consume(self) -> object: ...  # noqa: D102
    def take(self, timeout: float, over: Callable[[], bool]) -> ReceivedMessage | None: ...  # noqa: D102
    def wake(self) -> None: ...  # noqa: D102
    def put_back(self, message: ReceivedMessage) -> bool: ...  # noqa: D102
    def give_back(self) -> int: ...  # noqa: D102
    def end(self, *, keeps: bool) -> None: ...  # noqa: D102


class Run:
    """What one thread is doing.

    Attributes:
        messages: those being handled; empty in between.
        since: when their handling began, by `timing.monotonic`.
        is_reported: whether it was reported as too long.
    """

    __slots__ = ("is_reported", "messages", "since")

    def __init__(self) -> None:
        self.messages: Sequence[ReceivedMessage] = ()
        self.since = 0.0
        self.is_reported = False


class Lane:
    """A queue and the threads that handle its messages.

    Args:
        consumer: receives the messages; the lane closes it.
        work: what is done with each message.
        threads: how many run at once.
        budget: how many messages may be handled, over all lanes.
        on_change: called, by any thread, when the worker should look.

    Attributes:
        counts: the number of messages, by how they ended.
        crash: an unexpected exception that ended a thread.
        stopping: whether threads stop taking messages; signal handlers may set it before `stop`.
    """

    def __init__(
        self,
        consumer: LaneQueue,
        work: Work,
        threads: int,
        budget: Budget,
        on_change: Callable[[], None],
    ) -> None:
        self.work = work
        self.counts: Counter[Ended] = Counter()
        self.crash: BaseException | None = None
        self._consumer = consumer
        self._budget = budget
        self._on_change = on_change
        self.stopping = False
        self._lock = threading.Lock()
        self._pausing = False
        self._resumed = threading.Event()
        self._stopped = threading.Event()
        self._backoff = Backoff(first=0.1, cap=MAX_PAUSE)
        self._busy_at = monotonic()
        self.runs = [Run() for _ in range(threads)]
        self._threads = [
            threading.Thread(
                target=self._thread, args=(run,), name=f"rmq {work.name} {number}", daemon=True
            )
            for number, run in enumerate(self.runs)
        ]

    # Called by the worker

    def begin(self) -> None:
        """Consume from the queue.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        self._consumer.consume()

    def start(self) -> None:
        """Start the threads."""
        self._busy_at = monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have the threads end after the messages that they are handling."""
        self.stopping = True
        self._stopped.set()
        self._resumed.set()
        self._consumer.wake()

    def join(self, deadline: float) -> int:
        """Wait for the threads until a deadline; return how many are still running."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """Send the acks, and return unsettled messages to the queue."""
        self.work.close()
        self._consumer.end(keeps=self.work.keeps)

    @property
    def is_idle(self) -> bool:
        """Whether the queue has been empty for a second."""
        return (
            self._consumer.is_connected
            and not self._pausing
            and not any(run.messages for run in self.runs)
            and monotonic() - self._busy_at >= IDLE_SECONDS
        )

    # The threads

    def _thread(self, run: Run) -> None:
        try:
            while not self.stopping and self._cycle(run):
                pass
        except BaseException as error:  # noqa: BLE001 (the worker ends with it)
            self.crash = error
        finally:
            self.work.thread_ends()
            self._on_change()

    def _cycle(self, run: Run) -> bool:
        """Handle the next messages; return False when no more may be handled."""
        if self._pausing:
            self._resumed.wait()
            return True
        allowed = self._budget.take(self.work.batch)
        if not allowed:
            return not self._budget.wait(self._is_over)
        messages = self._receive(allowed)
        if len(messages) < allowed:
            self._budget.give(allowed - len(messages))
        if messages:
            self._handle(run, messages)
        elif not self._is_over():
            self.work.idle()
            self._budget.let_others()
        return True

    def _is_over(self) -> bool:
        return self.stopping or self._pausing

    def _receive(self, most: int) -> list[ReceivedMessage]:
        """Wait for a message, and return it with others that are there already."""
        first = self._consumer.take(IDLE_SECONDS, self._is_over)
        if first is None:
            return []
        messages = [first]
        while len(messages) < most:
            message = self._consumer.take(0, self._is_over)
            if message is None:
                break
            messages.append(message)
        return messages

    def _handle(self, run: Run, messages: list[ReceivedMessage]) -> None:
        run.is_reported = False
        run.since = monotonic()
        run.messages = messages
        outcomes = self.work.handle(messages)
        run.messages = ()
        self._busy_at = monotonic()
        with self._lock:
            self.counts.update(outcome.ended for outcome in outcomes)
        left = [
            (message, outcome)
            for message, outcome in zip(messages, outcomes, strict=True)
            if outcome.ended is Ended.NOT_AN_ATTEMPT
        ]
        if self._budget.is_limited:
            self._budget.give(len(left))
            self._budget.done(len(messages) - len(left))
            self._on_change()
        if not left:
            self._backoff.reset()
        elif not self.work.keeps:
            self._pause([message for message, _ in left], left[0][1])
        elif self._wait_until_possible(left[0][1]):
            self._handle(run, [message for message, _ in left])

    # Pauses

    def _pause(self, messages: list[ReceivedMessage], outcome: Outcome) -> None:
        """Return messages to the queue; one thread then waits until they can be handled again."""
        with self._lock:
            is_first = not self._pausing
            if is_first:
                self._pausing = True
                self._resumed.clear()
        if not is_first:
            self._give_back(messages)
            return
        reason = type(outcome.error).__name__ if outcome.error is not None else "no reason"
        logger.error("%s pauses: %s; its messages go back to the queue", self.work.name, reason)
        try:
            self._consumer.wake()
            self._give_back(messages)
            self._consumer.give_back()
            while self._wait_until_possible(outcome) and not self._resume():
                pass
        finally:
            self._pausing = False
            self._busy_at = monotonic()
            self._resumed.set()

    def _give_back(self, messages: list[ReceivedMessage]) -> None:
        for message in messages:
            self._consumer.put_back(message)

    def _wait_until_possible(self, outcome: Outcome) -> bool:
        """Pause, and until messages can be handled again; return False if stopped meanwhile."""
        while not self.stopping:
            self._stopped.wait(self._backoff.delay())
            if not self.stopping and self.work.is_possible(outcome):
                return True
        return False

    def _resume(self) -> bool:
        """Consume again; return whether that succeeded."""
        try:
            self._consumer.consume()
        except BrokerUnavailable:
            return False
        except PublishError as error:  # the queue is gone, or may no longer be read
            logger.error("%s cannot go on: %s", self.work.name, error)
            return False
        logger.warning("%s goes on", self.work.name)
        return True
