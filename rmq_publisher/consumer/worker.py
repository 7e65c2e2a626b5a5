"""A worker: runs lanes until it is stopped, and returns unhandled messages to their queues."""

import logging
import select
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from rmq_publisher.consumer.budget import Budget
from rmq_publisher.consumer.lane import Lane, LaneQueue, Run, Work
from rmq_publisher.consumer.outcomes import Ended
from rmq_publisher.exceptions import BrokerUnavailable, PublishError
from rmq_publisher.outbox.notifier import Sleeper
from rmq_publisher.timing import Backoff, monotonic

logger = logging.getLogger("rmq_publisher.consumer")

LOOK_SECONDS = 0.5
STOP_TIMEOUT = 25.0  # seconds: under the 30 that Kubernetes waits by default
CLOSE_SHARE = 0.1  # of the timeout, reserved for returning messages to their queues


class HandlerOverran(Exception):
    """A handler ran for too long, and its process must be replaced."""


class Worker:
    """Handles the messages of some queues, in threads of this process.

    Args:
        limit: number of messages after which it ends; None for no limit.
        once: end as soon as all queues have been empty for a second.
        stop_timeout: seconds within which it ends after `stop`.
        on_ready: called once it consumes from all queues.
        on_tick: called about twice a second, in the thread of `run`.
        replaceable: whether a handler that runs for too long ends the worker, with `HandlerOverran`.
        stop_on: a file descriptor; the worker stops when it is readable or closed.
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        once: bool = False,
        stop_timeout: float = STOP_TIMEOUT,
        on_ready: Callable[[], None] = lambda: None,
        on_tick: Callable[["Worker"], None] = lambda _: None,
        replaceable: bool = False,
        stop_on: int | None = None,
    ) -> None:
        self._budget = Budget(limit)
        self._once = once
        self._stop_timeout = stop_timeout
        self._on_ready = on_ready
        self._on_tick = on_tick
        self._replaceable = replaceable
        self._stop_on = () if stop_on is None else (stop_on,)
        self._sleeper = Sleeper()
        self._stopping = False
        self.lanes: list[Lane] = []

    def add(self, consumer: LaneQueue, work: Work, threads: int) -> None:
        """Add a queue whose messages are handled; call it before `run`."""
        self.lanes.append(Lane(consumer, work, threads, self._budget, self._sleeper.wake))

    def stop(self) -> None:
        """Have `run` return once running handlers have finished. Safe in threads and signal handlers."""
        self._stopping = True
        for lane in self.lanes:
            lane.stopping = True
        self._sleeper.wake()

    @property
    def counts(self) -> Counter[Ended]:
        """The number of messages of all lanes, by how they ended."""
        return sum((lane.counts for lane in self.lanes), Counter())

    def run(self) -> None:
        """Work until `stop`, the limit, or with ``once`` until the queues are empty.

        Raises:
            Rejected: the broker does not let it consume from a queue.
            BrokerUnavailable: the broker cannot be reached (raised only with ``once``).
            HandlerOverran: a handler ran for too long, and this process must be replaced.
        """
        patience = self._stop_timeout * (1 - CLOSE_SHARE)
        try:
            if self._begin():
                self._on_ready()
                for lane in self.lanes:
                    lane.start()
                self._watch()
        except HandlerOverran:
            patience = 0.0
            raise
        finally:
            self._end(patience)
        for lane in self.lanes:
            if lane.crash is not None:
                raise lane.crash

    def _begin(self) -> bool:
        """Consume from all queues; return False if stopped meanwhile."""
        for lane in self.lanes:
            backoff = Backoff()
            while not self._stopping:
                try:
                    lane.begin()
                    break
                except BrokerUnavailable as error:
                    if self._once:
                        raise
                    logger.warning("%s waits for the broker: %s", lane.work.name, error)
                    self._sleep(backoff.delay())
        return not self._stopping

    def _sleep(self, seconds: float) -> None:
        self._sleeper.sleep(seconds, *self._stop_on)
        if self._stop_on and _is_readable(self._stop_on[0]):
            self._stopping = True

    def _watch(self) -> None:
        while not self._stopping:
            self._sleep(LOOK_SECONDS)
            self._on_tick(self)
            if self._budget.is_used_up or any(lane.crash for lane in self.lanes):
                return
            if self._once and all(lane.is_idle for lane in self.lanes):
                return
            for lane in self.lanes:
                self._look_at(lane)

    def _look_at(self, lane: Lane) -> None:
        """Report handlers that run for too long.

        Raises:
            HandlerOverran: this process must be replaced.
        """
        timeout = lane.work.timeout
        if timeout is None:
            return
        now = monotonic()
        for run in lane.runs:
            if run.messages and not run.is_reported and now - run.since > timeout:
                run.is_reported = True
                logger.error("%s has been running for more than %g s", lane.work.name, timeout)
                if self._replaceable:
                    self._give_up()
                    raise HandlerOverran(lane.work.name)

    def _give_up(self) -> None:
        """Record all running handlers, because the end of this process interrupts them."""
        for lane in self.lanes:
            running: list[Run] = [run for run in lane.runs if run.messages]
            for run in running:
                lane.work.overran(run.messages)

    def _end(self, patience: float) -> None:
        """End all lanes; wait at most ``patience`` seconds for running handlers."""
        self._stopping = True
        deadline = monotonic() + patience
        for lane in self.lanes:
            lane.stop()
        for lane in self.lanes:
            if unfinished := lane.join(deadline):
                logger.error(
                    "%s: %d handlers are still running after %g s; their messages go back to the queue",
                    lane.work.name,
                    unfinished,
                    patience,
                )
        for lane in self.lanes:
            with suppress(PublishError):
                lane.end()


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
