"""The engine's rules that need no broker: a fake channel, a fake clock, every order of events."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rmq_publisher.amqp.entities import QueueName, Topology
from rmq_publisher.exceptions import (
    BrokerUnavailable,
    ConfirmTimeout,
    Nacked,
    PublishError,
    Rejected,
    Unroutable,
)
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.base import Delivery
from rmq_publisher.transport.rabbitmq.circuit_breakers import (
    DENIAL_SECONDS,
    REFUSING_SECONDS,
    SICK_SECONDS,
)
from rmq_publisher.transport.rabbitmq.dispatcher import Dispatcher
from tests.support.deliveries import Told, ids, needing, told

WINDOW = 4
SICK, WELL = ("", "sick"), ("", "well")


class Channel:
    """A confirming channel of a broker that answers when it is told to."""

    def __init__(self, window: int = WINDOW) -> None:
        self.now = 100.0
        self.pieces: list[list[str]] = []  # what was written at once
        self.log: list[str] = []  # all ids written, in order
        self.wire: dict[int, Delivery] = {}  # unanswered, by tag
        self.asked: list[Topology] = []
        self.tag = 0
        self.renewals = 0
        self.deciding = False
        self.dispatcher = Dispatcher(
            window, self.write, self.asked.append, self.renew, lambda: self.now,
            lambda: self.deciding,
        )  # fmt: skip

    def write(self, deliveries: Sequence[Delivery]) -> None:
        assert self.dispatcher.ready
        assert not self.dispatcher.blocked
        self.pieces.append(ids(deliveries))
        for delivery in deliveries:
            assert delivery.data is not None
            self.tag += 1
            self.wire[self.tag] = delivery
        self.log += ids(deliveries)

    def open(self, *, warm: bool = True, frame_max: int = FRAME_MAX) -> "Channel":
        """Connect; warm: the first answer has come, so that the window is open."""
        self.new_channel()
        self.dispatcher.opened(frame_max)
        if warm:
            self.send(Told("warm"))
            self.ack("warm")
            self.later(0)  # "answered lately" is forgotten
        return self

    def send(self, *deliveries: Told) -> list[str]:
        """Take them in and pump; return what was written."""
        self.dispatcher.add(deliveries)
        return self.pump()

    def pump(self) -> list[str]:
        before = len(self.log)
        self.dispatcher.pump()
        return self.log[before:]

    def tag_of(self, message_id: str) -> int:
        return next(
            tag for tag, item in self.wire.items() if item.envelope.message_id == message_id
        )

    def ack(self, message_id: str, *, multiple: bool = False, nack: bool = False) -> list[str]:
        """Answer, and pump; return what was written after it."""
        tag = self.tag_of(message_id)
        for known in [known for known in self.wire if known == tag or (multiple and known < tag)]:
            del self.wire[known]
        self.dispatcher.answered(tag, multiple=multiple, nack=nack)
        return self.pump()

    def close(self, code: int = 403, text: str = "ACCESS_REFUSED") -> list[str]:
        """The broker closes the channel; another one is opened. Returns what was written on it."""
        self.new_channel()
        self.dispatcher.channel_closed(code, text)
        self.dispatcher.reopened()
        return self.pump()

    def lose(self, error: tuple[int, str] | None = None) -> None:
        self.new_channel()
        self.dispatcher.lost(error)

    def renew(self) -> None:
        assert all(delivery.claimed for delivery in self.wire.values())
        self.renewals += 1
        self.new_channel()

    def new_channel(self) -> None:
        self.wire.clear()
        self.tag = 0

    def give_up(self, *deliveries: Delivery) -> list[str]:
        for delivery in deliveries:
            delivery.fail("the deadline")
        self.dispatcher.reap()
        return self.pump()

    def later(self, seconds: float) -> list[str]:
        """Time passes, and the clock ticks once."""
        self.now += seconds
        before = len(self.log)
        self.dispatcher.tick()
        self.dispatcher.pump()
        return self.log[before:]


@pytest.fixture
def channel() -> Channel:
    return Channel().open()


def outcome(delivery: Delivery) -> type[PublishError] | None:
    assert delivery.done
    return type(delivery.error) if delivery.error is not None else None


# -- the window, and one piece ---------------------------------------------------------------------


def test_all_that_waits_is_written_in_one_piece_up_to_the_window(channel: Channel) -> None:
    messages = told(6)
    assert channel.send(*messages) == ["m0", "m1", "m2", "m3"]
    assert channel.pieces[-1] == ["m0", "m1", "m2", "m3"]
    assert channel.ack("m1") == ["m4"]
    assert channel.ack("m4", multiple=True) == ["m5"]
    assert [item.done for item in messages] == [True] * 5 + [False]


def test_nothing_is_written_before_there_is_a_channel() -> None:
    channel = Channel()
    assert channel.send(*told(2)) == []
    channel.open(warm=False)
    assert channel.pump() == ["m0"]


def test_a_tag_counts_only_what_was_handed_over(channel: Channel) -> None:
    """What raises on its way out has consumed no tag."""
    message = Told()

    def raise_instead(_: object) -> None:
        raise OSError("no memory")

    channel.dispatcher._writer._write, write = raise_instead, channel.dispatcher._writer._write  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="no memory"):
        channel.send(message)
    channel.dispatcher._writer._write = write  # type: ignore[method-assign]
    assert channel.dispatcher.unanswered == 0
    assert channel.send(Told("next")) == ["next"]
    channel.ack("next")
    assert not message.done


def test_the_window_is_one_until_something_was_answered() -> None:
    channel = Channel().open(warm=False)
    assert channel.send(*told(9)) == ["m0"]
    assert channel.ack("m0", nack=True) == ["m1", "m2", "m3", "m4"]


def test_the_window_opens_at_the_deadline_of_the_first_message() -> None:
    channel = Channel().open(warm=False)
    messages = told(9)
    channel.send(*messages)
    assert channel.give_up(messages[0]) == ["m1", "m2", "m3", "m4"]


def test_a_lost_connection_costs_at_most_a_window_of_duplicates(channel: Channel) -> None:
    messages = told(50)
    channel.send(*messages)
    before = len(channel.log)
    channel.lose()
    channel.open(warm=False)
    channel.pump()
    for message in messages:
        channel.ack(message.envelope.message_id)
    again = [name for name in channel.log[before:] if name in channel.log[:before]]
    assert again == ["m0", "m1", "m2", "m3"]
    assert all(message.done and message.error is None for message in messages)


# -- answers ---------------------------------------------------------------------------------------


def test_acks_out_of_order_and_several_at_once(channel: Channel) -> None:
    messages = told(4)
    channel.send(*messages)
    channel.ack("m2", nack=True)
    channel.ack("m1", multiple=True)
    channel.dispatcher.answered(2, multiple=True)  # said again
    assert [item.done for item in messages] == [True, True, True, False]
    assert [outcome(item) for item in messages[:3]] == [None, None, Nacked]


def test_a_return_becomes_the_outcome_when_its_ack_follows(channel: Channel) -> None:
    messages = told(3)
    channel.send(*messages)
    channel.dispatcher.returned("m1", 312, "NO_ROUTE")
    channel.dispatcher.returned("of somebody else", 312, "NO_ROUTE")
    assert not messages[1].done
    channel.ack("m2", multiple=True)
    assert [outcome(item) for item in messages] == [None, Unroutable, None]


def test_a_return_before_a_loss_says_nothing_of_the_next_try(channel: Channel) -> None:
    """The binding came in between: the message was confirmed."""
    message = Told()
    channel.send(message)
    channel.dispatcher.returned("m", 312, "NO_ROUTE")
    channel.lose()
    channel.open(warm=False)
    channel.pump()
    channel.ack("m")
    assert outcome(message) is None


# -- the same id -----------------------------------------------------------------------------------


def test_the_same_id_waits_until_the_first_is_resolved(channel: Channel) -> None:
    first, second, third = Told("same"), Told("same"), Told("same")
    assert channel.send(first, second, third, Told("other")) == ["same", "other"]
    assert channel.dispatcher.waiting == 2
    assert channel.ack("same") == ["same"]
    assert (first.done, second.done) == (True, False)
    assert channel.ack("same") == ["same"]
    channel.ack("same")
    assert third.told == 1


@pytest.mark.parametrize("why", ["gave up", "topology refused"])
def test_the_same_id_does_not_wait_for_one_that_is_never_sent(channel: Channel, why: str) -> None:
    first, never, third = Told("same"), needing("missing", Told("same")), Told("same")
    channel.send(first, never, third)
    if why == "gave up":
        channel.give_up(never)
        assert channel.ack("same") == ["same"]
    else:
        channel.dispatcher.verified(channel.asked[0], (404, "NOT_FOUND"))
        assert channel.ack("same") == ["same"]
    channel.ack("same")
    assert outcome(third) is None


def test_the_same_id_does_not_wait_for_one_that_is_denied(channel: Channel) -> None:
    channel.send(Told("poison", FORBIDDEN))
    channel.close()
    first, denied, third = Told("same"), Told("same", FORBIDDEN), Told("same")
    channel.send(first)
    channel.dispatcher._backlog.same_ids.hold(denied)
    channel.send(third)
    assert channel.ack("same") == ["same"]
    channel.ack("same")
    assert (outcome(denied), outcome(third)) == (Rejected, None)


# -- one of several declarations ended the connection -----------------------------------------------


def test_nothing_is_written_before_all_is_verified_where_one_ended_the_connection() -> None:
    """What is on the wire when the culprit does it again would have lost both of its chances."""
    channel = Channel()
    channel.deciding = True
    plain, first, second = Told("plain"), needing("a", Told("1")), needing("b", Told("2"))
    channel.dispatcher.add([plain, first, second])
    channel.new_channel()
    channel.dispatcher.opened(FRAME_MAX, cautious=True)
    assert channel.pump() == []
    assert channel.asked == [(QueueName("a"),), (QueueName("b"),)]
    channel.dispatcher.verified(channel.asked[1], None)
    assert channel.pump() == []
    channel.dispatcher.verified(channel.asked[0], None)
    channel.deciding = False
    assert channel.pump() == ["plain"]  # one at a time until the first answer
    assert channel.ack("plain") == ["1", "2"]
    channel.deciding = True  # declarations that come later hold nobody up
    assert channel.send(Told("3")) == ["3"]


# -- deadlines -------------------------------------------------------------------------------------


def test_given_up_means_its_place_is_free_and_it_is_never_sent_again(channel: Channel) -> None:
    messages = told(6)
    channel.send(*messages)
    assert channel.give_up(messages[0]) == ["m4"]
    assert outcome(messages[0]) is ConfirmTimeout
    channel.give_up(messages[5])
    assert outcome(messages[5]) is BrokerUnavailable
    channel.lose()
    channel.open(warm=False)
    for name in ("m1", "m2", "m3", "m4"):
        channel.pump()
        channel.ack(name)
    assert channel.log.count("m0") == 1
    assert "m5" not in channel.log


def test_its_tag_stays_tracked(channel: Channel) -> None:
    """Else the answers of all that comes after it would be taken for others'."""
    messages = told(2)
    channel.send(*messages)
    channel.give_up(messages[0])
    assert channel.dispatcher.unanswered == 2
    channel.ack("m1")
    assert outcome(messages[1]) is None
    channel.ack("m0")
    assert messages[0].told == 1


