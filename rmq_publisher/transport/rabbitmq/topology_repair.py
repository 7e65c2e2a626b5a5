"""Answers that contradict what a message's configs say: its topology is declared anew, once. No I/O.

A queue expires, an operator deletes an exchange, a binding is removed by hand: the connection has
verified all of it before, and only the broker's answer about a message shows that it is gone.
"""

from collections.abc import Callable, Iterator

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.reply_codes import NOT_FOUND
from rmq_publisher.amqp.routes import declares_exchange, expects_route, names
from rmq_publisher.exceptions import Nacked, PublishError, Rejected
from rmq_publisher.messages.envelope import Destination, Envelope
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.parking import TopologyParking, parked

FUTILE_SECONDS = 1.0  # so long a topology that was declared anew to no avail is left alone
FUTILE_MAX = 1024  # destinations that are remembered


class TopologyRepair:
    """Decides which answers are worth another declaration.

    A nack is worth one only where something is missing: a queue that is full nacks as well, and other
    queues may have taken the message.

    Args:
        parking: keeps messages until their topology is declared.
        verify: begins to verify a topology; `verified` is called with the answer.
        note: takes a line for the log.
    """

    def __init__(
        self,
        parking: TopologyParking,
        verify: Callable[[Topology], None],
        note: Callable[[str], None],
    ) -> None:
        self._parking, self._verify, self._note = parking, verify, note
        self._nacked: dict[Topology, list[OutgoingMessage]] = {}  # by the names that are verified
        self._futile: dict[tuple[Topology, Destination], float] = {}

    def __len__(self) -> int:
        return parked(self._nacked)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        for messages in self._nacked.values():
            yield from messages

    def takes(self, message: OutgoingMessage, answer: PublishError, now: float) -> bool:
        """Return whether a message is to be sent again; if not, the answer is its outcome.

        A nacked one is kept here; any other one has to be queued again.
        """
        envelope = message.envelope
        if not envelope.topology or message.delivery.claimed:
            return False
        if message.contradicted is not None:
            self._was_futile(envelope, now)
            return False
        if not _contradicts(envelope, answer) or self._is_futile(envelope, now):
            return False
        message.contradicted = answer
        if isinstance(answer, Nacked):
            self._look(message)
        else:
            message.delivery.written = False  # the broker does not have it, and says so
            self._declare_anew(message, answer)
        return True

    def _look(self, message: OutgoingMessage) -> None:
        """Verify that the queues and exchanges of a nacked message exist."""
        wanted = names(message.envelope.topology)
        waiting = self._nacked.setdefault(wanted, [])
        waiting.append(message)
        if len(waiting) == 1:
            self._verify(wanted)

    def _declare_anew(self, message: OutgoingMessage, answer: PublishError) -> None:
        topology = message.envelope.topology
        if self._parking.forget(topology, since=message.written_at):
            # Not str(answer): that may import the project's modules, for its advice.
            self._note(
                "exchange {exchange!r}, routing key {routing_key!r}, message {message_id}: ".format(
                    **message.envelope.names
                )
                + f"{answer.args[0]}: the queues and exchanges of its configs are declared again"
            )

    def verified(self, wanted: Topology, now: float, *, missing: bool) -> list[OutgoingMessage]:
        """Return the nacked messages that are to be queued again, where something is missing."""
        waiting = self._nacked.pop(wanted, [])
        if missing:
            for message in waiting:
                assert message.contradicted is not None  # noqa: S101 (narrowing; see `takes`)
                self._declare_anew(message, message.contradicted)
            return waiting
        for message in waiting:
            self._was_futile(message.envelope, now)
        _end(waiting)
        return []

    def reset(self) -> None:
        """Forget everything, as a new connection must."""
        for waiting in self._nacked.values():
            _end(waiting)
        self._nacked.clear()
        self._futile.clear()

    def _is_futile(self, envelope: Envelope, now: float) -> bool:
        when = self._futile.get((envelope.topology, envelope.destination))
        return when is not None and now - when < FUTILE_SECONDS

    def _was_futile(self, envelope: Envelope, now: float) -> None:
        if len(self._futile) >= FUTILE_MAX:
            self._futile.clear()
        self._futile[envelope.topology, envelope.destination] = now


def _contradicts(envelope: Envelope, answer: PublishError) -> bool:
    """Return whether the configs of a message say that the answer should be another."""
    if isinstance(answer, Rejected):
        is_missing = answer.reply_code == NOT_FOUND
        return is_missing and declares_exchange(envelope.topology, envelope.exchange)
    return expects_route(envelope.topology, *envelope.destination)


def _end(waiting: list[OutgoingMessage]) -> None:
    for message in waiting:
        message.delivery.resolve(message.contradicted)
