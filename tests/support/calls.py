"""Calls on other threads, whose outcomes a test awaits; and waiting for states without events."""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from rmq_publisher import PublishError, connections, publish
from rmq_publisher.transport.base import Status
from tests.support.rig import PATIENCE

__all__ = [
    "AT_ONCE",
    "PATIENCE",
    "Call",
    "Took",
    "calling",
    "error_of",
    "eventually",
    "now",
    "status",
]

# Far below the deadlines that these tests set, and far above what an answer from memory takes.
AT_ONCE = 5.0


class Call:
    """A call on another thread; `outcome()` returns its result or the error that it raised."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._action()
        except Exception as error:
            self._result = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def outcome(self, timeout: float = PATIENCE) -> Any:
        self._thread.join(timeout)
        assert self.done, "the call hangs"
        return self._result

    def value(self) -> Any:
        """What it returned; raises what it raised."""
        result = self.outcome()
        if isinstance(result, Exception):
            raise result
        return result


def now(body: Any = b"x", **options: Any) -> str:
    """Publish inside the call."""
    return publish(body, delivery="now", **options)


def calling(body: Any = b"x", **options: Any) -> Call:
    """The same on another thread."""
    return Call(lambda: now(body, **options))


def error_of(body: Any = b"x", **options: Any) -> PublishError | None:
    try:
        now(body, **options)
    except PublishError as error:
        return error
    return None


def eventually(holds: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Wait for a state that has no event."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


def status() -> Status:
    return connections["default"].status()


class Took:
    """How long the block took."""

    seconds = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