class Hasty(Told):
    """Its caller gives up at the very moment in which it is marked as written."""

    __slots__ = ()

    @property
    def written(self) -> bool:  # type: ignore[override]
        return self.__dict__.get("mark", False)

    @written.setter
    def written(self, value: bool) -> None:
        if value:
            self.fail("the deadline")
        self.__dict__["mark"] = value


def test_a_message_that_was_told_not_sent_is_not_written(channel: Channel) -> None:
    message = Hasty("hasty")
    assert channel.send(message, Told("next")) == ["next"]
    assert outcome(message) is BrokerUnavailable


# -- lost connections ------------------------------------------------------------------------------


def test_what_was_lost_goes_first_on_the_next_connection_in_order(channel: Channel) -> None:
    parked = needing("q", Told("parked"))
    messages = told(6)
    channel.send(parked, *messages)
    channel.ack("m1")
    channel.lose()
    channel.dispatcher.add([Told("new")])
    channel.open(warm=False)
    channel.pump()
    assert channel.asked[-1] == parked.envelope.topology  # verified again
    channel.dispatcher.verified(channel.asked[-1], None)
    for name in ("m0", "parked", "m2", "m3", "m4", "m5"):
        channel.ack(name)
    assert channel.log[-7:] == ["m0", "parked", "m2", "m3", "m4", "m5", "new"]


