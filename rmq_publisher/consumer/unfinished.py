"""Retries what is left to do for messages whose handlers have ended."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rmq_publisher.consumer import databases
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.consumer.starts import label
from rmq_publisher.timing import Backoff, monotonic

logger = logging.getLogger("rmq_publisher.consumer")

MAX_WAIT = 30.0  # seconds between two tries
FORGET_SECONDS = 60.0  # after which a lost message was surely delivered to another worker

# Settles the message and returns "", or returns why that is not possible now.
Step = Callable[[ReceivedMessage], str]


@dataclass(slots=True, eq=False)
class _Job:
    message: ReceivedMessage
    key: str
    step: Step
    due: float
    backoff: Backoff = field(default_factory=lambda: Backoff(cap=MAX_WAIT))
    lost_at: float | None = None  # when its channel was seen lost


class Unfinished:
    """Retries, on another thread, what could not be done for a message.

    The handler has ended and is not run again for the message. If its channel is lost and the message is
    redelivered, the retries continue with the new delivery.

    Args:
        name: of the handler, for the log and the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def do(self, message: ReceivedMessage, key: str, step: Step) -> bool:
        """Do it now, and keep trying if that fails; return whether it is done.

        Args:
            message: unsettled.
            key: identifies the message when it is redelivered.
            step: what has to be done.
        """
        reason = _tried(step, message)
        if not reason:
            return True
        logger.error(
            "handler %r: message %s stays unacknowledged, and is tried again: %s",
            self._name, label(message), reason,
        )  # fmt: skip
        job = _Job(message, key, step, 0.0)
        job.due = monotonic() + job.backoff.delay()
        with self._changed:
            self._jobs.append(job)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name=f"rmq retries {self._name}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
        return False

    def take_up(self, message: ReceivedMessage, key: str) -> bool:
        """Continue with a redelivered message; return False if nothing is left to do for it."""
        if not self._jobs:
            return False
        with self._changed:
            for job in self._jobs:
                if job.key == key and not job.message.is_current:
                    job.message, job.lost_at, job.due = message, None, 0.0
                    self._changed.notify_all()
                    return True
        return False

    def close(self) -> None:
        """End the thread. The broker requeues unacknowledged messages when the channel closes."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._cycle()
        finally:
            databases.close_all()

    def _cycle(self) -> None:
        with self._changed:
            if not self._closed:
                self._changed.wait(self._pause())
            due = [job for job in self._jobs if job.due <= monotonic()]
        for job in due:
            if not self._closed:
                self._try(job)
        databases.tidy(idle=not self._jobs)

    def _pause(self) -> float | None:
        """Return the seconds until the next try; None if nothing is left to do."""
        return max(0.0, min(job.due for job in self._jobs) - monotonic()) if self._jobs else None

    def _try(self, job: _Job) -> None:
        message = job.message
        if message.is_current:
            done = not _tried(job.step, message)
        else:
            now = monotonic()
            job.lost_at = job.lost_at or now
            done = now - job.lost_at >= FORGET_SECONDS
        with self._changed:
            if job.message is not message:  # it was redelivered meanwhile
                return
            if done:
                self._jobs.remove(job)
            else:
                job.due = monotonic() + job.backoff.delay()


def _tried(step: Step, message: ReceivedMessage) -> str:
    try:
        return step(message)
    except MessageStateError as error:
        # Whatever the step has done stays done; the broker redelivers the message.
        logger.warning("%s", error)
        return ""
    except Exception as error:  # noqa: BLE001 (a message must not be lost, whatever happens)
        return type(error).__name__
