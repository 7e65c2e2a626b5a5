"""If an answer contradicts a message's configs, they are declared again, once. No I/O.

A queue expires, an operator deletes an exchange, a binding is removed by hand: the connection has
verified all of it before, and only the broker's answer about a message shows that it is gone. The
configs are those of the message or, where these lead it nowhere, of the project.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import TypeAlias

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.reply_codes import NOT_FOUND
from rmq_publisher.amqp.routes import Config, contradicts, expects_route, names, with_route
from rmq_publisher.exceptions import Nacked, PublishError, Rejected
from rmq_publisher.messages.envelope import Destination, Envelope
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.parking import TopologyParking, parked

FUTILE_SECONDS = 1.0  # so long a destination for which a declaration was to no avail is left alone
FUTILE_MAX = 1024  # destinations that are remembered

OnFound: TypeAlias = Callable[[Sequence[Config]], None]
Find: TypeAlias = Callable[[OnFound], None]


class Verdict(Enum):
    """What an answer about a message means."""

    FINAL = auto()  # it is the outcome
    AGAIN = auto()  # the message is to be sent again
    OPEN = auto()  # not known yet: the message is kept


class TopologyRepair:
    """Decides which answers are worth another declaration.

    A nack is worth one only where something is missing: a queue that is full nacks as well, and other
    queues may have taken the message.

    Args:
        parking: keeps messages until their topology is declared.
        verify: begins to verify a topology; `verified` is called with the answer.
        find: begins to find the project's configs; what it is called with gets them.
        found: called with the project's configs, for `found`.
        note: takes a line for the log.
    """

    def __init__(
        self,
        parking: TopologyParking,
        verify: Callable[[Topology], None],
        find: Find,
        found: OnFound,
        note: Callable[[str], None],
    ) -> None:
        self._parking, self._verify, self._note = parking, verify, note
        self._find, self._on_found = find, found
        self._nacked: dict[Topology, list[OutgoingMessage]] = {}  # by the names that are verified
        self._unsure: list[OutgoingMessage] = []  # until the project's configs are found
        self._futile: dict[tuple[Topology, Destination], float] = {}

    def __len__(self) -> int:
        return parked(self._nacked) + len(self._unsure)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        for messages in self._nacked.values():
            yield from messages
        yield from self._unsure

    def judge(self, message: OutgoingMessage, answer: PublishError, now: float) -> Verdict:
        """Return what an answer means."""
        envelope = message.envelope
        if message.delivery.claimed:
            return Verdict.FINAL
        if message.contradicted is not None:
            self.was_futile(message, now)
            return Verdict.FINAL
        if not _tells_of_topology(answer) or self._is_futile(message, now):
            return Verdict.FINAL
        message.contradicted = answer
        if not isinstance(answer, Nacked):
            message.delivery.written = False  # the broker does not have it, and says so
        leads = expects_route(envelope.topology, *envelope.destination)
        if leads and _contradicts(envelope, answer):
            return self._again(message, answer)
        self._unsure.append(message)
        if len(self._unsure) == 1:
            self._find(self._on_found)
        return Verdict.OPEN

    def found(
        self, project: Sequence[Config], now: float
    ) -> tuple[list[OutgoingMessage], list[tuple[OutgoingMessage, PublishError]]]:
        """Return the kept messages that are to be queued again, and those whose answer is final."""
        unsure, self._unsure = self._unsure, []
        again: list[OutgoingMessage] = []
        final: list[tuple[OutgoingMessage, PublishError]] = []
        for message in unsure:
            answer, envelope = message.contradicted, message.envelope
            if message.delivery.claimed or answer is None:
                continue
            topology = with_route(envelope.topology, project, *envelope.destination)
            envelope = envelope._replace(topology=topology)
            if not _contradicts(envelope, answer):
                self.was_futile(message, now)
                final.append((message, answer))
                continue
            message.envelope = envelope
            if self._again(message, answer) is Verdict.AGAIN:
                again.append(message)
        return again, final

    def _again(self, message: OutgoingMessage, answer: PublishError) -> Verdict:
        if isinstance(answer, Nacked):
            self._look(message)
            return Verdict.OPEN
        self._declare_anew(message, answer)
        return Verdict.AGAIN

    def _look(self, message: OutgoingMessage) -> None:
        """Verify that the queues and exchanges of a nacked message exist."""
        wanted = names(message.envelope.topology)
        waiting = self._nacked.setdefault(wanted, [])
        waiting.append(message)
        if len(waiting) == 1:
            self._verify(wanted)

    def _declare_anew(self, message: OutgoingMessage, answer: PublishError) -> None:
        topology = message.envelope.topology
        # One that was not written was refused over what it named, and that is news of this moment.
        if self._parking.forget(topology, since=message.written_at or math.inf):
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
                assert message.contradicted is not None  # noqa: S101 (narrowing; see `judge`)
                self._declare_anew(message, message.contradicted)
            return waiting
        for message in waiting:
            self.was_futile(message, now)
        _end(waiting)
        return []

    def reset(self) -> None:
        """Forget everything, as a new connection must; what came back is still to be sent again."""
        _end(message for message in self if isinstance(message.contradicted, Nacked))
        self._unsure = [item for item in self._unsure if not isinstance(item.contradicted, Nacked)]
        self._nacked.clear()
        self._futile.clear()

    def _is_futile(self, message: OutgoingMessage, now: float) -> bool:
        when = self._futile.get(_asked_for(message))
        return when is not None and now - when < FUTILE_SECONDS

    def was_futile(self, message: OutgoingMessage, now: float) -> None:
        """Note that declaring again did not help, or that there is nothing to declare."""
        if len(self._futile) >= FUTILE_MAX:
            self._futile.clear()
        self._futile[_asked_for(message)] = now


def _asked_for(message: OutgoingMessage) -> tuple[Topology, Destination]:
    """Return the topology with which a message came here, and where it goes."""
    return message.delivery.envelope.topology, message.envelope.destination


def _tells_of_topology(answer: PublishError) -> bool:
    return not isinstance(answer, Rejected) or answer.reply_code == NOT_FOUND


def _contradicts(envelope: Envelope, answer: PublishError) -> bool:
    """Return whether the configs of a message say that the answer should be another."""
    no_exchange = isinstance(answer, Rejected)
    return contradicts(envelope.topology, *envelope.destination, no_exchange=no_exchange)


def _end(waiting: Iterable[OutgoingMessage]) -> None:
    for message in waiting:
        message.delivery.resolve(message.contradicted)
