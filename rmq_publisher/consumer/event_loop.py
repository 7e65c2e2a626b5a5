"""The worker's event loop: one thread that awaits all `async def` handlers of the process."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class EventLoop:
    """Started on first use; the calling threads wait for the result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns, or raise what it raises; it runs in the caller's context."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started()).result()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._loop.run_forever, name="rmq async handlers", daemon=True
                )
                thread.start()
            return self._loop

    def close(self) -> None:
        """End the thread; coroutines that are still running are abandoned."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
