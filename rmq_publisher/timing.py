"""Delays, and the clock of all deadlines; nothing here sleeps."""

import random
import time
from dataclasses import dataclass

# The system's random numbers: they leave the project's seed alone, and a forked child has its own.
_random = random.SystemRandom()


class Backoff:
    """Delays that double from ``first`` to ``cap`` seconds, each shortened by up to half.

    The jitter keeps the processes of a host from reconnecting all at once. It only ever shortens, so
    that ``cap`` is the longest delay.
    """

    def __init__(self, first: float = 0.1, cap: float = 2.0) -> None:
        self._first = first
        self._cap = cap
        self._next = first

    def delay(self) -> float:
        """Return the next delay in seconds."""
        current = self._next
        self._next = min(self._cap, current * 2)
        return current * _random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._next = self._first


def jittered(first: float, cap: float, doublings: int) -> float:
    """Return ``first`` seconds doubled so many times, at most ``cap``, shortened by up to a half."""
    longest = min(cap, first * 2.0 ** min(doublings, 64))
    return longest * _random.uniform(0.5, 1.0)


def monotonic() -> float:
    """Return seconds of the clock that all deadlines use.

    Not by `time.monotonic()`: freezegun stops that one, and our timers with it, long after the test.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def epoch_seconds() -> int:
    """Return the time of day as a message has it: whole seconds since 1970, never less than 0.

    A test may have set the clock to an earlier year.
    """
    return max(0, int(time.time()))


def epoch_milliseconds() -> int:
    """Return the time of day in milliseconds since 1970, never less than 0."""
    return max(0, int(time.time() * 1000))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a message is sent again within its call, by kombu's names.

    Attributes:
        max_retries: how often; None as often as the call's deadline allows.
        interval_start: seconds before the first retry.
        interval_step: seconds that each further wait is longer.
        interval_max: seconds of the longest wait.
    """

    max_retries: int | None = None
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0

    def wait(self, retries: int) -> float | None:
        """Return the seconds to wait after so many retries; None where there is no further one."""
        if self.max_retries is not None and retries >= self.max_retries:
            return None
        return min(self.interval_max, self.interval_start + self.interval_step * retries)


NO_RETRY = RetryPolicy(max_retries=0)
