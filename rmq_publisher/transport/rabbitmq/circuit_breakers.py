"""What keeps one bad destination from stopping the others: unanswered, refused or nacked messages.

No I/O. The I/O thread alone calls this, except for what a status asks: lengths and destinations.
"""

from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.reply_codes import ACCESS_REFUSED, HARD_ERRORS, NOT_FOUND
from rmq_publisher.amqp.routes import declares_exchange
from rmq_publisher.exceptions import BrokerUnavailable, PublishError, Rejected
from rmq_publisher.messages.envelope import Destination, Envelope
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage

REFUSAL_SECONDS = 5.0  # how long a refused destination is answered from memory
FATAL_SECONDS = 60.0  # the same, for a declaration over which the broker closes connections
SICK_SECONDS = 1.0  # unanswered for longer, while others are answered: set aside
REFUSING_SECONDS = 2.0  # nacked for longer, and never acked: perhaps only on this channel


class RefusalCache:
    """Refused destinations, answered from memory for a while.

    A message that makes the broker close the channel costs everybody on it a replay; a view that
    keeps publishing to a forbidden exchange must not.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str | None], tuple[float, int, str]] = {}
        self._topologies: dict[Topology, tuple[float, int, str]] = {}
        self._no_channel: tuple[float, str] | None = None

    def __bool__(self) -> bool:
        return bool(self._until or self._topologies or self._no_channel)

    def remember(self, envelope: Envelope, code: int, text: str, now: float) -> None:
        """Remember a refusal; a 406 speaks of the message, not of where it goes."""
        if code in (ACCESS_REFUSED, NOT_FOUND):
            # "access to topic" is of one routing key; the other refusals are of the exchange.
            key = envelope.routing_key if "access to topic" in text else None
            self._until[envelope.exchange, key] = (now + REFUSAL_SECONDS, code, text)

    def remember_topology(self, topology: Topology, code: int, text: str, now: float) -> None:
        """Remember a declaration that ended the whole connection; other refusals affect one caller."""
        if code >= HARD_ERRORS:
            self._topologies[topology] = (now + FATAL_SECONDS, code, text)

    def remember_no_channel(self, reason: str, now: float) -> None:
        """Remember that topology cannot be verified: each attempt costs everybody the connection."""
        self._no_channel = (now + REFUSAL_SECONDS, reason)

    def answer(self, envelope: Envelope, now: float) -> PublishError | None:
        """Return the refusal that still applies to this message, if any."""
        if self._no_channel is not None and envelope.topology:
            until, reason = self._no_channel
            if now < until:
                return BrokerUnavailable(reason, **envelope.names)
            self._no_channel = None
        if fatal := self._topologies.get(envelope.topology):
            until, code, text = fatal
            if now < until:
                return Rejected(code, text, **envelope.names)
            del self._topologies[envelope.topology]
        for key in ((envelope.exchange, None), (envelope.exchange, envelope.routing_key)):
            if key not in self._until:
                continue
            until, code, text = self._until[key]
            if code == NOT_FOUND and declares_exchange(envelope.topology, envelope.exchange):
                continue  # it declares what another message has missed
            if now < until:
                return Rejected(code, text, **envelope.names)
            del self._until[key]
        return None

    def clear(self) -> None:
        """Forget refusals: permissions may differ on a new connection.

        What ended the last one is kept, or it would end the next.
        """
        self._until.clear()


class DestinationBreaker:
    """Destinations that do not answer while others do: one message in flight each, no places.

    Tried: 64 messages to a quorum queue without majority got no answer in 25 s, while a classic queue
    on the same channel answered at once.
    """

    def __init__(self) -> None:
        self._queues: dict[Destination, deque[OutgoingMessage]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        return sum(map(len, tuple(self._queues.values())))  # a copy: see `parking.parked`

    def __contains__(self, where: Destination) -> bool:
        return where in self._queues

    def destinations(self) -> tuple[Destination, ...]:
        """Return the destinations that are set aside."""
        return tuple(self._queues)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        for queue in self._queues.values():
            yield from queue

    def judge(
        self,
        unanswered: Mapping[Destination, Sequence[OutgoingMessage]],
        answered: set[Destination],
        now: float,
    ) -> list[OutgoingMessage]:
        """Set aside destinations that do not answer; return what they have in flight.

        Args:
            unanswered: what is in flight, oldest first, by destination.
            answered: destinations that answered lately.
            now: the clock's time.
        """
        sick: list[OutgoingMessage] = []
        for where, messages in unanswered.items():
            late = now - messages[0].written_at > SICK_SECONDS
            silent = where not in answered and where not in self._queues
            given_up = any(message.delivery.claimed for message in messages)
            if late and silent and (answered or given_up):
                self._queues[where] = deque()
                sick += messages
        return sick

    def hold(self, message: OutgoingMessage) -> None:
        """Keep a message until its destination has nothing in flight."""
        self._queues[message.envelope.destination].append(message)

    def due(self, in_flight: Container[Destination]) -> Iterator[OutgoingMessage]:
        """Yield the messages that may be sent now: for each destination until one is in flight.

        Args:
            in_flight: destinations of what is in flight; looked at again after each message.
        """
        for where, queue in self._queues.items():
            while queue and where not in in_flight:
                message = queue.popleft()
                if not message.delivery.claimed:
                    yield message

    def release(self, where: Destination) -> list[OutgoingMessage]:
        """The destination answered: return what was held for it."""
        return list(self._queues.pop(where))

    def reset(self) -> list[OutgoingMessage]:
        """Forget all; return what was held."""
        held = list(self)
        self._queues.clear()
        return held


class NackBreaker:
    """Destinations that nack all they get, for so long that another channel is worth a try.

    Tried with RabbitMQ 3.10: a channel that first publishes to a quorum queue while its leader's node
    is down nacks all that follows, also when there is another leader; a new channel is acked.
    """

    def __init__(self) -> None:
        self._since: dict[Destination, float] = {}
        self._long_since: float | None = None

    def __bool__(self) -> bool:
        return bool(self._since)

    @property
    def long(self) -> bool:
        """Whether one of them has nacked for long."""
        return self._long_since is not None

    def answered(self, where: Destination, now: float, *, nack: bool) -> None:
        """Note an answer."""
        if not nack:
            self._since.pop(where, None)
        elif now - self._since.setdefault(where, now) > REFUSING_SECONDS and not self.long:
            self._long_since = now

    def may_wait(self, now: float) -> bool:
        """Return whether others may be kept waiting, until nothing is in flight on this channel."""
        return self._long_since is not None and now - self._long_since < SICK_SECONDS

    def clear(self) -> None:
        """Start counting again, on another channel or on this one."""
        self._since.clear()
        self._long_since = None
