"""Where and why a message died, read from the headers that the broker adds when it dead-letters one.

Other clients can write these headers too, so that nothing is assumed about their types.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rmq_publisher.consumer.retry_headers import ORIGINAL, X_DEATH, is_level
from rmq_publisher.db.schema import NAME_MAX

DEATHS_MAX = 100  # deaths that are kept for one message
KEYS_MAX = 20  # routing keys that are kept for one death
_INT_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Death:
    """One entry of the broker's history.

    Attributes:
        queue: where it died.
        reason: "rejected", "expired", "maxlen" or "delivery_limit".
        exchange: where it was published.
        routing_keys: those it was published with, including CC.
        count: how often it died there for this reason.
        time: when it first did so, by the broker's clock, in seconds; None if unknown.
    """

    queue: str
    reason: str
    exchange: str
    routing_keys: tuple[str, ...]
    count: int
    time: datetime | None

    @property
    def is_of_level(self) -> bool:
        """Whether it waited for its next attempt, and so has not died."""
        return is_level(self.queue)

    def plain(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "queue": self.queue,
            "reason": self.reason,
            "exchange": self.exchange,
            "routing_keys": list(self.routing_keys),
            "count": self.count,
            "time": None if self.time is None else self.time.isoformat(),
        }


def deaths(headers: Mapping[str, Any]) -> list[Death]:
    """Return a message's deaths, the last one first.

    The broker's list comes first, then the entries that the last retry kept, because RabbitMQ 4 keeps
    only the last round.
    """
    found = list(_deaths(headers.get(X_DEATH)))
    original = headers.get(ORIGINAL)
    if isinstance(original, Mapping):
        found += _deaths(original.get(X_DEATH))
    return found[:DEATHS_MAX]


def last_death(found: list[Death]) -> Death | None:
    """Return where a message died: the last death that was not the end of a wait."""
    return next((death for death in found if not death.is_of_level), None)


def clean_text(value: object, longest: int = NAME_MAX) -> str:
    """Return a value as text that every database can store, shortened to a maximum length."""
    if isinstance(value, bytes):
        value = value[: 4 * longest].decode(errors="replace")
    text = value if isinstance(value, str) else ""
    # PostgreSQL's text cannot hold NUL, and no database a surrogate.
    return (
        text[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    )


def _deaths(entries: object) -> Iterator[Death]:
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            continue
        keys, count, time = entry.get("routing-keys"), entry.get("count"), entry.get("time")
        yield Death(
            queue=clean_text(entry.get("queue")),
            reason=clean_text(entry.get("reason"), 50),
            exchange=clean_text(entry.get("exchange")),
            routing_keys=tuple(map(clean_text, keys[:KEYS_MAX] if isinstance(keys, list) else ())),
            count=min(count, _INT_MAX) if isinstance(count, int) and count > 0 else 1,
            time=time if isinstance(time, datetime) else None,
        )
