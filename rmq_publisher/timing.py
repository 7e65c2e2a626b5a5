"""Delays, and the clock of all deadlines; nothing here sleeps."""

import random
import time

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
    """Return seconds of the clock that all deadlines use."""
    return time.monotonic()
