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
from rmq_publisher.transport.gates import (
    SICK_SECONDS,
    Denials,
    Refusing,
    SameIds,
    SetAside,
    TopologyGate,
    in_order,
)

FRAME_ERROR = 501


class Dispatcher:
    """The queue of messages in front of one confirming channel.

    Args:
        max_in_flight: places in the window.
        write: hands the frames of messages over to the channel, all or none.
        verify: begins to verify a topology; `verified` is called with the answer.
        renew: begins to close the channel and open another one; `reopened` is called then.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_in_flight: int,
        write: Callable[[Sequence[Delivery]], None],
        verify: Callable[[Topology], None],
        renew: Callable[[], None],
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
        self._renew = renew
        self._clock = clock
        self._pending: deque[Delivery] = deque()  # in the order of arrival, always
        self._confirms = Confirms()
        self._gate = TopologyGate(verify)
        self._denials = Denials()
        self._refusing = Refusing()
        self._same_ids = SameIds()
        self._suspects: set[Delivery] = set()  # one of them made the broker close the channel
        self._probing = False  # nothing was answered on this connection yet
        self._last_write = 0.0
        self._answered: set[Destination] = set()  # since the last tick
        self._sequence = 0

    # What waits

    @property
    def waiting(self) -> int:
        """Messages that are not on the wire."""
        elsewhere = len(self._gate) + len(self._same_ids) + len(self.set_aside)
        return len(self._pending) + elsewhere

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
        yield from self._same_ids
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
        if self._refusing.long and self._is_renewing(now):
            return
        batch: list[Delivery] = []
        if self.set_aside and not self._suspects:
            for delivery in self.set_aside.due():
                if self._is_admitted(delivery, now) and self._take(delivery, batch):
                    self.set_aside.sent(delivery.envelope.destination)
        window = self.window
        while self._pending and self._confirms.in_flight < window:
            delivery = self._pending.popleft()
            if self._may_go(delivery, now) and self._take(delivery, batch):
                self._confirms.place(delivery)
                if self._suspects:
                    self.set_aside.sent(delivery.envelope.destination)
            elif self._suspects:
                self._suspects.discard(delivery)
        self._hand_over(batch, now)

    def _is_renewing(self, now: float) -> bool:
        """Take another channel as soon as nobody waits for an answer on this one.

        Return whether nothing may be written meanwhile.
        """
        waited_for = any(not delivery.claimed for delivery in self._confirms)
        if waited_for and self._refusing.may_wait(now):
            return True
        self._refusing.clear()
        if waited_for or self._suspects:
            return False
        self.ready = False
        self._clear_wire()
        self._renew()
        return True

    def _put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Let messages that waited elsewhere wait in their order of arrival."""
        self._pending = in_order(deliveries, self._pending)

    def _may_go(self, delivery: Delivery, now: float) -> bool:
        """Return whether it may be written; else it has its outcome or waits elsewhere."""
        if not self._is_admitted(delivery, now):
            return False
        # A suspect goes whatever its queue is like: the culprit must come to be alone on the wire.
        if (
            self.set_aside
            and delivery.envelope.destination in self.set_aside
            and delivery not in self._suspects
        ):
            self.set_aside.hold(delivery)
            return False
        return True

    def _is_admitted(self, delivery: Delivery, now: float) -> bool:
        """Return whether its caller waits, it is not refused from memory, and its topology is there."""
        if delivery.claimed:
            return False
        if self._denials and (denied := self._denials.answer(delivery.envelope, now)):
            delivery.resolve(denied)
            return False
        return self._gate.admits(delivery)

    def _take(self, delivery: Delivery, batch: list[Delivery]) -> bool:
        """Put a message into the batch about to be written, unless its id is in flight."""
        envelope = delivery.envelope
        if self._confirms.find(envelope.message_id) is not None:
            self._same_ids.hold(delivery)
            return False
        if self.frame_max != FRAME_MAX:
            if not header_fits(envelope, self.frame_max):
                text = f"FRAME_ERROR - headers exceed the negotiated {self.frame_max} bytes"
                delivery.resolve(Rejected(FRAME_ERROR, text, **envelope.names))
                return False
            delivery.data = marshal(envelope, self.frame_max)
        delivery.returned = None  # what came back on a lost connection may be routable by now
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
            if nack or self._refusing:
                self._refusing.answered(where, self._clock(), nack=nack)
            if delivery.returned is not None:
                delivery.resolve(delivery.returned)
            elif nack:
                delivery.resolve(_nacked(delivery.envelope))
            else:
                delivery.resolve()

    def _take_back(self, where: Destination) -> None:
        """A destination that was set aside answered: its messages take places again."""
        self._put_back(self.set_aside.release(where))
        for delivery in self._confirms:
            if not delivery.claimed and delivery.envelope.destination == where:
                self._confirms.place(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """Let go of what waited for a message's answer, and of the suspicion."""
        if self._suspects:
            self._suspects.discard(delivery)
        if self._same_ids:
            self._put_back(self._same_ids.release(delivery.envelope.message_id))

    def verified(self, topology: Topology, error: tuple[int, str] | None) -> None:
        """Let go on what waited for a topology; what needs it and cannot have it is rejected."""
        parked = self._gate.answered(topology, verified=error is None)
        if error is not None:
            self._denials.remember_topology(topology, *error, self._clock())
            for delivery in parked:
                if delivery.envelope.topology == topology:
                    delivery.resolve(Rejected(error[0], error[1], **delivery.envelope.names))
        self._put_back(item for item in parked if not item.claimed)

    # What callers, the clock and the connection do

    def reap(self) -> None:
        """A caller's deadline has passed; while blocked, others need not wait for theirs."""
        if self.blocked:
            self.refuse(f"RabbitMQ blocks publishing: {self.blocked}")
        self._free_given_up()

    def _free_given_up(self) -> None:
        """Free the places of messages whose callers gave up; their tags stay tracked."""
        for delivery in self._confirms.reap():
            self._probing = False
            self._suspects.discard(delivery)
            self.set_aside.gone(delivery.envelope.destination)

    def tick(self) -> None:
        """Set sick destinations aside; where the window is full of them, try another one."""
        self._free_given_up()
        if self.blocked or not self.ready or self._suspects:
            return  # suspects go one at a time, whatever their queues are like
        now = self._clock()
        by_destination = self._confirms.by_destination()
        for delivery in self.set_aside.judge(by_destination, self._answered, now):
            self._confirms.free(delivery)
        self._answered.clear()
        if self._confirms.in_flight >= self.window and now - self._last_write > SICK_SECONDS:
            self._try_another(set(by_destination), now)

    def _try_another(self, tried: set[Destination], now: float) -> None:
        """Send one message beyond a full, silent window to a destination that was not tried.

        Its answer tells a sick queue from a sick broker.
        """
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
        self._suspects.intersection_update(self._confirms)

    def channel_closed(self, code: int, text: str) -> None:
        """The broker closed the channel over one of the messages on it.

        Alone on the wire it is that one. Else those that callers wait for are sent again, one at a
        time, before anything else, until the culprit is alone.
        """
        self.ready = False
        unanswered = self._clear_wire()
        self._suspects.difference_update(unanswered)
        if len(unanswered) == 1:
            culprit = unanswered[0]
            self._denials.remember(culprit.envelope, code, text, self._clock())
            self._gate.forget(culprit.envelope.topology)
            culprit.resolve(Rejected(code, text, **culprit.envelope.names))
        else:
            live = [delivery for delivery in unanswered if not delivery.claimed]
            self._suspects.update(live)
            self._put_back(live)

    def _clear_wire(self) -> list[Delivery]:
        unanswered = self._confirms.clear()
        self.set_aside.channel_lost()
        self._put_back(self._same_ids.reset())
        return unanswered

    def lost(self) -> None:
        """The connection is gone: what callers wait for goes first on the next one, once."""
        self.ready = False
        self.blocked = ""
        self.refusal = ""  # the first reconnection is waited for
        self._probing = False
        self._suspects.clear()
        self._denials.clear()
        self._refusing.clear()
        unanswered = self._clear_wire()
        for delivery in unanswered:
            delivery.losses += 1
            if delivery.losses > 1:
                delivery.fail("the connection was lost a second time before the confirm")
        rest = (*unanswered, *self._gate.reset(), *self.set_aside.reset())
        self._put_back(delivery for delivery in rest if not delivery.claimed)

    def fail_all(self, reason: str) -> None:
        """End everything that callers wait for."""
        for delivery in list(self._everything()):
            delivery.fail(reason)


def _nacked(envelope: Envelope) -> Nacked:
    where = f"exchange {envelope.exchange!r}, routing key {envelope.routing_key!r}"
    return Nacked(f"refused by a queue ({where}, message {envelope.message_id})", **envelope.names)