def test_a_second_loss_ends_a_message(channel: Channel) -> None:
    message, waiting = Told(), Told("waiting", ("", "other"))
    channel.send(message)
    channel.lose()
    channel.dispatcher.add([waiting])
    channel.open(warm=False)
    channel.pump()
    channel.lose()
    assert outcome(message) is ConfirmTimeout
    assert "second time" in str(message.error)
    assert not waiting.done  # it was never written


def test_while_the_broker_is_down_everything_ends_at_once(channel: Channel) -> None:
    lost, new = Told("lost"), Told("new")
    channel.send(lost)
    channel.lose()
    assert channel.dispatcher.refusal == ""  # the first reconnection is waited for
    channel.dispatcher.refuse("cannot use RabbitMQ at here:5672")
    assert outcome(lost) is ConfirmTimeout
    channel.dispatcher.add([new])
    assert outcome(new) is BrokerUnavailable
    assert "here:5672" in str(new.error)
    channel.open(warm=False)
    assert channel.send(Told("after")) == ["after"]


# -- blocked ---------------------------------------------------------------------------------------


def test_blocked_sends_nothing_and_nothing_twice(channel: Channel) -> None:
    before, waiting, new = Told("before"), Told("waiting"), Told("new")
    channel.send(before)
    channel.dispatcher.block("low on memory")
    assert channel.send(waiting) == []
    assert not waiting.done  # it may be unblocked in time
    assert channel.give_up(before) == []
    assert outcome(before) is ConfirmTimeout
    assert outcome(waiting) is BrokerUnavailable  # once one deadline has passed
    channel.send(new)
    assert outcome(new) is BrokerUnavailable
    assert "low on memory" in str(new.error)
    channel.dispatcher.unblock()
    assert channel.send(Told("after")) == ["after"]
    assert channel.log.count("before") == 1


