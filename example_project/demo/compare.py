"""What was ordered against what a consumer read."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

PROPERTIES = {
    "content_type": "application/json",
    "delivery_mode": 2,  # persistent
    "type": "orders.created",
    "app_id": "shop",
}
SHOWN = 10


def differences(
    placed: Mapping[str, Mapping[str, Any]], messages: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Describe every difference; an empty list means that all agree."""
    messages = list(messages)
    times = Counter(message["properties"].get("message_id") for message in messages)
    found = [f"message {name} was read {n} times" for name, n in times.items() if n > 1]
    found += [f"message {name} never arrived" for name in placed if name not in times]
    for message in messages:
        found += _faults(placed, message)
    if len(placed) != len({order["id"] for order in placed.values()}):
        found.append("two orders have one number")
    more = len(found) - SHOWN
    return found if more <= 0 else [*found[:SHOWN], f"and {more} more"]


def _faults(placed: Mapping[str, Mapping[str, Any]], message: Mapping[str, Any]) -> Iterable[str]:
    properties, body = message["properties"], message["body"]
    name = properties.get("message_id")
    if name not in placed:
        yield f"message {name} belongs to no order"
        return
    expected = {**placed[name], "status": "placed"}
    wrong = {key: body.get(key) for key, value in expected.items() if body.get(key) != value}
    if wrong:
        yield f"message {name}: its body says {wrong}"
    if "created_at" not in body:
        yield f"message {name}: its body has no time"
    for key, value in PROPERTIES.items():
        if properties.get(key) != value:
            yield f"message {name}: {key} is {properties.get(key)!r}, not {value!r}"
    if (message["exchange"], message["routing_key"]) != ("shop.events", "orders.created"):
        yield f"message {name}: came through {message['exchange']!r}, {message['routing_key']!r}"
