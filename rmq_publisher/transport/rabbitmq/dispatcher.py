"""When each message is written, and what each answer means. No I/O; only the I/O thread calls it.

The rules are those of docs/explanation/engine.md.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.exceptions import Unroutable
from rmq_publisher.messages.envelope import Destination
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.rabbitmq.batch_writer import BatchWriter
from rmq_publisher.transport.rabbitmq.circuit_breakers import SICK_SECONDS, NackBreaker
from rmq_publisher.transport.rabbitmq.dispatcher_states import Flow, State
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.publisher_confirms import PublisherConfirms
from rmq_publisher.transport.rabbitmq.send_queue import SendQueue
from rmq_publisher.transport.rabbitmq.topology_repair import Find


class Dispatcher:
    """The queue of messages in front of one confirming channel.

    Args:
        max_in_flight: places in the window.
        write: hands the frames of messages over to the channel, all or none.
        verify: begins to verify a topology; `verified` is called with the answer.
        renew: begins to close the channel and open another one; `reopened` is called then.
        clock: monotonic seconds.
        deciding: whether a topology may still make the broker end the connection, as one has before.
        note: takes a line for the log.
        find: begins to find the project's configs; what it is called with gets them, on the I/O thread.
    """

    def __init__(
        self,
        max_in_flight: int,
        write: Callable[[Sequence[OutgoingMessage]], None],
        verify: Callable[[Topology], None],
        renew: Callable[[], None],
        clock: Callable[[], float] = monotonic,
        deciding: Callable[[], bool] = lambda: False,
        note: Callable[[str], None] = lambda _: None,
        find: Find = lambda found: found(()),
    ) -> None:
        self.refusal = ""  # why messages end at once, unsent; read by calling threads
        self.flow = Flow(max_in_flight)
        self.answers = 0  # of this connection
        self._renew, self._clock, self._deciding = renew, clock, deciding
        self._queue = SendQueue(verify, find, note, clock)
        self.set_aside = self._queue.set_aside
        self._confirms = PublisherConfirms()
        self._writer = BatchWriter(write, self._confirms, self._queue.same_ids)
        self._nack_breaker = NackBreaker()
        self._answered: set[Destination] = set()  # since the last tick

    # What waits

    @property
    def waiting(self) -> int:
        """Messages that are not on the wire."""
        return len(self._queue)

    @property
    def unanswered(self) -> int:
        """Messages on the wire, those included whose callers gave up."""
        return len(self._confirms)

    @property
    def idle(self) -> bool:
        """Whether no caller waits for anything."""
        return all(item.delivery.claimed for item in chain(self._confirms, self._queue))

    def add(self, messages: Iterable[OutgoingMessage]) -> None:
        """Take messages in, in order."""
        self._queue.add(messages)
        if self.refusal:
            self.refuse(self.refusal)

    # Writing

    def pump(self) -> None:
        """Write all that may be written now, in one piece."""
        state = self.flow.state
        if state in (State.CLOSED, State.BLOCKED):
            return
        now = self._clock()
        if state is State.VERIFYING and self._is_deciding(now):
            return
        if self._nack_breaker.long and self._is_renewing(now):
            return
        if self.set_aside and not self.flow.suspects:
            self._try_set_aside(now)
        window = self.flow.window
        while self._queue.pending and self._confirms.in_flight < window:
            message = self._queue.pending.popleft()
            if self._may_go(message, now) and self._writer.take(message):
                self._confirms.place(message)
            elif self.flow.suspects and message.delivery.claimed:
                self.flow.suspects.discard(message)
        self._writer.hand_over(now)

    def _try_set_aside(self, now: float) -> None:
        in_flight = self._confirms.destinations()
        for message in self.set_aside.due(in_flight):
            if self._queue.admits(message, now) and self._writer.take(message):
                in_flight.add(message.envelope.destination)

    def _is_deciding(self, now: float) -> bool:
        """Have all verified that waits; return whether nothing may be written before that is done.

        A topology made the broker end the last connection and will end this one: what was on the wire
        both times would have lost both of its chances.
        """
        self._queue.verify(now)
        if self._deciding():
            return True
        self.flow.verified()
        return False

    def _is_renewing(self, now: float) -> bool:
        """Open another channel once no caller waits on this one; return whether to write nothing."""
        waited_for = any(not message.delivery.claimed for message in self._confirms)
        if waited_for and self._nack_breaker.may_wait(now):
            return True
        self._nack_breaker.clear()
        if waited_for or self.flow.suspects:
            return False
        self.flow.ready = False
        self._clear_wire()
        self._renew()
        return True

    def _may_go(self, message: OutgoingMessage, now: float) -> bool:
        # A suspect goes whatever its queue is like: the culprit must come to be alone on the wire.
        if self.flow.suspects and message in self.flow.suspects:
            return self._queue.admits(message, now)
        return self._queue.may_go(message, now)

    # Answers

    def returned(self, message_id: str, code: int, text: str) -> None:
        """Note a basic.return; the ack that follows makes it the outcome."""
        message = self._confirms.find(message_id)
        if message is not None:
            message.returned = Unroutable(code, text, **message.envelope.names)

    def answered(self, tag: int, *, multiple: bool, nack: bool = False) -> None:
        """Give the messages that an ack or nack speaks of their outcome."""
        self.flow.open_window()
        self.answers += 1
        for message in self._confirms.answered(tag, multiple=multiple):
            self._leave(message)
            where = message.envelope.destination
            self._answered.add(where)
            if self.set_aside and where in self.set_aside:
                self._take_back(where)
            if nack or self._nack_breaker:
                self._nack_breaker.answered(where, self._clock(), nack=nack)
            if nack or message.returned is not None:
                self._queue.refused(message, self._clock())
            else:
                message.delivery.resolve()

    def _take_back(self, where: Destination) -> None:
        """A destination that was set aside answered: its messages take places again."""
        self._queue.put_back(self.set_aside.release(where))
        for message in self._confirms:
            if not message.delivery.claimed and message.envelope.destination == where:
                self._confirms.place(message)

    def _leave(self, message: OutgoingMessage) -> None:
        """Let go of what waited for a message's answer, and of the suspicion."""
        if self.flow.suspects:
            self.flow.suspects.discard(message)
        if self._queue.same_ids:
            released = self._queue.same_ids.release(message.envelope.message_id)
            self._queue.put_back(released)

    def verified(self, topology: Topology, error: tuple[int, str] | None) -> None:
        """Let go on what waited for a topology; what needs it and cannot have it is rejected."""
        self._queue.verified(topology, error, self._clock())

    def cannot_verify(self, topology: Topology, reason: str) -> None:
        """End what needs topology: there is no channel on which to verify it."""
        self._queue.cannot_verify(topology, reason, self._clock())

    # What callers, the clock and the connection do

    def reap(self) -> None:
        """A caller's deadline has passed; while blocked, others need not wait for theirs."""
        if self.flow.blocked:
            self.refuse(f"RabbitMQ blocks publishing: {self.flow.blocked}")
        self._free_given_up()

    def _free_given_up(self) -> None:
        """Free the places of messages whose callers gave up; their tags stay tracked."""
        if self._confirms.reap():
            self.flow.open_window()
        self.flow.forget_suspects()

    def tick(self) -> None:
        """Set aside destinations that do not answer; where they fill the window, try another one."""
        self._free_given_up()
        if self.flow.state not in (State.VERIFYING, State.PROBING, State.OPEN):
            return  # suspects go one at a time, whatever their queues are like
        now = self._clock()
        by_destination = self._confirms.by_destination()
        for message in self.set_aside.judge(by_destination, self._answered, now):
            self._confirms.free(message)
        self._answered.clear()
        if self._confirms.in_flight >= self.flow.window and now - self._writer.last > SICK_SECONDS:
            self._try_another(set(by_destination), now)

    def _try_another(self, tried: set[Destination], now: float) -> None:
        """Send one message beyond the window: its answer shows whether a queue or the broker is stuck."""
        message = self._queue.take_untried(tried)
        if message is not None and self._may_go(message, now):
            self._writer.take(message)
            self._writer.hand_over(now)

    def opened(self, frame_max: int, *, cautious: bool = False) -> None:
        """A channel with confirms on is there, on a new connection.

        Args:
            frame_max: bytes.
            cautious: write nothing before what waits is verified.
        """
        self.flow.opened(cautious=cautious)
        self.refusal = ""
        self._writer.frame_max = frame_max
        self.answers = 0

    def reopened(self) -> None:
        """A channel with confirms on is there again, on the same connection."""
        self.flow.ready = True

    def block(self, reason: str) -> None:
        """The broker blocks publishing; what is on the wire may still be delivered after it."""
        self.flow.blocked = reason or "no reason given"

    def unblock(self) -> None:
        """The broker takes messages again."""
        self.flow.blocked = ""
        self.refusal = ""

    def refuse(self, reason: str) -> None:
        """End all that is not on the wire, now and until there is a channel again."""
        self.refusal = reason
        self._queue.fail(reason)
        self.flow.suspects.intersection_update(self._confirms)

    def channel_closed(self, code: int, text: str) -> None:
        """The broker closed the channel over one of the messages on it.

        Alone on the wire it is that one. Else those that callers wait for are sent again, one at a
        time, before anything else, until the culprit is alone.
        """
        self.flow.ready = False
        unanswered = self._clear_wire()
        self.flow.suspects.difference_update(unanswered)
        if len(unanswered) == 1:
            self._queue.condemn(unanswered[0], code, text, self._clock())
        else:
            live = [message for message in unanswered if not message.delivery.claimed]
            self.flow.suspects.update(live)
            self._queue.put_back(live)

    def _clear_wire(self) -> list[OutgoingMessage]:
        unanswered = self._confirms.clear()
        self._queue.channel_lost()
        return unanswered

    def lost(self, error: tuple[int, str] | None = None) -> None:
        """The connection is gone: what callers wait for goes first on the next one, once.

        Args:
            error: code and text with which the broker ended it; some messages make it do so. Then those
                on the wire go one at a time. What was alone on it, the second time, is the culprit.
        """
        self.flow.lost()
        self.refusal = ""  # the first reconnection is waited for
        self._nack_breaker.clear()
        unanswered = self._clear_wire()
        for message in unanswered:
            message.losses += 1
            if message.losses > 1 and error is not None and len(unanswered) == 1:
                self._queue.condemn(message, *error, self._clock())
            elif message.losses > 1:
                message.delivery.fail("the connection was lost a second time before the confirm")
        if error is not None:
            self.flow.suspects.update(unanswered)
        self.flow.forget_suspects()
        self._queue.connection_lost(unanswered)

    def fail_all(self, reason: str) -> None:
        """End everything that callers wait for."""
        for message in list(chain(self._confirms, self._queue)):
            message.delivery.fail(reason)