def test_a_cancelled_caller_is_no_deadline(channel: Channel) -> None:
    """While blocked, the others wait on; its place is given back by the clock."""
    cancelled, waiting = Told("cancelled"), Told("waiting")
    channel.send(cancelled)
    channel.dispatcher.block("low on memory")
    channel.send(waiting)
    cancelled.fail("the task was cancelled")
    channel.later(0.25)
    assert not waiting.done
    channel.dispatcher.unblock()
    assert channel.pump() == ["waiting"]
    assert channel.dispatcher._confirms.in_flight == 1


def test_unblocked_in_time_costs_nothing(channel: Channel) -> None:
    messages = told(2)
    channel.send(messages[0])
    channel.dispatcher.block("")
    channel.send(messages[1])
    channel.dispatcher.unblock()
    assert channel.pump() == ["m1"]
    channel.ack("m1", multiple=True)
    assert [outcome(item) for item in messages] == [None, None]


def test_blocked_while_a_culprit_is_looked_for_the_window_opens_again(channel: Channel) -> None:
    messages = told(3)
    channel.send(*messages)
    assert channel.close() == ["m0"]
    channel.dispatcher.block("low on memory")
    channel.give_up(messages[0])
    channel.dispatcher.unblock()
    assert channel.dispatcher.window == WINDOW


# -- a closed channel ------------------------------------------------------------------------------

FORBIDDEN = ("forbidden", "k")


def test_alone_on_the_wire_it_is_the_culprit(channel: Channel) -> None:
    poison, later = Told("poison", FORBIDDEN), Told("later")
    channel.send(poison)
    channel.dispatcher.add([later])
    assert channel.close() == ["later"]
    assert isinstance(poison.error, Rejected)
    assert (poison.error.reply_code, poison.error.exchange) == (403, "forbidden")


