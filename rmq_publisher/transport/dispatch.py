"""Which message is written when, and what each answer means. No I/O; the I/O thread alone calls it.

The rules that it keeps are those of docs/explanation/engine.md: a window shared by all threads, one
message at a time after a reconnect and after a closed channel, sick queues set aside, one id in flight
once, what was lost goes first on the next connection.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from rmq_publisher.exceptions import Nacked, Rejected, Unroutable
from rmq_publisher.message import FRAME_MAX, Destination, Envelope
from rmq_publisher.topology import Topology
from rmq_publisher.transport.base import Delivery, monotonic
from rmq_publisher.transport.confirms import Confirms
from rmq_publisher.transport.frames import header_fits, marshal
from rmq_publisher.transport.gates import Denials, SetAside, TopologyGate

SICK_SECONDS = 1.0  # unanswered for longer, while others are answered: set aside
FRAME_ERROR = 501


class Dispatcher:
    """The queue of messages in front of one confirming channel.

    Args:
        max_in_flight: places in the window.
        write: hands the frames of messages over to the channel, all or none.
        verify: begins to verify a topology; `verified` is called with the answer.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_in_flight: int,
        write: Callable[[Sequence[Delivery]], None],
        verify: Callable[[Topology], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.refusal = ""  # why messages end at once, unsent; read by calling threads
        self.blocked = ""  # the alarm's words
        self.frame_max = FRAME_MAX
        self.ready = False  # whether there is a channel with confirms on
        self.answers = 0  # of this connection
        self.set_aside = SetAside()
        self._max_in_flight = max_in_flight
        self._write = write
        self._clock = clock
        self._pending: deque[Delivery] = deque()
        self._confirms = Confirms()
        self._gate = TopologyGate(verify)
        self._denials = Denials()
        self._held: dict[str, deque[Delivery]] = {}  # the same id is in flight
        self._suspects: set[Delivery] = set()  # one of them made the broker close the channel
        self._probing = False  # nothing was answered on this connection yet
        self._last_write = 0.0
        self._answered: set[Destination] = set()  # since the last tick
        self._sequence = 0

    # What waits

    @property
    def waiting(self) -> int:
        """Messages that are not on the wire."""
        return len(self._pending) + len(self._gate)

    @property
    def unanswered(self) -> int:
        """Messages on the wire, those included whose callers gave up."""
        return len(self._confirms)

    @property
    def idle(self) -> bool:
        """Whether no caller waits for anything."""
        return all(delivery.claimed for delivery in self._everything())

    def _everything(self) -> Iterable[Delivery]:
        yield from self._confirms
        yield from self._waiting()

    def _waiting(self) -> Iterable[Delivery]:
        yield from self._gate
        for queue in self._held.values():
            yield from queue
        yield from self.set_aside
        yield from self._pending

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take messages in, in order."""
        for delivery in deliveries:
            self._sequence += 1
            delivery.sequence = self._sequence
            self._pending.append(delivery)
        if self.refusal:
            self.refuse(self.refusal)

    # Writing

    @property
    def window(self) -> int:
        """Places: one until something was answered, and while a culprit is looked for."""
        return 1 if self._probing or self._suspects else self._max_in_flight

    def pump(self) -> None:
        """Write all that may be written now, in one piece."""
        if not self.ready or self.blocked:
            return
        now = self._clock()
        batch: list[Delivery] = []
        if self.set_aside and not self._suspects:
            for delivery in self.set_aside.due():
                if self._take(delivery, batch):
                    self.set_aside.sent(delivery.envelope.destination)
        pending, window = self._pending, self.window
        while pending and self._confirms.in_flight < window:
            delivery = pending.popleft()
            if self._may_go(delivery, now) and self._take(delivery, batch):
                self._confirms.place(delivery)
            elif self._suspects:
                self._suspects.discard(delivery)
        self._hand_over(batch, now)

    def _may_go(self, delivery: Delivery, now: float) -> bool:
        """Return whether it may be written; else it has its outcome or waits elsewhere."""
        envelope = delivery.envelope
        if delivery.claimed:
            return False
        if self._denials and (denied := self._denials.answer(envelope, now)):
            delivery.resolve(denied)
            return False
        if not self._gate.admits(delivery):
            return False
        if self.set_aside and envelope.destination in self.set_aside:
            self.set_aside.hold(delivery)
            return False
        return True

    def _take(self, delivery: Delivery, batch: list[Delivery]) -> bool:
        """Put a message into the batch about to be written, unless its id is in flight."""
        envelope = delivery.envelope
        if self._confirms.find(envelope.message_id) is not None:
            self._held.setdefault(envelope.message_id, deque()).append(delivery)
            return False
        if self.frame_max != FRAME_MAX:
            if not header_fits(envelope, self.frame_max):
                text = f"FRAME_ERROR - headers exceed the negotiated {self.frame_max} bytes"
                delivery.resolve(Rejected(FRAME_ERROR, text, **envelope.names))
                return False
            delivery.data = marshal(envelope, self.frame_max)
        # Marked before `claimed` is read: see Delivery.fail().
        delivery.written = True
        if delivery.claimed:
            return False
        self._confirms.reserve(delivery)
        batch.append(delivery)
        return True

    def _hand_over(self, batch: list[Delivery], now: float) -> None:
        if not batch:
            return
        self._write(batch)
        # Counted only now: what raises has consumed no tag.
        self._last_write = now
        for delivery in batch:
            delivery.sent_at = now
            self._confirms.sent(delivery)

    # Answers

    def returned(self, message_id: str, code: int, text: str) -> None:
        """Note a basic.return; the ack that follows makes it the outcome."""
        delivery = self._confirms.find(message_id)
        if delivery is not None:
            delivery.returned = Unroutable(code, text, **delivery.envelope.names)

    def answered(self, tag: int, *, multiple: bool, nack: bool = False) -> None:
        """Give the messages that an ack or nack speaks of their outcome."""
        self._probing = False
        self.answers += 1
        for delivery in self._confirms.answered(tag, multiple=multiple):
            self._leave(delivery)
            where = delivery.envelope.destination
            self._answered.add(where)
            if self.set_aside and where in self.set_aside:
                self._take_back(where)
            if delivery.returned is not None:
                delivery.resolve(delivery.returned)
            elif nack:
                delivery.resolve(_nacked(delivery.envelope))
            else:
                delivery.resolve()

    def _take_back(self, where: Destination) -> None:
        """A destination that was set aside answered: its messages take places again."""
        self._pending.extendleft(reversed(self.set_aside.release(where)))
        for delivery in self._confirms:
            if not delivery.claimed and delivery.envelope.destination == where:
                self._confirms.place(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """Let go of what waited for a message's answer, and of the suspicion."""
        if self._suspects:
            self._suspects.discard(delivery)
        if self._held:
            message_id = delivery.envelope.message_id
            if waiting := self._held.pop(message_id, None):
                self._pending.appendleft(waiting.popleft())
                if waiting:
                    self._held[message_id] = waiting

    def verified(self, topology: Topology, error: tuple[int, str] | None) -> None:
        """Let go on what waited for a topology; what needs it and cannot have it is rejected."""
        parked = self._gate.answered(topology, verified=error is None)
        if error is not None:
            for delivery in parked:
                if delivery.envelope.topology == topology:
                    delivery.resolve(Rejected(error[0], error[1], **delivery.envelope.names))
        self._pending.extendleft(reversed([item for item in parked if not item.claimed]))

    # What callers, the clock and the connection do

    def reap(self) -> None:
        """Free the places of messages whose callers gave up; their tags stay tracked."""
        if self.blocked:
            self.refuse(f"RabbitMQ blocks publishing: {self.blocked}")
        for delivery in self._confirms.reap():
            self._probing = False
            self._suspects.discard(delivery)
            self.set_aside.gone(delivery.envelope.destination)

    def tick(self) -> None:
        """Set sick destinations aside; where the window is full of them, try another one."""
        if self.blocked or not self.ready:
            return
        now = self._clock()
        by_destination = self._confirms.by_destination()
        for where, deliveries in by_destination.items():
            late = now - deliveries[0].sent_at > SICK_SECONDS
            silent = where not in self._answered and where not in self.set_aside
            given_up = any(delivery.claimed for delivery in deliveries)
            if late and silent and (self._answered or given_up):
                for delivery in deliveries:
                    self._confirms.free(delivery)
                waited_for = sum(not delivery.claimed for delivery in deliveries)
                self.set_aside.add(where, waited_for)
        self._answered.clear()
        if self._confirms.in_flight >= self.window and now - self._last_write > SICK_SECONDS:
            self._try_another(set(by_destination), now)

    def _try_another(self, tried: set[Destination], now: float) -> None:
        """Send one message beyond a full, silent window to a destination that was not tried.

        Its answer tells a sick queue from a sick broker.
        """
        if self._suspects:
            return
        for index, delivery in enumerate(self._pending):
            if delivery.envelope.destination not in tried and not delivery.claimed:
                del self._pending[index]
                batch: list[Delivery] = []
                if self._may_go(delivery, now):
                    self._take(delivery, batch)
                self._hand_over(batch, now)
                return

    def opened(self, frame_max: int) -> None:
        """A channel with confirms on is there, on a new connection."""
        self.ready = True
        self.refusal = ""
        self.blocked = ""
        self.frame_max = frame_max
        self.answers = 0
        self._probing = True

    def reopened(self) -> None:
        """A channel with confirms on is there again, on the same connection."""
        self.ready = True

    def block(self, reason: str) -> None:
        """The broker blocks publishing; what is on the wire may still be delivered after it."""
        self.blocked = reason or "no reason given"

    def unblock(self) -> None:
        """The broker takes messages again."""
        self.blocked = ""
        self.refusal = ""

    def refuse(self, reason: str) -> None:
        """End all that is not on the wire, now and until there is a channel again."""
        self.refusal = reason
        for delivery in list(self._waiting()):
            delivery.fail(reason)
        self._pending.clear()

    def channel_closed(self, code: int, text: str) -> None:
        """The broker closed the channel over one of the messages on it.

        With one live message on the wire it is that one. Else they are all sent again, one at a time,
        before anything else, until the culprit is alone.
        """
        self.ready = False
        unanswered = self._clear_wire()
        live = [delivery for delivery in unanswered if not delivery.claimed]
        if len(live) == 1 and (len(unanswered) == 1 or live[0] in self._suspects):
            culprit = live[0]
            self._suspects.discard(culprit)
            self._denials.remember(culprit.envelope, code, text, self._clock())
            self._gate.forget(culprit.envelope.topology)
            culprit.resolve(Rejected(code, text, **culprit.envelope.names))
        else:
            self._suspects.update(live)
            self._pending.extendleft(reversed(live))

    def _clear_wire(self) -> list[Delivery]:
        unanswered = self._confirms.clear()
        self.set_aside.channel_lost()
        for waiting in self._held.values():
            self._pending.extend(waiting)
        self._held.clear()
        return unanswered

    def lost(self) -> None:
        """The connection is gone: what callers wait for goes first on the next one, once."""
        self.ready = False
        self.blocked = ""
        self.refusal = ""  # the first reconnection is waited for
        self._probing = False
        self._suspects.clear()
        self._denials.clear()
        unanswered = self._clear_wire()
        for delivery in unanswered:
            delivery.losses += 1
            if delivery.losses > 1:
                delivery.fail("the connection was lost a second time before the confirm")
        rest = [*unanswered, *self._gate.reset(), *self.set_aside.reset(), *self._pending]
        alive = [delivery for delivery in rest if not delivery.claimed]
        self._pending = deque(sorted(alive, key=lambda delivery: delivery.sequence))

    def fail_all(self, reason: str) -> None:
        """End everything that callers wait for."""
        for delivery in list(self._everything()):
            delivery.fail(reason)


def _nacked(envelope: Envelope) -> Nacked:
    where = f"exchange {envelope.exchange!r}, routing key {envelope.routing_key!r}"
    return Nacked(f"refused by a queue ({where}, message {envelope.message_id})", **envelope.names)
