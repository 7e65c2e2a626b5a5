"""The messages that are not on the wire, and why each of them waits. No I/O.

They are kept in the order of arrival. Apart from the others are those that wait for their topology, for
another message with the same id, or for a destination that does not answer.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.reply_codes import NOT_FOUND
from rmq_publisher.amqp.routes import Config, lacks_named_exchange
from rmq_publisher.exceptions import PublishError, Rejected
from rmq_publisher.messages.envelope import Destination
from rmq_publisher.transport.outcome import nacked
from rmq_publisher.transport.rabbitmq.circuit_breakers import DestinationBreaker, RefusalCache
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.parking import SameIdParking, TopologyParking, in_order
from rmq_publisher.transport.rabbitmq.topology_repair import Find, TopologyRepair, Verdict


class SendQueue:
    """What waits before the window.

    Attributes:
        pending: the next one first.
        set_aside: destinations that do not answer, and their messages.
        same_ids: messages that wait for another one with their id.
        refusals: what is answered from memory.
    """

    def __init__(
        self,
        verify: Callable[[Topology], None],
        find: Find,
        note: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.pending: deque[OutgoingMessage] = deque()
        self.set_aside = DestinationBreaker()
        self.same_ids = SameIdParking()
        self.refusals = RefusalCache()
        self._topology = TopologyParking(verify)
        self._repair = TopologyRepair(self._topology, verify, find, self._found, note)
        self._clock = clock
        self._sequence = 0

    def __len__(self) -> int:
        elsewhere = len(self._topology) + len(self.same_ids) + len(self.set_aside)
        return len(self.pending) + len(self._repair) + elsewhere

    def __iter__(self) -> Iterator[OutgoingMessage]:
        yield from self._topology
        yield from self._repair
        yield from self.same_ids
        yield from self.set_aside
        yield from self.pending

    def add(self, messages: Iterable[OutgoingMessage]) -> None:
        """Take messages in, in order."""
        for message in messages:
            self._sequence += 1
            message.sequence = self._sequence
            self.pending.append(message)

    def put_back(self, messages: Iterable[OutgoingMessage]) -> None:
        """Let messages that waited elsewhere, or were written, wait in their order of arrival."""
        self.pending = in_order(messages, self.pending)

    def admits(self, message: OutgoingMessage, now: float) -> bool:
        """Return whether its caller waits, it is not refused from memory, and its topology is there.

        Else it has its outcome, or is parked.
        """
        if message.delivery.claimed:
            return False
        if self.refusals and (denied := self.refusals.answer(message.envelope, now)):
            message.delivery.resolve(message.contradicted or denied)
            return False
        return self._topology.admits(message)

    def take_untried(self, tried: Container[Destination]) -> OutgoingMessage | None:
        """Take out the next message that goes to none of the destinations that were tried."""
        for index, message in enumerate(self.pending):
            if message.envelope.destination not in tried and not message.delivery.claimed:
                del self.pending[index]
                return message
        return None

    def verify(self, now: float) -> None:
        """Have the topology of all that waits verified; what needs none, or has it, goes on waiting."""
        waiting, self.pending = self.pending, deque()
        self.put_back([message for message in waiting if self.admits(message, now)])

    def may_go(self, message: OutgoingMessage, now: float) -> bool:
        """Return whether it may be written; else it has its outcome or waits elsewhere."""
        if not self.admits(message, now):
            return False
        if self.set_aside and message.envelope.destination in self.set_aside:
            self.set_aside.hold(message)
            return False
        return True

    def refused(self, message: OutgoingMessage, now: float) -> None:
        """A message was returned or nacked: that is its outcome, or its topology is declared again."""
        answer = message.returned or nacked(message.envelope)
        verdict = self._repair.judge(message, answer, now)
        if verdict is Verdict.FINAL:
            message.delivery.resolve(answer)
        elif verdict is Verdict.AGAIN and self._topology.admits(message):
            self.put_back((message,))  # its topology was declared again while it was on the wire

    def _found(self, project: Sequence[Config]) -> None:
        """What was answered may go again by the project's configs; else the answer is its outcome."""
        now = self._clock()
        again, final = self._repair.found(project, now)
        self.put_back(again)
        for message, answer in final:
            self._end(message, answer, now)

    def verified(self, topology: Topology, error: tuple[int, str] | None, now: float) -> None:
        """Let go on what waited for a topology; what needs it and cannot have it is rejected."""
        parked = self._topology.answered(topology, now, verified=error is None)
        if error is not None:
            self.refusals.remember_topology(topology, *error, now)
            parked = [
                message
                for message in parked
                if message.envelope.topology != topology or self._goes_on(message, *error, now)
            ]
        missing = error is not None and error[0] == NOT_FOUND
        missed = self._repair.verified(topology, now, missing=missing)
        self.put_back(item for item in (*parked, *missed) if not item.delivery.claimed)

    def _goes_on(self, message: OutgoingMessage, code: int, text: str, now: float) -> bool:
        """Return whether a message is to be sent although its topology was refused; end it if not.

        A missing exchange that is named by a string may be one of the project's configs.
        """
        refusal, verdict = Rejected(code, text, **message.envelope.names), Verdict.FINAL
        if lacks_named_exchange(message.envelope.topology, message.envelope.exchange, text):
            verdict = self._repair.judge(message, refusal, now)
        elif message.contradicted is not None:
            self._repair.was_futile(message, now)
        if verdict is Verdict.FINAL:
            message.delivery.resolve(message.contradicted or refusal)
        return verdict is Verdict.AGAIN

    def cannot_verify(self, topology: Topology, reason: str, now: float) -> None:
        """End what needs topology, now and for a while: there is no channel to verify it on."""
        self.refusals.remember_no_channel(reason, now)
        parked = self._topology.answered(topology, now, verified=False)
        self._repair.verified(topology, now, missing=False)
        for message in parked:
            if message.contradicted is not None:
                message.delivery.resolve(message.contradicted)
            elif message.envelope.topology:
                message.delivery.fail(reason)
        self.put_back(item for item in parked if not item.delivery.claimed)

    def condemn(self, culprit: OutgoingMessage, code: int, text: str, now: float) -> None:
        """Reject the message over which the broker closed the channel.

        If an exchange of its configs is missing, it is declared again, once.
        """
        answer = Rejected(code, text, **culprit.envelope.names)
        verdict = self._repair.judge(culprit, answer, now)
        if verdict is Verdict.AGAIN:
            self.put_back((culprit,))
        elif verdict is Verdict.FINAL:
            self._end(culprit, answer, now)

    def _end(self, message: OutgoingMessage, answer: PublishError, now: float) -> None:
        # One that was not written has closed no channel: to ask again costs nobody anything.
        if isinstance(answer, Rejected) and message.written_at:
            self.refusals.remember(message.envelope, answer.reply_code, answer.reply_text, now)
            self._topology.forget(message.envelope.topology)
        message.delivery.resolve(answer)

    def fail(self, reason: str) -> None:
        """End all that waits; what is parked is dropped when its turn comes."""
        for message in list(self):
            message.delivery.fail(reason)
        self.pending.clear()

    def channel_lost(self) -> None:
        """Nothing is in flight any more."""
        self.put_back(self.same_ids.reset())

    def connection_lost(self, unanswered: Iterable[OutgoingMessage]) -> None:
        """Put back all that callers wait for: it goes first on the next connection."""
        self.refusals.clear()
        self._repair.reset()
        rest = (*unanswered, *self._topology.reset(), *self.set_aside.reset())
        self.put_back(message for message in rest if not message.delivery.claimed)
