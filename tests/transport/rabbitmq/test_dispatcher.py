"""The engine's rules that need no broker: a fake channel, a fake clock, every order of events."""

import pytest

from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.exceptions import (
    BrokerUnavailable,
    ConfirmTimeout,
    Nacked,
    Rejected,
    Unroutable,
)
from rmq_publisher.messages.envelope import FRAME_MAX
from tests.support.deliveries import Told, needing, told
from tests.support.fake_channel import Channel, outcome

WINDOW = 4
SICK, WELL = ("", "sick"), ("", "well")


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
    channel.dispatcher._queue.same_ids.hold(denied.message)
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
    channel.dispatcher.add([item.message for item in (plain, first, second)])
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
    channel.dispatcher.add([Told("new").message])
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
    channel.dispatcher.add([waiting.message])
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
    channel.dispatcher.add([new.message])
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
    assert channel.dispatcher.flow.window == WINDOW


# -- a closed channel ------------------------------------------------------------------------------


FORBIDDEN = ("forbidden", "k")


# -- a smaller negotiated frame ----------------------------------------------------------------


def test_headers_over_a_smaller_negotiated_frame_are_rejected() -> None:
    channel = Channel().open(frame_max=4096)
    big, small = Told("big"), Told("small")
    big.envelope = big.message.envelope = big.envelope._replace(header=b"h" * 4096)
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