def test_the_culprit_is_found_one_at_a_time(channel: Channel) -> None:
    good, poison = told(3), Told("poison", FORBIDDEN)
    channel.send(good[0], poison, good[1], good[2])
    channel.dispatcher.add([Told("behind")])
    assert channel.close() == ["m0"]
    assert channel.dispatcher.window == 1
    assert channel.ack("m0") == ["poison"]
    assert channel.close() == ["m1"]
    assert channel.ack("m1") == ["m2"]
    assert channel.ack("m2") == ["behind"]
    assert channel.dispatcher.window == WINDOW
    assert [outcome(item) for item in (*good, poison)] == [None, None, None, Rejected]


def test_a_caller_that_gave_up_may_have_sent_the_culprit(channel: Channel) -> None:
    """Two on the wire, one of them given up: the other one is not to blame."""
    poison, good = Told("poison", FORBIDDEN), Told("good")
    channel.send(poison, good)
    assert channel.close() == ["poison"]
    assert channel.give_up(poison) == ["good"]
    assert channel.close() == ["good"]
    channel.ack("good")
    assert outcome(good) is None


def test_suspects_that_were_given_up_are_none(channel: Channel) -> None:
    first, second = Told("first"), Told("second")
    channel.send(first, second)
    assert channel.close() == ["first"]
    assert channel.give_up(first) == ["second"]
    second.fail("the deadline")
    channel.close()  # before its place was taken back
    assert channel.dispatcher.window == WINDOW


def test_suspects_go_one_at_a_time_whatever_their_queues_are_like(channel: Channel) -> None:
    """While others are answered: two at a time would be told apart by nobody."""
    channel.send(Told("well", WELL), Told("sick", SICK), Told("poison", FORBIDDEN))
    assert channel.close() == ["well"]
    assert channel.ack("well") == ["sick"]
    assert channel.later(SICK_SECONDS + 0.1) == []
    assert channel.ack("sick") == ["poison"]


def test_a_culprit_of_a_sick_queue_is_found_too(channel: Channel) -> None:
    """Two destinations are set aside, for the broker was slow to close the channel over one."""
    poison, sick = Told("poison", FORBIDDEN), Told("sick", SICK)
    channel.send(Told("well", WELL), poison, sick)
    channel.now += SICK_SECONDS
    channel.ack("well")
    channel.later(0.01)
    assert channel.dispatcher.set_aside.destinations() == (FORBIDDEN, SICK)
    assert channel.close() == ["poison"]
    assert channel.close() == ["sick"]
    assert outcome(poison) is Rejected
    channel.ack("sick")
    assert outcome(sick) is None


def test_a_refused_destination_is_answered_from_memory_for_a_while(channel: Channel) -> None:
    channel.send(Told("poison", FORBIDDEN))
    channel.close()
    again, elsewhere, later = Told("again", FORBIDDEN), Told("else"), Told("later", FORBIDDEN)
    assert channel.send(again, elsewhere) == ["else"]
    assert outcome(again) is Rejected
    channel.now += DENIAL_SECONDS
    assert channel.send(later) == ["later"]


def test_a_refused_routing_key_says_nothing_of_others(channel: Channel) -> None:
    text = "ACCESS_REFUSED - access to topic 'a.b' in exchange 't' refused"
    channel.send(Told("poison", ("t", "a.b")))
    channel.close(text=text)
    refused = Told("refused", ("t", "a.b"))
    assert channel.send(refused, Told("fine", ("t", "a.c"))) == ["fine"]
    assert outcome(refused) is Rejected


def test_a_mismatch_is_the_messages_own(channel: Channel) -> None:
    channel.send(Told("poison"))
    channel.close(406, "PRECONDITION_FAILED")
    assert channel.send(Told("next")) == ["next"]


def test_a_new_connection_asks_again(channel: Channel) -> None:
    channel.send(Told("poison", FORBIDDEN))
    channel.close()
    channel.lose()
    channel.open(warm=False)
    assert channel.send(Told("again", FORBIDDEN)) == ["again"]


def test_what_a_closed_channel_used_is_verified_again(channel: Channel) -> None:
    first = needing("q", Told("first", FORBIDDEN))
    channel.send(first)
    channel.dispatcher.verified(first.envelope.topology, None)
    assert channel.pump() == ["first"]
    channel.close(404, "NOT_FOUND")
    channel.now += DENIAL_SECONDS
    channel.send(needing("q", Told("second", FORBIDDEN)))
    assert len(channel.asked) == 2


