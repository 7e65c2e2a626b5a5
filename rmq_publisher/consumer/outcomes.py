"""How a run of a handler ended, and the exceptions with which a handler decides that."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

MAX_COUNTDOWN = 366 * 86_400.0  # seconds; for longer waits use a table


class Reject(Exception):
    """Raised by a handler to give its message up.

    Args:
        requeue: False ends its attempts at once; True counts as any other failure.
    """

    __module__ = "rmq_publisher"

    def __init__(self, requeue: bool = False) -> None:
        if not isinstance(requeue, bool):
            raise TypeError(f"Reject(requeue=...) must be a bool, not {type(requeue).__name__}")
        super().__init__(requeue)
        self.requeue = requeue


class Retry(Exception):
    """Raised by a handler to be run again later. It counts as an attempt.

    Args:
        countdown: seconds or timedelta to wait; None waits as after a failure.
    """

    __module__ = "rmq_publisher"

    def __init__(self, countdown: float | timedelta | None = None) -> None:
        if isinstance(countdown, timedelta):
            countdown = countdown.total_seconds()
        if countdown is not None:
            if isinstance(countdown, bool) or not isinstance(countdown, int | float):
                kind = type(countdown).__name__
                raise TypeError(f"Retry(countdown=...) must be seconds or a timedelta, not {kind}")
            if not 0 <= countdown <= MAX_COUNTDOWN:
                raise ValueError(
                    f"Retry(countdown=...) must be from 0 to {MAX_COUNTDOWN:.0f} seconds (a year)"
                )
        super().__init__(countdown)
        self.countdown = None if countdown is None else float(countdown)


class Ended(Enum):
    """What a run of a handler means for its message."""

    HANDLED = auto()  # acknowledge it
    RETRY = auto()  # a failed attempt; the handler chose how long to wait
    FAILED = auto()  # a failed attempt
    REJECTED = auto()  # give it up now
    PASSED = auto()  # the handler did not run: it has to wait longer, or was given up before
    NOT_AN_ATTEMPT = auto()  # not the message's fault: requeue it, uncounted


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a handler ended.

    Attributes:
        ended: what it means for the message.
        error: what was raised, if anything.
        countdown: seconds to wait before the next attempt, if the handler chose them.
        database: Django alias of the database whose outage was the reason, if any.
    """

    ended: Ended
    error: BaseException | None = None
    countdown: float | None = None
    database: str | None = None


HANDLED = Outcome(Ended.HANDLED)
