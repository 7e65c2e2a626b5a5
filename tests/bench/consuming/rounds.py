"""The clock of a consumer: from its first message to its last."""

from __future__ import annotations

import time
from typing import Any

PREFETCH = 100


class Clock:
    """Counts messages; measures from the first to the last, so that connecting is not in it."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.count = 0
        self._began = self._ended = (0.0, 0.0)

    def tick(self) -> bool:
        """Count a message; return whether it is the last."""
        self.count += 1
        if self.count == 1:
            self._began = time.perf_counter(), time.process_time()
        if self.count == self.messages:
            self._ended = time.perf_counter(), time.process_time()
        return self.count >= self.messages

    @property
    def measured(self) -> dict[str, Any]:
        seconds, cpu = (end - start for end, start in zip(self._ended, self._began, strict=True))
        return {"messages": self.count - 1, "seconds": seconds, "cpu": cpu}