# -- a message that ends the connection -------------------------------------------------------------

ENDED = (541, "INTERNAL_ERROR")


def test_who_ends_the_connection_is_found_one_at_a_time(channel: Channel) -> None:
    first, culprit, last = messages = told(3)
    channel.send(*messages)
    channel.lose(ENDED)
    channel.open(warm=False)
    assert channel.pump() == ["m0"]
    assert channel.ack("m0") == ["m1"]  # alone, although something was answered
    channel.lose(ENDED)
    assert outcome(culprit) is Rejected
    assert culprit.error.reply_code == 541
    assert not culprit.error.retryable
    channel.open(warm=False)
    assert channel.pump() == ["m2"]
    channel.ack("m2")
    assert first.error is last.error is None
    assert channel.dispatcher.window == WINDOW


def test_alone_it_has_a_second_chance(channel: Channel) -> None:
    """A broker in trouble says the same: one connection more is cheaper than a wrong verdict."""
    message = Told()
    channel.send(message)
    channel.lose(ENDED)
    channel.open(warm=False)
    assert channel.pump() == ["m"]
    channel.ack("m")
    assert message.error is None


def test_beside_others_a_second_loss_leaves_it_unknown(channel: Channel) -> None:
    messages = told(2)
    channel.send(*messages)
    channel.lose()
    channel.open(warm=False)
    channel.pump()
    channel.ack("m0")
    channel.send(Told("other"))
    channel.lose(ENDED)
    assert outcome(messages[1]) is ConfirmTimeout


def test_suspects_stay_suspects_while_their_topology_is_verified_again(channel: Channel) -> None:
    messages = [needing("q", message) for message in told(3)]
    channel.send(*messages)
    channel.dispatcher.verified(channel.asked[-1], None)
    assert channel.pump() == ["m0", "m1", "m2"]
    channel.lose(ENDED)
    channel.open(warm=False)
    assert channel.pump() == []
    channel.dispatcher.verified(channel.asked[-1], None)
    assert channel.pump() == ["m0"]
    assert channel.ack("m0") == ["m1"]
    channel.give_up(messages[2])
    channel.ack("m1")
    channel.later(1)
    assert channel.dispatcher.window == WINDOW


# -- topology --------------------------------------------------------------------------------------


def test_verified_once_for_all_that_wait(channel: Channel) -> None:
    messages = [needing("q", item) for item in told(3)]
    assert channel.send(*messages, Told("other")) == ["other"]
    assert len(channel.asked) == 1
    channel.dispatcher.verified(channel.asked[0], None)
    assert channel.pump() == ["m0", "m1", "m2"]
    assert channel.send(needing("q", Told("later"))) == []  # the window is full
    assert channel.ack("m0") == ["later"]
    assert len(channel.asked) == 1


def test_refused_topology_rejects_what_needs_it_and_nothing_else(channel: Channel) -> None:
    batch = object()
    bad, good = needing("missing", Told("bad", batch=batch)), Told("good", batch=batch)
    channel.send(bad, good)
    channel.dispatcher.verified(channel.asked[0], (404, "NOT_FOUND - no queue 'missing'"))
    assert channel.pump() == ["good"]
    assert outcome(bad) is Rejected
    channel.send(needing("missing", Told("again")))
    assert len(channel.asked) == 2  # no is not remembered


def test_a_batch_stays_in_order_behind_its_topology(channel: Channel) -> None:
    batch = object()
    channel.send(
        Told("a", batch=batch),
        needing("q1", Told("b", batch=batch)),
        Told("c", batch=batch),
        needing("q2", Told("d", batch=batch)),
        Told("e", batch=batch),
        Told("stranger"),
    )
    assert channel.log[-2:] == ["a", "stranger"]
    channel.ack("stranger", multiple=True)
    channel.dispatcher.verified(channel.asked[0], None)
    assert channel.pump() == ["b", "c"]
    channel.dispatcher.verified(channel.asked[1], None)
    channel.pump()
    assert channel.log[-4:] == ["b", "c", "d", "e"]


