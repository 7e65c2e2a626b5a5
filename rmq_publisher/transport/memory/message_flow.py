"""What happens to messages inside the memory broker: routing, limits, expiry, dead letters.

No thread, no lock and no clock of its own: its time advances only by `advance`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.amqp.encoding import FieldError, basic_properties
from rmq_publisher.amqp.reply_codes import ACCESS_REFUSED, NOT_IMPLEMENTED, PRECONDITION_FAILED
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.transport.memory.dead_lettering import (
    DELIVERY_LIMIT,
    EXPIRED,
    MAXLEN,
    REJECTED,
    dead_letter,
    runs_in_circle,
)
from rmq_publisher.transport.memory.declarations import Catalogue
from rmq_publisher.transport.memory.queue import Entry, MemoryQueue, Stored
from rmq_publisher.transport.memory.validation import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    refuse,
)

Verdict = Literal["ack", "reject", "requeue"]


class Routed(NamedTuple):
    """What became of a message.

    Attributes:
        queues: those it was routed to.
        refused: those of them that did not take it.
    """

    queues: tuple[str, ...]
    refused: tuple[str, ...] = ()


class Core:
    """Exchanges, queues and the messages in them.

    Args:
        now: seconds since 1970.

    Attributes:
        catalogue: what is declared.
        now: up to when all has happened.
    """

    def __init__(self, now: float) -> None:
        self.catalogue = Catalogue()
        self.now = now

    def publish(self, envelope: Envelope, user: str) -> Routed:
        """Route a message.

        Raises:
            Rejected: 404, no such exchange; 403, it is internal; 406, another's ``user_id``.
        """
        values = read_properties(envelope.header)
        self._check(envelope, values, user)
        message = _stored(envelope, values)
        queues = self._reached(message)
        refused = [queue for queue in queues if not self._put(queue, message)]
        return Routed(_names(queues), _names(refused))

    def _check(self, envelope: Envelope, values: Mapping[str, Any], user: str) -> None:
        if envelope.exchange and self.catalogue.exchange(envelope.exchange).internal:
            text = f"cannot publish to internal exchange '{envelope.exchange}' in vhost '/'"
            raise refuse(ACCESS_REFUSED, text)
        named = values.get("user_id", user)
        if named != user:
            text = f"user_id property set to '{named}' but authenticated user was '{user}'"
            raise refuse(PRECONDITION_FAILED, text)

    def _reached(self, message: Stored) -> list[MemoryQueue]:
        return self.catalogue.reached(message.exchange, message.keys, message.headers)

    def _put(self, queue: MemoryQueue, message: Stored) -> bool:
        """Put a message into a queue, and remove what exceeds its limits."""
        if queue.refuses(message):
            if queue.overflow == "reject-publish-dlx":
                self._bury(queue, message, MAXLEN)
            return False
        queue.put(message, self.now)
        self._drop(queue)
        return True

    def _drop(self, queue: MemoryQueue) -> None:
        while queue.is_over():
            self._bury(queue, queue.pop().counted, MAXLEN)

    def _bury(self, queue: MemoryQueue, message: Stored, reason: str) -> None:
        """Send a dead message to the queue's dead-letter exchange, if it has one."""
        exchange = queue.arguments.get(DEAD_LETTER_EXCHANGE)
        if exchange is None:
            return
        key = queue.arguments.get(DEAD_LETTER_KEY)
        try:
            dead = dead_letter(message, queue.name, reason, exchange, key, self.now)
        except FieldError:
            return  # with what its death adds, its headers are larger than any frame
        for target in self._reached(dead):
            if not runs_in_circle(dead, target.name):
                self._put(target, dead)

    def take(self, name: str, consumer: str | None = None) -> tuple[MemoryQueue, Entry] | None:
        """Take the next message of a queue for a consumer; None where there is none.

        Raises:
            Rejected: 404, there is no such queue; 540, it is a stream.
        """
        queue = self.check_consumable(name)
        if not len(queue) or (consumer is not None and not queue.attach(consumer)):
            return None
        entry = queue.pop()
        queue.held.add(entry)
        return queue, entry

    def check_consumable(self, name: str) -> MemoryQueue:
        """Return a queue that can be consumed from here.

        Raises:
            Rejected: 404, there is no such queue; 540, it is a stream.
        """
        queue = self.catalogue.queue(name)
        if queue.type == "stream":
            text = f"basic.get not supported by stream queues queue '{name}' in vhost '/'"
            raise refuse(NOT_IMPLEMENTED, text)
        return queue

    def settle(self, queue: MemoryQueue, entry: Entry, verdict: Verdict) -> None:
        """Do with a message that a consumer took as it says.

        Raises:
            Rejected: 406, it is settled already.
        """
        if entry not in queue.held:
            raise refuse(PRECONDITION_FAILED, "unknown delivery tag")
        queue.held.discard(entry)
        if verdict == "ack" or self.catalogue.queues.get(queue.name) is not queue:
            return
        if verdict == "reject":
            entry.attempts += 1
            self._bury(queue, entry.counted, REJECTED)
        elif queue.put_back(entry):
            self._drop(queue)
        else:
            self._bury(queue, entry.counted, DELIVERY_LIMIT)

    @property
    def next_expiry(self) -> float | None:
        """When the next message expires."""
        expiries = [queue.next_expiry for queue in self.catalogue.queues.values()]
        return min((expiry for expiry in expiries if expiry is not None), default=None)

    def advance(self, now: float) -> None:
        """Let everything expire that is due, in the order in which it was due."""
        while (expiry := self.next_expiry) is not None and expiry <= now:
            # What only now became the head of its queue dies now, not when its time was up.
            self.now = max(self.now, expiry)
            for queue in list(self.catalogue.queues.values()):
                if queue.next_expiry == expiry:
                    self._bury(queue, queue.pop().counted, EXPIRED)
        self.now = max(self.now, now)


def delivered_header(queue: MemoryQueue, entry: Entry) -> bytes:
    """Return the header as a consumer gets it: quorum queues tell of earlier attempts."""
    message = entry.message
    if queue.type != "quorum" or not entry.attempts:
        return message.header
    counts = {"x-delivery-count": entry.attempts, "x-acquired-count": entry.acquired}
    headers = {**message.headers, **counts}
    return basic_properties({**message.values, "headers": headers})


def _names(queues: Sequence[MemoryQueue]) -> tuple[str, ...]:
    return tuple(queue.name for queue in queues)


def _stored(envelope: Envelope, values: dict[str, Any]) -> Stored:
    """Return a message as queues keep it: its CC keys beside its own, the BCC ones taken off it."""
    headers = values.get("headers") or {}
    keys = (envelope.routing_key, *headers.get("CC", ()), *headers.get("BCC", ()))
    header = envelope.header
    if "BCC" in headers:
        rest = {name: value for name, value in headers.items() if name != "BCC"}
        values = {**values, "headers": rest}
        header = basic_properties(values)
    return Stored(envelope.exchange, keys, header, envelope.body, values)
