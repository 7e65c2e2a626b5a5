"""A selector on a thread of its own, with timers, that takes orders from other threads."""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar, cast

from . import PATIENCE

T = TypeVar("T")

_BELL = object()


class Loop:
    """Subclasses handle their sockets; everything of theirs runs in the loop's thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._orders: deque[Callable[[], None]] = deque()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._running = False
        self._failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run, name="rig-loop", daemon=True)

    def start(self) -> Self:
        self._selector.register(self._bell, selectors.EVENT_READ, _BELL)
        self._running = True
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread; raises what went wrong in it."""
        if not self._running:
            return
        self.order(self._closing)
        self._running = False
        self._ringer.send(b"!")
        self._thread.join(PATIENCE)
        self._selector.close()
        self._bell.close()
        self._ringer.close()
        if self._failures:
            raise ExceptionGroup("errors in the loop's thread", self._failures)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def order(self, action: Callable[[], T]) -> T:
        """Have the loop's thread do it, and return when it is done."""
        done = threading.Event()
        results: list[T] = []
        errors: list[Exception] = []

        def act() -> None:
            try:
                results.append(action())
            except Exception as error:
                errors.append(error)
            done.set()

        self._orders.append(act)
        self._ringer.send(b"!")
        if not done.wait(PATIENCE):
            raise RuntimeError("the loop's thread hangs")
        if errors:
            raise errors[0]
        return results[0]

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Only from the loop's thread."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def watch(self, sock: socket.socket, mask: int, data: Any) -> None:
        """Wait for these events of the socket from now on; 0 forgets it."""
        known = self._selector.get_map().get(sock)
        if known is None:
            if mask:
                self._selector.register(sock, mask, data)
        elif not mask:
            self._selector.unregister(sock)
        elif known.events != mask:
            self._selector.modify(sock, mask, data)

    def _handle(self, sock: socket.socket, mask: int, data: Any) -> None:
        raise NotImplementedError

    def _closing(self) -> None:
        """Close the sockets, in the loop's thread."""

    def _run(self) -> None:
        while self._running:
            pause = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, mask in self._selector.select(pause):
                if key.data is _BELL:
                    self._bell.recv(4096)
                else:
                    ready = cast("socket.socket", key.fileobj)
                    self._safely(partial(self._handle, ready, mask, key.data))
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._safely(heapq.heappop(self._timers)[2])
            while self._orders:
                self._safely(self._orders.popleft())

    def _safely(self, action: Callable[[], None]) -> None:
        """A thread that died in silence would make every later test hang."""
        try:
            action()
        except Exception as error:
            self._failures.append(error)
