"""The addresses of a host, in turn. No I/O."""

from collections import deque
from collections.abc import Iterable
from typing import Any

LEAST_SECONDS = 0.25  # for an address, even if the time is over


class Addresses:
    """The addresses of one node's host, each tried once, and what went wrong at each.

    Args:
        until: when all of a round should have been tried, by `timing.monotonic`; None for any time.
        others: how many nodes are tried after this one in the round.
        alone: whether it is the only node.

    Attributes:
        count: how many there are; 0 before the name is looked up.
    """

    def __init__(
        self, until: float | None = None, others: int = 0, *, alone: bool = False
    ) -> None:
        self.count = 0
        self._until = until
        self._others = others
        self._alone = alone
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

    def seconds(self, now: float, most: float) -> float:
        """Return how long the one that was taken may take: a silent one leaves time for the rest.

        Args:
            now: by `timing.monotonic`.
            most: seconds.
        """
        if self._until is None or (self._alone and self.count == 1):
            return most
        share = (self._until - now) / (1 + len(self._untried) + self._others)
        return min(most, max(LEAST_SECONDS, share))

    def failed(self, reason: str) -> str:
        """Note why the one that was taken cannot be used; return that of all that were tried."""
        if self.count <= 1:
            return reason
        self._reasons.setdefault(reason, []).append(self._current)
        return "; ".join(f"{', '.join(tried)}: {why}" for why, tried in self._reasons.items())
