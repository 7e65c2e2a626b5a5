"""How a handler's run ended, and the exceptions by which a handler says so."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

MAX_COUNTDOWN = 366 * 86_400.0  # seconds; what must wait longer belongs into a table


class Reject(Exception):
    """Raised by a handler: give its message up.

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
    """Raised by a handler: run it again later. It counts as an attempt.

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
    RETRY = auto()  # a failed attempt, which says how long to wait
    FAILED = auto()  # a failed attempt
    REJECTED = auto()  # no attempt can help: the end of its attempts now
    PASSED = auto()  # nothing ran: it goes on waiting, or its attempts had ended before
    NOT_AN_ATTEMPT = auto()  # the failure is not the message's own: give it back, uncounted


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a handler ended.

    Attributes:
        ended: what it means for the message.
        error: what was raised; None where it was handled.
        countdown: seconds to wait before the next attempt, where the handler said so.
        database: Django alias of a database that could not be used, where that was the reason.
    """

    ended: Ended
    error: BaseException | None = None
    countdown: float | None = None
    database: str | None = None

    @property
    def is_failure(self) -> bool:
        """Whether it counts as a failed attempt."""
        return self.ended in (Ended.RETRY, Ended.FAILED)


HANDLED = Outcome(Ended.HANDLED)
