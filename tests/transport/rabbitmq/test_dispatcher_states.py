"""Every order of events keeps the dispatcher's promises."""

from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.exceptions import (
    BrokerUnavailable,
    ConfirmTimeout,
    Nacked,
    Rejected,
    Unroutable,
)
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.outcome import Delivery
from rmq_publisher.transport.rabbitmq.circuit_breakers import (
    REFUSAL_SECONDS,
    SICK_SECONDS,
)
from rmq_publisher.transport.rabbitmq.dispatcher import Dispatcher
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from tests.support.deliveries import Told, ids, needing
from tests.support.fake_channel import Channel, outcome

WINDOW = 4

FORBIDDEN = ("forbidden", "k")

ENDED = (541, "INTERNAL_ERROR")

PLACES = [("", "q1"), ("", "q2"), ("x", "k"), FORBIDDEN]
QUEUES = ["", "", "q1", "q2"]


class DispatchMachine(RuleBasedStateMachine):
    """Submits, answers, closes, losses, blocks, deadlines and ticks in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = Channel()
        self.channel.dispatcher._writer._write = self.written  # type: ignore[method-assign]
        self.channel.dispatcher._renew = self.renewed  # type: ignore[method-assign]
        self.all: list[Told] = []
        self.single: list[str] = []  # ids outside of batches: those of a batch are used once
        self.poison: set[Delivery] = set()
        self.first_written: dict[Told, int] = {}
        self.extras: set[Delivery] = set()  # beyond a full window, by a tick
        self.returned: set[Delivery] = set()
        self.answers: dict[Delivery, str] = {}
        self.lost: dict[Delivery, int] = {}
        self.enders: set[Delivery] = set()  # alone on the wire when the broker ended it, once more
        self.refused: set[Topology] = set()
        self.state = "new"
        self.ticking = False
        self.made = 0

    @property
    def dispatcher(self) -> Dispatcher:
        return self.channel.dispatcher

    @property
    def wire(self) -> dict[int, Delivery]:
        return self.channel.wire

    # What the dispatcher writes

    def written(self, messages: Sequence[OutgoingMessage]) -> None:
        deliveries = [message.delivery for message in messages]
        assert self.state == "open"
        on_wire = {item.envelope.message_id for item in self.wire.values()}
        live = [item for item in self.wire.values() if not item.claimed]
        for delivery in deliveries:
            assert not delivery.claimed, "written after its outcome was told"
            assert delivery.envelope.message_id not in on_wire, "twice on the wire"
            assert delivery.envelope.topology not in self.channel.asked, "not verified"
            on_wire.add(delivery.envelope.message_id)
            where = delivery.envelope.destination
            if where in self.dispatcher.set_aside:
                others = [item for item in live if item.envelope.destination == where]
                assert not others, "a destination that is set aside has one in flight"
            self.returned.discard(delivery)
            self.first_written.setdefault(delivery, len(self.first_written))
            live.append(delivery)
        if self.ticking:
            assert len(deliveries) == 1
            self.extras.update(deliveries)
        else:
            self.check_window(deliveries, live)
        self.channel.write(messages)

    def check_window(self, deliveries: Sequence[Delivery], live: list[Delivery]) -> None:
        aside = self.dispatcher.set_aside
        placed = [
            item
            for item in live
            if item.envelope.destination not in aside and item not in self.extras
        ]
        if any(item in placed for item in deliveries):
            assert len(placed) <= self.dispatcher.flow.window

    def renewed(self) -> None:
        self.channel.renew()
        self.extras.clear()
        self.state = "channel closed"

    # What happens

    @rule(
        data=st.data(),
        count=st.integers(1, 6),
        batched=st.booleans(),
        mismatched=st.sampled_from([False, False, False, True]),
    )
    def submit(self, data: st.DataObject, count: int, batched: bool, mismatched: bool) -> None:
        batch = object() if batched and count > 1 else None
        made = []
        for _ in range(count):
            where = data.draw(st.sampled_from(PLACES))
            message_id = f"m{self.made}"
            if batch is None and self.single and data.draw(st.integers(0, 4)) == 0:
                message_id = data.draw(st.sampled_from(self.single))
            delivery = Told(message_id, where, batch)
            queue = data.draw(st.sampled_from(QUEUES))
            if queue:
                needing(queue, delivery)
            if where == FORBIDDEN:
                self.poison.add(delivery)
            self.made += 1
            made.append(delivery)
        if mismatched:
            self.poison.add(made[-1])  # as a user_id that is not the login
        self.all += made
        self.single += ids(made) if batch is None else []
        self.dispatcher.add([delivery.message for delivery in made])

    @rule()
    def pump(self) -> None:
        self.dispatcher.pump()

    @precondition(lambda self: self.answerable())
    @rule(data=st.data(), multiple=st.booleans(), nack=st.booleans())
    def answer(self, data: st.DataObject, multiple: bool, nack: bool) -> None:
        tag = data.draw(st.sampled_from(self.answerable()))
        self.do_answer(tag, multiple=multiple, nack=nack)

    def answerable(self) -> list[int]:
        """The broker takes messages in order and stops at a poisoned one."""
        if self.state != "open":
            return []
        tags = []
        for tag, delivery in self.wire.items():
            if delivery in self.poison:
                break
            tags.append(tag)
        return tags

    def do_answer(self, tag: int, *, multiple: bool, nack: bool) -> None:
        tags = [known for known in self.wire if known == tag or (multiple and known < tag)]
        for known in tags:
            delivery = self.wire.pop(known)
            said = "returned" if delivery in self.returned else ("nack" if nack else "ack")
            if not delivery.claimed:
                self.answers[delivery] = said
        self.dispatcher.answered(tag, multiple=multiple, nack=nack)

    @precondition(lambda self: self.answerable())
    @rule(data=st.data())
    def return_one(self, data: st.DataObject) -> None:
        delivery = self.wire[data.draw(st.sampled_from(self.answerable()))]
        self.returned.add(delivery)
        self.dispatcher.returned(delivery.envelope.message_id, 312, "NO_ROUTE")

    @precondition(lambda self: self.state == "open" and self.channel.asked)
    @rule(data=st.data(), refuse=st.sampled_from([False, False, True]))
    def verify(self, data: st.DataObject, refuse: bool) -> None:
        topology = data.draw(st.sampled_from(self.channel.asked))
        self.channel.asked.remove(topology)
        if refuse:
            self.refused.add(topology)
        self.dispatcher.verified(topology, (404, "NOT_FOUND") if refuse else None)

    @precondition(lambda self: self.state == "open" and self.poison & set(self.wire.values()))
    @rule()
    def close_channel(self) -> None:
        poison = next(item for item in self.wire.values() if item in self.poison)
        self.channel.new_channel()
        self.extras.clear()
        self.state = "channel closed"
        code = 403 if poison.envelope.destination == FORBIDDEN else 406
        self.dispatcher.channel_closed(code, "refused")

    @precondition(lambda self: self.state == "channel closed")
    @rule()
    def reopen(self) -> None:
        self.state = "open"
        self.dispatcher.reopened()

    @precondition(lambda self: self.state in ("open", "channel closed"))
    @rule(ended=st.sampled_from([None, None, ENDED]))
    def lose(self, ended: tuple[int, str] | None) -> None:
        alone = len(self.wire) == 1
        for delivery in self.wire.values():
            self.lost[delivery] = self.lost.get(delivery, 0) + 1
            if ended and alone and self.lost[delivery] > 1:
                self.enders.add(delivery)
        self.channel.new_channel()
        self.channel.asked.clear()
        self.extras.clear()
        self.state = "lost"
        self.dispatcher.lost(ended)
        waiting = [item.sequence for item in self.dispatcher._queue.pending]
        assert waiting == sorted(waiting)

    @precondition(lambda self: self.state == "lost")
    @rule()
    def stay_down(self) -> None:
        self.dispatcher.refuse("cannot use RabbitMQ")
        assert all(item.done for item in self.all)

    @precondition(lambda self: self.state in ("new", "lost"))
    @rule()
    def open(self) -> None:
        self.state = "open"
        self.dispatcher.opened(FRAME_MAX)
        assert self.dispatcher.flow.window == 1

    @precondition(lambda self: self.state == "open" and not self.dispatcher.flow.blocked)
    @rule()
    def block(self) -> None:
        self.dispatcher.block("low on memory")

    @precondition(lambda self: self.state == "open" and self.dispatcher.flow.blocked)
    @rule()
    def unblock(self) -> None:
        self.dispatcher.unblock()

    @precondition(lambda self: any(not item.done for item in self.all))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiting = [item for item in self.all if not item.done]
        data.draw(st.sampled_from(waiting)).fail("the deadline")

    @rule()
    def reap(self) -> None:
        self.dispatcher.reap()

    @rule(seconds=st.sampled_from([0.1, 0.5, SICK_SECONDS + 0.1, REFUSAL_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.channel.now += seconds
        self.ticking = True
        self.dispatcher.tick()
        self.ticking = False

    # What must hold

    @invariant()
    def each_outcome_is_told_once_and_true(self) -> None:
        for delivery in self.all:
            assert delivery.told == delivery.done
            if delivery.done:
                self.check(delivery)

    def check(self, delivery: Told) -> None:
        error = delivery.error
        if delivery in self.answers:
            expected = {"ack": None, "nack": Nacked, "returned": Unroutable}
            assert outcome(delivery) is expected[self.answers[delivery]]
        elif isinstance(error, Rejected):
            by_topology = delivery.envelope.topology in self.refused and error.reply_code == 404
            ender = delivery in self.enders and error.reply_code == ENDED[0]
            assert delivery in self.poison or by_topology or ender, "an innocent one was rejected"
        elif isinstance(error, BrokerUnavailable):
            assert delivery not in self.first_written, "told not sent, but written"
        else:
            assert isinstance(error, ConfirmTimeout)
            assert delivery in self.first_written
            assert self.lost.get(delivery, 0) <= 2

    @invariant()
    def batches_were_first_written_in_order(self) -> None:
        last: dict[object, int] = {}
        for delivery in self.first_written:
            key = (delivery.batch, delivery.envelope.destination)
            if delivery.batch is not None and key in last:
                assert last[key] < delivery.message.sequence
            last[key] = delivery.message.sequence

    def teardown(self) -> None:
        """The broker mends: everything that waits gets its outcome, and the window opens again."""
        if self.dispatcher.flow.blocked:
            self.dispatcher.unblock()
        if self.state not in ("open", "channel closed"):
            self.open()
        waiting = [item for item in self.all if not item.done]
        for _ in range(10 * len(self.all) + 10):
            if self.state == "channel closed":
                self.reopen()
            while self.channel.asked:
                self.dispatcher.verified(self.channel.asked.pop(), None)
            self.dispatcher.reap()
            self.dispatcher.pump()
            if answerable := self.answerable():
                self.do_answer(answerable[-1], multiple=True, nack=False)
            elif self.wire:
                self.close_channel()
        self.each_outcome_is_told_once_and_true()
        self.batches_were_first_written_in_order()
        assert [item for item in waiting if not item.done] == []
        assert self.dispatcher.idle
        assert self.dispatcher.unanswered == 0
        if self.all:
            probe = Told("last")
            self.dispatcher.add([probe.message])
            self.dispatcher.pump()
            assert self.wire, "a message that may go is written"
            self.do_answer(next(iter(self.wire)), multiple=False, nack=False)
            assert self.dispatcher.flow.window == WINDOW


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(
    max_examples=2 * settings.default.max_examples,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
