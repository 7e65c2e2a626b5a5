"""The loop of the I/O thread: pika's interface for one (`AbstractSelectorIOLoop`), and no more.

pika's own loop takes three turns for a message, each with a dozen calls; this one takes two short
ones.
"""

import heapq
import itertools
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from pika.adapters.utils.selector_ioloop_adapter import AbstractSelectorIOLoop

from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher.transport")

LONGEST_WAIT = 5.0  # seconds of one turn: for whatever might be missed
QUIET_TURNS = 20  # in a row, after which nothing more is expected of a connection that was cut off
CLOSING_TURNS = 1000  # at most
_TROUBLE = select.POLLERR | select.POLLHUP | select.POLLNVAL
Handler = Callable[[int, int], None]


class Timer:
    """A call that is due at some time, until it is cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback


class Loop(AbstractSelectorIOLoop):
    """Watches sockets, timers and callbacks; all but `add_callback` and `wake` on its own thread."""

    READ = select.POLLIN
    WRITE = select.POLLOUT
    ERROR = select.POLLERR

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}
        self._watched: dict[int, int] = {}
        self._callbacks: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.settimeout(0)
        self.add_handler(self._ear.fileno(), self._heard, self.READ)

    @property
    def descriptors(self) -> set[int]:
        """The sockets that it watches for pika: to cut one off, and to let go of them in a child."""
        return set(self._watched) - {self._ear.fileno()}

    @property
    def busy(self) -> bool:
        """Whether it watches a socket for pika, or has something to call in the next turn."""
        return bool(self._callbacks) or len(self._watched) > 1

    def leave_behind(self) -> None:
        """In a forked child: let go of the sockets, and have nothing to do any more.

        The descriptors stay taken, by the null device, so that nothing closes a number in use. Else
        the child would hold the parent's connection open after the parent's death.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self.descriptors:
            os.dup2(null, descriptor)
        os.close(null)
        self._handlers.clear()
        self._watched.clear()
        self._timers.clear()
        self._callbacks.clear()

    def close(self) -> None:
        """Let go of its own sockets."""
        self._ear.close()
        self._bell.close()

    # Called by any thread

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Have something called in the next turn."""
        self._callbacks.append(callback)
        self.wake()

    def wake(self) -> None:
        """End the wait of this turn."""
        try:
            self._bell.send(b"!")
        except OSError:
            pass  # it is full of rings that were not heard yet, or closed

    # Called by pika

    def start(self) -> None:
        """Not used: the I/O thread calls `turn`."""
        raise NotImplementedError

    def stop(self) -> None:
        """Not used: the I/O thread ends by itself."""
        raise NotImplementedError

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Have something called in ``delay`` seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (monotonic() + delay, next(self._numbers), timer))
        return timer

    def remove_timeout(self, timeout_handle: Any) -> None:
        """Cancel it."""
        timeout_handle.callback = None

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Watch a descriptor."""
        self._handlers[fd] = handler
        self._watched[fd] = events
        self._poll.register(fd, events)

    def update_handler(self, fd: int, events: int) -> None:
        """Watch it for other events."""
        self._watched[fd] = events
        self._poll.register(fd, events)

    def remove_handler(self, fd: int) -> None:
        """Stop watching it."""
        del self._handlers[fd]
        del self._watched[fd]
        self._poll.unregister(fd)

    # What the I/O thread calls

    def start_thread(self, thread: threading.Thread) -> None:
        """Start the thread that will call `turn`; the loop is closed if it cannot be started."""
        try:
            thread.start()
        except BaseException:
            self.close()
            raise

    def end(self, abort: Callable[[], bool], alias: str) -> None:
        """Cut a connection off, let pika close its socket, and close the loop.

        pika closes sockets in later turns of the loop; each turn returns at once. A connection that
        is still being opened may get its socket in any of them (pika looks up the host's name on
        another thread), and needs some more turns to close it.

        Args:
            abort: cuts the connection off; returns whether there is one.
            alias: of the connection, for the log.
        """
        quiet = 0
        try:
            for _ in range(CLOSING_TURNS):
                if quiet == QUIET_TURNS or not abort():
                    break
                self.turn(wait=False)
                quiet = 0 if self.busy else quiet + 1
        except Exception as error:  # noqa: BLE001 (whatever pika raises, no caller waits any more)
            logger.debug("%s: closing the connection: %s", alias, type(error).__name__)
        self.close()

    def turn(self, *, wait: bool, longest: float = LONGEST_WAIT) -> None:
        """Deal with all that is due; without ``wait`` only with what is due now.

        Args:
            wait: until something is due.
            longest: seconds of that wait.
        """
        for fd, events in self._poll.poll(self._patience(longest) if wait else 0):
            watched = self._watched.get(fd, 0)  # an earlier handler may have removed it
            # Whoever reads or writes learns what the trouble is.
            due = watched if events & _TROUBLE else events & watched
            if due:
                self._handlers[fd](fd, due)
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()
        if self._timers:
            self._call_due()

    # Inside

    def _patience(self, longest: float) -> float:
        """Milliseconds until something is due."""
        if not self._timers:
            return longest * 1000
        return min(longest, max(0.0, self._timers[0][0] - monotonic())) * 1000

    def _call_due(self) -> None:
        now = monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()

    def _heard(self, _fd: int, _events: int) -> None:
        self._ear.recv(4096)
