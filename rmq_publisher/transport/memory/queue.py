"""One queue of the memory broker: its order, its limits, and what a consumer holds of it. Pure."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from rmq_publisher.transport.memory.validation import queue_type

# What a quorum queue allows unless told otherwise, since RabbitMQ 4.0.
_DELIVERY_LIMIT = 20


@dataclass(frozen=True, slots=True, repr=False)
class Stored:
    """A message inside the broker; several queues share one.

    Attributes:
        exchange: where it was published to, or died to.
        keys: its routing key, then those of CC and BCC.
        header: AMQP's own bytes of its properties.
        body: the encoded body.
        values: the properties by name, as ``header`` has them; never changed.
        attempts: how often a consumer had it before it was dead-lettered; RabbitMQ counts on since 4.3.
    """

    exchange: str
    keys: tuple[str, ...]
    header: bytes
    body: bytes
    values: Mapping[str, Any]
    attempts: int = 0

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers; empty where there are none."""
        return self.values.get("headers") or {}


@dataclass(slots=True, eq=False, repr=False)
class Entry:
    """A message in one queue.

    Attributes:
        order: what comes first: the higher priority, then the earlier arrival.
        expires_at: seconds of the broker's clock; None for never.
        attempts: how often a consumer had it and did not acknowledge it, in other queues too.
    """

    message: Stored
    order: tuple[int, int]
    expires_at: float | None
    attempts: int

    @property
    def acquired(self) -> int:
        """How often a consumer of this queue had it; before one has, what the queue before counted."""
        return self.attempts - self.message.attempts or self.attempts

    @property
    def counted(self) -> Stored:
        """The message as it leaves the queue, with its attempts."""
        return replace(self.message, attempts=self.attempts)


class MemoryQueue:
    """A queue, in the order in which RabbitMQ would deliver."""

    def __init__(self, name: str, durable: bool, arguments: Mapping[str, Any]) -> None:
        self.name = name
        self.durable = durable
        self.arguments = arguments
        self.type = queue_type(arguments)
        self.held: set[Entry] = set()  # by consumers, neither acknowledged nor given back
        self.consumers: list[str] = []  # their tags, the first to come first
        self._ready: list[tuple[tuple[int, int], Entry]] = []  # a heap: by its order
        self._bytes = 0
        self._arrivals = count()

    def __len__(self) -> int:
        return len(self._ready)

    def attach(self, consumer: str) -> bool:
        """Note that a consumer is there; return whether it may take messages."""
        if consumer not in self.consumers:
            self.consumers.append(consumer)
        single = self.arguments.get("x-single-active-consumer")
        return not single or self.consumers[0] == consumer

    def detach(self, consumer: str) -> None:
        """A consumer is gone."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def purge(self) -> int:
        """Drop all that waits; return how many messages that was."""
        count = len(self._ready)
        self._ready.clear()
        self._bytes = 0
        return count

    @property
    def overflow(self) -> str:
        """What happens when it is full."""
        return str(self.arguments.get("x-overflow", "drop-head"))

    @property
    def delivery_limit(self) -> int | None:
        """How often a message may be given back; None for ever."""
        if self.type != "quorum":
            return None
        return int(self.arguments.get("x-delivery-limit", _DELIVERY_LIMIT))

    def refuses(self, message: Stored) -> bool:
        """Return whether it is too full for one more, and refuses rather than drops."""
        rejects = self.overflow.startswith("reject-publish")
        return rejects and self._exceeds(len(self) + 1, self._bytes + len(message.body))

    def is_over(self) -> bool:
        """Return whether it is too full, and drops its head."""
        return self.overflow == "drop-head" and self._exceeds(len(self), self._bytes)

    def _exceeds(self, messages: int, size: int) -> bool:
        most: int = self.arguments.get("x-max-length", messages)
        most_bytes: int = self.arguments.get("x-max-length-bytes", size)
        return messages > most or size > most_bytes

    def put(self, message: Stored, now: float) -> None:
        """Take a message in."""
        most = self.arguments.get("x-max-priority", 0)
        priority = min(message.values.get("priority") or 0, most)
        order = (-priority, next(self._arrivals))
        self._insert(Entry(message, order, self._expiry(message, now), message.attempts))

    def _expiry(self, message: Stored, now: float) -> float | None:
        own = message.values.get("expiration")
        limits = [self.arguments.get("x-message-ttl"), None if own is None else int(own)]
        milliseconds = [limit for limit in limits if limit is not None]
        return now + min(milliseconds) / 1000 if milliseconds else None

    def _insert(self, entry: Entry) -> None:
        heapq.heappush(self._ready, (entry.order, entry))
        self._bytes += len(entry.message.body)

    @property
    def next_expiry(self) -> float | None:
        """When the head expires; what is behind it expires only at the head."""
        return self._ready[0][1].expires_at if self._ready else None

    def pop(self) -> Entry:
        """Remove the head."""
        _, entry = heapq.heappop(self._ready)
        self._bytes -= len(entry.message.body)
        return entry

    def put_back(self, entry: Entry) -> bool:
        """Take back at its old place what a consumer held; False where that was once too often."""
        entry.attempts += 1
        if self.delivery_limit is not None and entry.attempts > self.delivery_limit:
            return False
        self._insert(entry)
        return True
