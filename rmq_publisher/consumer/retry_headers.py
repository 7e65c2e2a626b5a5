"""The headers of a message that waits for another attempt, and what its handler sees of them.

Nothing here does I/O. Headers may come from any client, so nothing is assumed about their types.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

ATTEMPTS = "x-rmq-attempts"  # failed attempts
ORIGINAL = "x-rmq-original"  # properties that must not be sent again, as they were published
WAIT = "x-rmq-wait"  # milliseconds that are left to wait after this level
ERROR = "x-rmq-error"  # why its attempts have ended; the worker that receives it rejects it

X_DEATH = "x-death"
_LEVEL = re.compile(r"\.retry\.\d+\Z")
# These would route it elsewhere, expire it in a level, or be refused from another user.
_ROUTING = ("CC", "BCC")
_PROPERTIES = ("expiration", "user_id")
# The broker counts deliveries anew in each queue.
_COUNTS = ("x-delivery-count", "x-acquired-count")
_DEATH = re.compile(r"x-(first|last)-death-(exchange|queue|reason)\Z")
_LONGEST = 2**63 - 1
_MOST = 2**62

Values = dict[str, Any]  # by name


class Carried:
    """A message's properties, as far as they are about its attempts.

    Args:
        values: the properties by name, headers among them.
        queue: the queue that it came from.
        exchange: the exchange, as delivered.
        routing_key: the routing key, as delivered.
    """

    __slots__ = ("_headers", "_original", "_place", "_queue", "_values")

    def __init__(self, values: Values, queue: str, exchange: str, routing_key: str) -> None:
        self._values = values
        self._queue = queue
        self._place = exchange, routing_key
        self._headers: Mapping[str, Any] = values.get("headers") or {}
        original = self._headers.get(ORIGINAL)
        self._original: Mapping[str, Any] = original if isinstance(original, Mapping) else {}

    # What the handler sees

    @property
    def headers(self) -> Values:
        """The headers without those that were added while it waited in levels."""
        if not self._original:
            return dict(self._headers)
        kept = {name: value for name, value in self._original.items() if _is_of_broker(name)}
        own = {name: value for name, value in self._headers.items() if not self._is_ours(name)}
        deaths = _each_once([*_deaths(own), *_deaths(kept)])
        shown = kept | own
        shown.pop(X_DEATH, None)
        return shown | ({X_DEATH: deaths} if deaths else {})

    def _is_ours(self, name: str) -> bool:
        if name in (ORIGINAL, WAIT):
            return True
        death = _DEATH.match(name)
        return death is not None and is_level(self._headers.get(f"x-{death[1]}-death-queue"))

    @property
    def properties(self) -> Values:
        """The properties as they were published, without the headers."""
        shown = {name: value for name, value in self._values.items() if name != "headers"}
        for name in _PROPERTIES:
            if isinstance(self._original.get(name), str):
                shown[name] = self._original[name]
        if not self.message_id:
            shown.pop("message_id", None)
        return shown

    @property
    def message_id(self) -> str:
        """The property as it was published; empty if there was none."""
        given = self._original.get("message_id") != ""
        return str(self._values.get("message_id") or "") if given else ""

    @property
    def place(self) -> tuple[str, str]:
        """The exchange and the routing key that it was published with."""
        exchange, key = self._original.get("exchange"), self._original.get("routing_key")
        both = isinstance(exchange, str) and isinstance(key, str)
        return (exchange, key) if both else self._place  # type: ignore[return-value]

    # What its worker reads

    @property
    def _begins_anew(self) -> bool:
        """Whether it was dead-lettered and then sent back, so that counting restarts."""
        return any(death.get("queue") == self._queue for death in _deaths(self._headers))

    @property
    def failures(self) -> int:
        """The number of failed attempts."""
        return 0 if ATTEMPTS not in self._headers or self._begins_anew else self._count(ATTEMPTS)

    @property
    def rest(self) -> int:
        """The milliseconds that it still has to wait."""
        return self._count(WAIT)

    def _count(self, name: str) -> int:
        found = self._headers.get(name)
        if not isinstance(found, int) or isinstance(found, bool):
            return 0
        return min(max(found, 0), _MOST)

    @property
    def error(self) -> str:
        """Why its attempts have ended; empty if they have not."""
        found = self._headers.get(ERROR)
        return found if isinstance(found, str) and not self._begins_anew else ""

    def expires_at(self, now: int) -> int | None:
        """Return when it expires, in milliseconds since 1970; None if it does not.

        Args:
            now: when this attempt failed or its wait ended, in milliseconds since 1970.
        """
        if self._original:
            found = self._original.get("expires_at")
            return found if isinstance(found, int) and not self._begins_anew else None
        expiration, sent = self._values.get("expiration"), self._values.get("timestamp")
        if not isinstance(expiration, str) or not (expiration.isascii() and expiration.isdigit()):
            return None
        # A timestamp has whole seconds; a publisher's clock may be ahead of this one.
        start = min(now, (sent + 1) * 1000) if isinstance(sent, int) else now
        return min(start + int(expiration), _LONGEST)

    # What is sent

    def handed_over(self, *, now: int, failures: int, rest: int, error: str) -> Values:
        """Return the properties with which it is published to a level.

        Args:
            now: milliseconds since 1970.
            failures: the attempts that have failed.
            rest: milliseconds that are left to wait afterwards.
            error: why its attempts have ended; empty if they have not.
        """
        headers = {name: value for name, value in self._headers.items() if not _is_left_out(name)}
        headers |= {ATTEMPTS: failures, ORIGINAL: self._to_keep(now)}
        if rest > 0:
            headers[WAIT] = rest
        if error:
            headers[ERROR] = error
        sent = {name: value for name, value in self._values.items() if name not in _PROPERTIES}
        return sent | {"headers": headers, "delivery_mode": 2}

    def _to_keep(self, now: int) -> Values:
        exchange, routing_key = self.place
        shown, headers = self.properties, self.headers
        kept: Values = {"exchange": exchange, "routing_key": routing_key}
        kept |= {name: shown[name] for name in _PROPERTIES if name in shown}
        if not self.message_id:
            kept["message_id"] = ""  # it is published with a new id, to match a return to it
        deadline = self.expires_at(now)
        if deadline is not None:
            kept["expires_at"] = deadline
        return kept | {name: value for name, value in headers.items() if _is_of_broker(name)}


def is_level(queue: object) -> bool:
    """Return whether a queue is a level, by its name."""
    return isinstance(queue, str) and _LEVEL.search(queue) is not None


def _is_of_broker(name: str) -> bool:
    return name == X_DEATH or name in _ROUTING or _DEATH.match(name) is not None


def _is_left_out(name: str) -> bool:
    return name in (WAIT, ERROR, *_COUNTS) or _is_of_broker(name)


def _deaths(headers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of ``x-death`` except those of levels, the last one first."""
    found = headers.get(X_DEATH)
    entries = found if isinstance(found, list) else []
    return [one for one in entries if isinstance(one, Mapping) and not is_level(one.get("queue"))]


def _each_once(deaths: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the last entry of each queue and reason, as the broker keeps them."""
    last: dict[tuple[str, str], Mapping[str, Any]] = {}
    for death in deaths:
        last.setdefault((repr(death.get("queue")), repr(death.get("reason"))), death)
    return list(last.values())