# -- sick queues -----------------------------------------------------------------------------------


def fill_with_sick(channel: Channel) -> list[Told]:
    """A window full of messages to a queue that does not answer."""
    messages = [Told(f"s{number}", SICK) for number in range(WINDOW + 2)]
    channel.send(*messages)
    return messages


def test_a_silent_destination_is_set_aside_while_others_are_answered(channel: Channel) -> None:
    sick, well = [Told(f"s{n}", SICK) for n in range(6)], [Told(f"w{n}", WELL) for n in range(4)]
    channel.send(*sick[:3], well[0])
    channel.now += SICK_SECONDS
    channel.ack("w0")
    assert channel.later(0.01) == []
    assert channel.dispatcher.set_aside.destinations() == (SICK,)
    assert channel.send(*sick[3:], *well[1:]) == ["w1", "w2", "w3"]  # their places are free


def test_a_set_aside_destination_has_one_in_flight_and_returns(channel: Channel) -> None:
    sick = [Told(f"s{number}", SICK) for number in range(6)]
    channel.send(*sick[:2], Told("w", WELL))
    channel.now += SICK_SECONDS
    channel.ack("w")
    channel.later(0.01)
    assert channel.send(*sick[2:]) == []
    assert channel.give_up(sick[0]) == []  # the other one is still in flight
    assert channel.give_up(sick[1]) == ["s2"]
    assert channel.give_up(sick[2]) == ["s3"]
    assert channel.ack("s3") == ["s4", "s5"]
    assert channel.dispatcher.set_aside.destinations() == ()
    channel.ack("s5", multiple=True)
    assert [outcome(item) for item in sick] == [ConfirmTimeout] * 3 + [None] * 3


def test_one_in_flight_also_when_a_caller_has_just_given_up(channel: Channel) -> None:
    sick = [Told(f"s{number}", SICK) for number in range(3)]
    channel.send(*sick[:2], Told("w", WELL))
    channel.now += SICK_SECONDS
    channel.ack("w")
    sick[0].fail("the deadline")
    channel.later(0.01)  # set aside before its place is taken back
    assert channel.send(sick[2]) == []
    channel.dispatcher.reap()
    assert channel.pump() == []
    assert channel.give_up(sick[1]) == ["s2"]


def test_a_window_full_of_sick_messages_lets_others_try(channel: Channel) -> None:
    fill_with_sick(channel)
    well = [Told(f"w{number}", WELL) for number in range(3)]
    assert channel.send(*well) == []
    assert channel.later(SICK_SECONDS + 0.1) == ["w0"]
    assert channel.later(0.25) == []  # one is enough to know
    channel.ack("w0")
    channel.later(0.25)
    assert channel.dispatcher.set_aside.destinations() == (SICK,)
    assert channel.log[-2:] == ["w1", "w2"]


def test_a_sick_first_message_does_not_keep_a_reconnection_waiting() -> None:
    channel = Channel().open(warm=False)
    assert channel.send(Told("s", SICK), Told("w", WELL), Told("w1", WELL)) == ["s"]
    assert channel.later(SICK_SECONDS + 0.1) == ["w"]
    assert channel.ack("w") == ["w1"]


def test_a_broker_that_answers_nothing_is_not_a_sick_queue(channel: Channel) -> None:
    fill_with_sick(channel)
    for _ in range(5):
        channel.later(SICK_SECONDS)
    assert channel.dispatcher.set_aside.destinations() == ()


def test_a_new_connection_gives_sick_destinations_another_chance(channel: Channel) -> None:
    sick = fill_with_sick(channel)
    channel.send(Told("w", WELL))
    channel.later(SICK_SECONDS + 0.1)
    channel.ack("w")
    channel.later(0.01)
    channel.lose()
    assert channel.dispatcher.set_aside.destinations() == ()
    channel.open(warm=False)
    assert channel.pump() == ["s0"]
    assert channel.ack("s0") == ["s1", "s2", "s3", "s4"]
    assert not any(item.done for item in sick[1:])


# -- queues that nack everything -------------------------------------------------------------------


