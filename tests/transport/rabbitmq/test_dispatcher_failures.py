"""Closed channels, messages that end the connection, topology, and destinations that answer nothing."""

from rmq_publisher.exceptions import (
    BrokerUnavailable,
    ConfirmTimeout,
    Rejected,
)
from rmq_publisher.transport.rabbitmq.circuit_breakers import (
    REFUSAL_SECONDS,
    REFUSING_SECONDS,
    SICK_SECONDS,
)
from tests.support.deliveries import Told, needing, told
from tests.support.fake_channel import Channel, outcome

WINDOW = 4
SICK, WELL = ("", "sick"), ("", "well")


# -- a closed channel ------------------------------------------------------------------------------

FORBIDDEN = ("forbidden", "k")


def test_alone_on_the_wire_it_is_the_culprit(channel: Channel) -> None:
    poison, later = Told("poison", FORBIDDEN), Told("later")
    channel.send(poison)
    channel.dispatcher.add([later.message])
    assert channel.close() == ["later"]
    assert isinstance(poison.error, Rejected)
    assert (poison.error.reply_code, poison.error.exchange) == (403, "forbidden")


def test_the_culprit_is_found_one_at_a_time(channel: Channel) -> None:
    good, poison = told(3), Told("poison", FORBIDDEN)
    channel.send(good[0], poison, good[1], good[2])
    channel.dispatcher.add([Told("behind").message])
    assert channel.close() == ["m0"]
    assert channel.dispatcher.flow.window == 1
    assert channel.ack("m0") == ["poison"]
    assert channel.close() == ["m1"]
    assert channel.ack("m1") == ["m2"]
    assert channel.ack("m2") == ["behind"]
    assert channel.dispatcher.flow.window == WINDOW
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
    assert channel.dispatcher.flow.window == WINDOW


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
    channel.now += REFUSAL_SECONDS
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
    channel.now += REFUSAL_SECONDS
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
    assert channel.dispatcher.flow.window == WINDOW


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
    assert channel.dispatcher.flow.window == WINDOW


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


# -- no channel to verify on -----------------------------------------------------------------------


def test_without_a_channel_to_verify_on_what_needs_one_is_told_and_the_rest_is_sent(
    channel: Channel,
) -> None:
    batch = object()
    first, plain = needing("q", Told("first", batch=batch)), Told("plain", batch=batch)
    assert channel.send(first, plain) == []
    channel.dispatcher.cannot_verify(channel.asked[-1], "530 NOT_ALLOWED")
    assert channel.pump() == ["plain"]
    assert outcome(first) is BrokerUnavailable
    assert "530 NOT_ALLOWED" in str(first.error)


def test_that_no_channel_can_be_opened_is_known_for_a_while(channel: Channel) -> None:
    """Each attempt costs everybody the connection."""
    channel.send(needing("q", Told("first")))
    channel.dispatcher.cannot_verify(channel.asked[-1], "530 NOT_ALLOWED")
    second, third = needing("other", Told("second")), needing("other", Told("third"))
    channel.send(second)
    assert outcome(second) is BrokerUnavailable
    assert len(channel.asked) == 1
    channel.now += REFUSAL_SECONDS
    channel.send(third)
    assert not third.done
    assert len(channel.asked) == 2


# -- draining --------------------------------------------------------------------------------------


def test_idle_is_who_has_nobody_waiting(channel: Channel) -> None:
    written, waiting = Told("written"), needing("q", Told("waiting"))
    channel.send(written, waiting)
    assert not channel.dispatcher.idle
    channel.give_up(written)
    assert not channel.dispatcher.idle
    channel.give_up(waiting)
    assert channel.dispatcher.idle
    assert channel.dispatcher.unanswered == 1
