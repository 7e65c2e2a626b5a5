"""How many messages a worker may still handle."""

import threading
from collections.abc import Callable

LOOK_SECONDS = 0.2


class Budget:
    """A bound on the messages that are handled, shared by threads.

    Args:
        limit: the bound; None for none.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.is_limited = limit is not None
        self._left = limit or 0  # may be taken
        self._open = limit or 0  # not handled yet
        self._waiting = 0  # threads in `wait`
        self._changed = threading.Condition()

    @property
    def is_used_up(self) -> bool:
        """Whether all that may be handled has been handled."""
        return self.is_limited and self._open <= 0

    def take(self, most: int) -> int:
        """Return how many messages may be received now: up to ``most``."""
        if not self.is_limited:
            return most
        with self._changed:
            taken = min(most, self._left)
            self._left -= taken
        return taken

    def give(self, count: int) -> None:
        """Give back what was taken for messages that did not come or were not handled."""
        if self.is_limited and count:
            with self._changed:
                self._left += count
                self._changed.notify_all()

    def done(self, count: int) -> None:
        """Note that messages were handled."""
        with self._changed:
            self._open -= count
            self._changed.notify_all()

    def wait(self, over: Callable[[], bool]) -> bool:
        """Wait until something may be received, or ``over()``; return whether all has been handled."""
        with self._changed:
            self._waiting += 1
            while not self._left and self._open > 0 and not over():
                self._changed.wait(LOOK_SECONDS)
            self._waiting -= 1
            return self._open <= 0

    def let_others(self) -> None:
        """Let waiting threads use what was given back, because their queues may have messages."""
        if self.is_limited:
            with self._changed:
                if self._waiting:
                    self._changed.wait(LOOK_SECONDS)