def test_what_nacks_for_long_is_tried_on_another_channel(channel: Channel) -> None:
    channel.send(Told("n0", SICK))
    channel.ack("n0", nack=True)
    channel.now += REFUSING_SECONDS + 0.1
    channel.send(Told("n1", SICK), Told("w0", WELL))
    channel.ack("n1", nack=True)
    assert channel.send(Told("w1", WELL)) == []  # until nobody waits for an answer on this one
    assert channel.renewals == 0
    channel.ack("w0")
    assert channel.renewals == 1
    assert channel.pump() == []
    channel.dispatcher.reopened()
    assert channel.pump() == ["w1"]
    assert channel.ack("w1") == []
    assert channel.tag == 1  # tags count anew


def test_a_queue_that_also_acks_is_only_full(channel: Channel) -> None:
    for number in range(8):
        channel.send(Told(f"n{number}", SICK), Told(f"a{number}", SICK))
        channel.ack(f"n{number}", nack=True)
        channel.ack(f"a{number}")
        channel.now += REFUSING_SECONDS
    assert channel.renewals == 0


def test_another_channel_is_not_waited_for_long(channel: Channel) -> None:
    """Somebody's message is not answered: the others go on, on this channel."""
    channel.send(Told("s", WELL), Told("n0", SICK))
    channel.ack("n0", nack=True)
    channel.now += REFUSING_SECONDS + 0.1
    channel.send(Told("n1", SICK))
    channel.ack("n1", nack=True)
    assert channel.send(Told("w", ("", "third"))) == []
    assert channel.later(SICK_SECONDS) == ["w"]
    assert channel.renewals == 0


# -- a smaller negotiated frame ----------------------------------------------------------------


def test_headers_over_a_smaller_negotiated_frame_are_rejected() -> None:
    channel = Channel().open(frame_max=4096)
    big, small = Told("big"), Told("small")
    object.__setattr__(big.envelope, "header", b"h" * 4096)
    assert channel.send(big, small) == ["small"]
    assert isinstance(big.error, Rejected)
    assert (big.error.reply_code, big.error.retryable) == (501, False)


# -- the end ---------------------------------------------------------------------------------------


def test_in_the_end_nobody_waits(channel: Channel) -> None:
    messages = [needing("q", Told("parked")), *told(6), Told("m0"), Told("s", SICK)]
    channel.send(*messages)
    assert not channel.dispatcher.idle
    channel.dispatcher.fail_all("the connection was closed")
    assert channel.dispatcher.idle
    assert all(item.told == 1 for item in messages)


# -- every order of events -------------------------------------------------------------------------

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
        self.first_written: dict[Delivery, int] = {}
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

    def written(self, deliveries: Sequence[Delivery]) -> None:
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
        self.channel.write(deliveries)

    def check_window(self, deliveries: Sequence[Delivery], live: list[Delivery]) -> None:
        aside = self.dispatcher.set_aside
        placed = [
            item
            for item in live
            if item.envelope.destination not in aside and item not in self.extras
        ]
        if any(item in placed for item in deliveries):
            assert len(placed) <= self.dispatcher.window

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
        self.dispatcher.add(made)

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
        waiting = [item.sequence for item in self.dispatcher._backlog.pending]
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
        assert self.dispatcher.window == 1

    @precondition(lambda self: self.state == "open" and not self.dispatcher.blocked)
    @rule()
    def block(self) -> None:
        self.dispatcher.block("low on memory")

    @precondition(lambda self: self.state == "open" and self.dispatcher.blocked)
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

    @rule(seconds=st.sampled_from([0.1, 0.5, SICK_SECONDS + 0.1, DENIAL_SECONDS]))
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
        last: dict[object, Delivery] = {}
        for delivery in self.first_written:
            key = (delivery.batch, delivery.envelope.destination)
            if delivery.batch is not None and key in last:
                assert last[key].sequence < delivery.sequence
            last[key] = delivery

    def teardown(self) -> None:
        """The broker mends: everything that waits gets its outcome, and the window opens again."""
        if self.dispatcher.blocked:
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
            self.dispatcher.add([probe])
            self.dispatcher.pump()
            assert self.wire, "a message that may go is written"
            self.do_answer(next(iter(self.wire)), multiple=False, nack=False)
            assert self.dispatcher.window == WINDOW


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
