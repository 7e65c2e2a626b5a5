"""The addresses of a host, in turn. No I/O."""

from collections import deque
from collections.abc import Iterable
from typing import Any


class Addresses:
    """The addresses of one node's host, each tried once, and what went wrong at each.

    Attributes:
        count: how many there are; 0 before the name is looked up.
    """

    def __init__(self) -> None:
        self.count = 0
        self._current = ""
        self._untried: deque[Any] = deque()  # as `socket.getaddrinfo()` returns them
        self._reasons: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._untried)

    def found(self, records: Iterable[Any]) -> None:
        """Take the records of a lookup."""
        self._untried.extend(records)
        self.count = len(self._untried)

    def take(self) -> Any:
        """Return the next record to try."""
        record = self._untried.popleft()
        self._current = str(record[4][0])
        return record

    def failed(self, reason: str) -> str:
        """Note why the one that was taken cannot be used; return that of all that were tried."""
        if self.count <= 1:
            return reason
        self._reasons.setdefault(reason, []).append(self._current)
        return "; ".join(f"{', '.join(tried)}: {why}" for why, tried in self._reasons.items())
