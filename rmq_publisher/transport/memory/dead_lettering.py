"""Dead-letters a message: its headers, its routing keys, and cycles that must end.

As RabbitMQ does it: one entry in ``x-death`` for each queue and reason, the latest first.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.transport.memory.queue import Stored

REJECTED, EXPIRED, MAXLEN, DELIVERY_LIMIT = "rejected", "expired", "maxlen", "delivery_limit"

_COUNT_MAX = 2**63 - 1


def dead_letter(
    message: Stored, queue: str, reason: str, exchange: str, key: str | None, now: float
) -> Stored:
    """Return the message as it goes to a dead-letter exchange.

    Args:
        message: as it was in the queue.
        queue: where it died.
        reason: one of RabbitMQ's words for why.
        exchange: the dead-letter exchange.
        key: the queue's dead-letter routing key; None keeps the message's own keys.
        now: seconds since 1970.
    """
    values = dict(message.values)
    headers = dict(message.headers)
    entry = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": datetime.fromtimestamp(int(now), UTC),
        "exchange": message.exchange,
        "routing-keys": [message.keys[0], *headers.get("CC", ())],
    }
    expiration = values.pop("expiration", None)  # else it would expire at once wherever it goes
    if expiration is not None:
        entry["original-expiration"] = expiration
    headers["x-death"] = _recorded(deaths(headers), entry)
    for name in ("exchange", "queue", "reason"):
        headers.setdefault(f"x-first-death-{name}", entry[name])
        headers[f"x-last-death-{name}"] = entry[name]
    values["headers"] = headers
    keys = message.keys if key is None else (key,)
    header = basic_properties(values)
    return Stored(exchange, keys, header, message.body, values, message.attempts)


def _recorded(
    recorded: Sequence[Mapping[str, Any]], entry: dict[str, Any]
) -> list[Mapping[str, Any]]:
    """Put an entry first: that of the same queue and reason, counted up, where there is one."""
    others = []
    for death in recorded:
        if (death.get("queue"), death.get("reason")) == (entry["queue"], entry["reason"]):
            entry = {**death, "count": _one_more(death.get("count", 1))}
        else:
            others.append(death)
    return [entry, *others]


def _one_more(count: object) -> int:
    # A publisher may have written anything there.
    return min(count + 1, _COUNT_MAX) if isinstance(count, int) else 1


def deaths(headers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of ``x-death``; what a publisher wrote there in another form is none."""
    recorded = headers.get("x-death")
    if not isinstance(recorded, list):
        return []
    return [death for death in recorded if isinstance(death, Mapping)]


def runs_in_circle(message: Stored, queue: str) -> bool:
    """Return whether a message would come back to a queue without any consumer's doing."""
    recorded = deaths(message.headers)
    for place, death in enumerate(recorded):
        if death.get("queue") == queue:
            return all(death.get("reason") != REJECTED for death in recorded[: place + 1])
    return False
