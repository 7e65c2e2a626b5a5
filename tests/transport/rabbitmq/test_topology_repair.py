"""Answers that contradict a message's configs: what is declared anew, how often, and what is told."""

import pytest

from rmq_publisher import Binding, ExchangeConfig, QueueConfig
from rmq_publisher.amqp.entities import ExchangeName, QueueName, Topology
from rmq_publisher.amqp.routes import Config
from rmq_publisher.exceptions import BrokerAnswer, BrokerUnavailable, Nacked, Rejected, Unroutable
from rmq_publisher.transport.rabbitmq.topology_repair import FUTILE_SECONDS, OnFound
from tests.support.deliveries import Told
from tests.support.fake_channel import Channel, outcome

X = ExchangeConfig("x", "fanout")
BOUND: Topology = (X, QueueConfig("q", bindings=[Binding(X)]))
WHERE = ("x", "k")
NOT_FOUND = (404, "NOT_FOUND - no exchange 'x' in vhost '/'")


def made(message_id: str, topology: Topology = BOUND, batch: object = None) -> Told:
    return Told(message_id, WHERE, batch=batch, topology=topology)


def sent(channel: Channel, *deliveries: Told) -> None:
    """Written, once their topology was verified."""
    asked = len(channel.asked)
    channel.send(*deliveries)
    if len(channel.asked) > asked:
        verified(channel)
    assert channel.log[-len(deliveries) :] == [item.envelope.message_id for item in deliveries]


def verified(channel: Channel, error: tuple[int, str] | None = None) -> list[str]:
    """The broker answers what it was asked last; what is written then."""
    channel.now += 0.001
    channel.dispatcher.verified(channel.asked[-1], error)
    return channel.pump()


def returned(channel: Channel, message_id: str) -> list[str]:
    channel.dispatcher.returned(message_id, 312, "NO_ROUTE")
    return channel.ack(message_id)


def test_what_came_back_goes_again_once_its_configs_are_declared(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    assert returned(channel, "m") == []
    assert channel.asked == [BOUND, BOUND]
    assert not message.done
    assert verified(channel) == ["m"]
    channel.ack("m")
    assert outcome(message) is None


def test_once_a_message(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    returned(channel, "m")
    verified(channel)
    returned(channel, "m")
    assert outcome(message) is Unroutable
    assert len(channel.asked) == 2


def test_all_that_came_back_wait_for_one_declaration(channel: Channel) -> None:
    messages = [made("a"), made("b"), made("c")]
    sent(channel, *messages)
    for message_id in "abc":
        returned(channel, message_id)
    assert len(channel.asked) == 2
    assert verified(channel) == ["a", "b", "c"]


def test_what_was_on_the_wire_while_it_was_declared_goes_without_another_one(
    channel: Channel,
) -> None:
    sent(channel, made("a"), made("b"))
    returned(channel, "a")
    assert verified(channel) == ["a"]
    assert returned(channel, "b") == ["b"]
    assert len(channel.asked) == 2


def test_what_was_to_no_avail_is_not_tried_again_for_a_while(channel: Channel) -> None:
    first, second, third = made("a"), made("b"), made("c")
    sent(channel, first)
    returned(channel, "a")
    verified(channel)
    returned(channel, "a")
    sent(channel, second)
    returned(channel, "b")
    assert (outcome(first), outcome(second)) == (Unroutable, Unroutable)
    channel.now += FUTILE_SECONDS
    sent(channel, third)
    returned(channel, "c")
    assert not third.done


def test_it_may_be_gone_again(channel: Channel) -> None:
    for _ in range(3):
        message = made("m")
        sent(channel, message)
        returned(channel, "m")
        assert verified(channel) == ["m"]
        channel.ack("m")
        assert outcome(message) is None


@pytest.mark.parametrize(
    "topology",
    [(), (ExchangeName("x"), QueueName("q")), (X,), (X, QueueConfig("q"))],
    ids=["none", "names", "no queue", "not bound"],
)
def test_where_no_config_says_that_there_is_a_route(channel: Channel, topology: Topology) -> None:
    message = made("m", topology)
    sent(channel, message)
    asked = len(channel.asked)
    returned(channel, "m")
    assert outcome(message) is Unroutable
    assert len(channel.asked) == asked


@pytest.mark.parametrize("refusal", [(403, "ACCESS_REFUSED"), (404, "NOT_FOUND"), (406, "ARGS")])
def test_refused_the_answer_stays_what_it_was(channel: Channel, refusal: tuple[int, str]) -> None:
    """A stored message must not be dead over what was declared in the meantime."""
    message = made("m")
    sent(channel, message)
    returned(channel, "m")
    verified(channel, refusal)
    assert outcome(message) is Unroutable
    later = made("later")
    channel.send(later)
    verified(channel, refusal)
    assert outcome(later) is Rejected


def test_without_a_channel_to_declare_on_the_answer_stays(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    returned(channel, "m")
    channel.dispatcher.cannot_verify(channel.asked[-1], "no channel")
    assert outcome(message) is Unroutable


def test_nobody_waits_for_it_any_more(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    message.fail("the deadline")
    returned(channel, "m")
    assert len(channel.asked) == 1


def test_given_up_while_it_is_declared_it_is_known_not_to_be_there(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    returned(channel, "m")
    channel.give_up(message)
    assert outcome(message) is BrokerUnavailable
    assert verified(channel) == []


def test_an_exchange_that_is_gone(channel: Channel) -> None:
    message, other = made("m"), Told("other")
    sent(channel, message)
    channel.dispatcher.add([other.message])
    assert channel.close(*NOT_FOUND) == ["other"]
    assert not message.done
    assert verified(channel) == ["m"]
    channel.ack("m")
    assert outcome(message) is None


def test_an_exchange_that_is_gone_again_at_once(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    channel.close(*NOT_FOUND)
    verified(channel)
    channel.close(*NOT_FOUND)
    assert outcome(message) is Rejected
    assert len(channel.asked) == 2


def test_among_others_on_the_wire_they_are_found_one_at_a_time(channel: Channel) -> None:
    gone, fine = made("gone"), Told("fine")
    sent(channel, gone)
    sent(channel, fine)
    assert channel.close(*NOT_FOUND) == ["gone"]
    assert channel.close(*NOT_FOUND) == ["fine"]
    assert verified(channel) == []
    assert channel.ack("fine") == ["gone"]
    channel.ack("gone")
    assert (outcome(gone), outcome(fine)) == (None, None)


def test_a_refusal_in_memory_is_not_of_what_declares_the_exchange(channel: Channel) -> None:
    missed = made("missed", (ExchangeName("x"),))
    sent(channel, missed)
    channel.close(*NOT_FOUND)
    assert outcome(missed) is Rejected
    again, config = made("again", (ExchangeName("x"),)), made("config")
    channel.send(again, config)
    assert outcome(again) is Rejected
    assert verified(channel) == ["config"]


def test_a_nacked_message_whose_queue_is_gone(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    assert channel.ack("m", nack=True) == []
    assert channel.asked[-1] == (ExchangeName("x"), QueueName("q"), ExchangeName("x"))
    assert verified(channel, (404, "NOT_FOUND - no queue 'q'")) == []
    assert channel.asked[-1] == BOUND
    assert verified(channel) == ["m"]
    channel.ack("m")
    assert outcome(message) is None


@pytest.mark.parametrize("answer", [None, (403, "ACCESS_REFUSED")])
def test_a_nack_of_a_queue_that_is_there(channel: Channel, answer: tuple[int, str] | None) -> None:
    """Sent again it would reach the other queues twice."""
    first, second = made("a"), made("b")
    sent(channel, first, second)
    channel.ack("a", nack=True)
    channel.ack("b", nack=True)
    assert len(channel.asked) == 2
    assert channel.dispatcher.waiting == 2
    assert verified(channel, answer) == []
    assert (outcome(first), outcome(second)) == (Nacked, Nacked)
    third = made("c")
    sent(channel, third)
    channel.ack("c", nack=True)
    assert outcome(third) is Nacked
    assert len(channel.asked) == 2


def test_a_nacked_message_on_a_connection_that_is_lost(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    channel.ack("m", nack=True)
    channel.lose()
    assert outcome(message) is Nacked


def test_on_another_connection_all_is_verified_and_it_goes(channel: Channel) -> None:
    message = made("m")
    sent(channel, message)
    returned(channel, "m")
    channel.lose()
    channel.open(warm=False)
    channel.pump()
    assert verified(channel) == ["m"]
    channel.ack("m")
    assert outcome(message) is None


def test_of_one_transaction_they_stay_in_order(channel: Channel) -> None:
    batch = object()
    first, second, third = (made(message_id, batch=batch) for message_id in "abc")
    sent(channel, first)
    returned(channel, "a")
    assert channel.send(second, third) == []
    assert verified(channel) == ["a", "b", "c"]


def test_another_one_with_its_id_waits_its_turn(channel: Channel) -> None:
    first, second = made("m"), made("m")
    sent(channel, first)
    assert channel.send(second) == []
    assert returned(channel, "m") == []
    assert verified(channel) == ["m"]
    assert channel.wire[channel.tag] is first
    assert channel.ack("m") == ["m"]
    channel.ack("m")
    assert (outcome(first), outcome(second)) == (None, None)


def test_it_is_noted_once_and_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BrokerAnswer, "advice", lambda _: 1 / 0)  # it may import modules: not here
    notes: list[str] = []
    channel = Channel()
    channel.dispatcher._queue._repair._note = notes.append
    channel.open()
    messages = [made("a"), made("b")]
    for message in messages:
        message.message.envelope = message.envelope._replace(body=b"secret")
    sent(channel, *messages)
    returned(channel, "a")
    returned(channel, "b")
    [note] = notes
    assert note.startswith("exchange 'x', routing key 'k', message a: returned by the broker")
    assert "312 NO_ROUTE: " in note
    assert "secret" not in note


# -- what only the project's configs know ------------------------------------------------------------


class Project:
    """What is asked for the project's configs, and answers when the test says so."""

    def __init__(self, channel: Channel, *configs: Config) -> None:
        self.channel, self.configs = channel, configs
        self.asked: list[OnFound] = []
        channel.dispatcher._queue._repair._find = self.asked.append

    def answer(self) -> list[str]:
        """The configs are found; return what is written then."""
        self.asked[-1](self.configs)
        return self.channel.pump()


@pytest.fixture
def project(channel: Channel) -> Project:
    return Project(channel, X, QueueConfig("q", bindings=[Binding(X)]))


NAMED: Topology = (ExchangeName("x"),)


@pytest.mark.parametrize("topology", [(), NAMED, (X,)], ids=["none", "name", "config"])
def test_the_projects_configs_are_declared(
    channel: Channel, project: Project, topology: Topology
) -> None:
    message = made("m", topology)
    sent(channel, message)
    assert returned(channel, "m") == []
    assert not message.done
    assert project.answer() == []
    assert set(channel.asked[-1]) == set(BOUND)
    assert verified(channel) == ["m"]
    channel.ack("m")
    assert outcome(message) is None


def test_what_came_back_together_is_one_question_and_one_declaration(
    channel: Channel, project: Project
) -> None:
    notes: list[str] = []
    channel.dispatcher._queue._repair._note = notes.append
    sent(channel, made("a", ()), made("b", ()))
    returned(channel, "a")
    returned(channel, "b")
    project.answer()
    assert (len(project.asked), len(channel.asked), len(notes)) == (1, 1, 1)
    assert verified(channel) == ["a", "b"]


def test_where_the_project_knows_no_route_it_is_asked_once_a_second(
    channel: Channel, project: Project
) -> None:
    project.configs = (X,)
    first, second, third = made("a", ()), made("b", ()), made("c", ())
    sent(channel, first)
    returned(channel, "a")
    project.answer()
    sent(channel, second)
    returned(channel, "b")
    assert (outcome(first), outcome(second)) == (Unroutable, Unroutable)
    channel.now += FUTILE_SECONDS
    sent(channel, third)
    returned(channel, "c")
    assert len(project.asked) == 2


def test_an_exchange_that_only_the_project_knows_is_gone(
    channel: Channel, project: Project
) -> None:
    message = made("m", ())
    sent(channel, message)
    assert channel.close(*NOT_FOUND) == []
    project.answer()
    assert verified(channel) == ["m"]
    channel.ack("m")
    assert outcome(message) is None


def test_an_exchange_that_nobody_declares_is_refused_from_memory(
    channel: Channel, project: Project
) -> None:
    project.configs = ()
    first, second = made("a", ()), made("b", ())
    sent(channel, first)
    channel.close(*NOT_FOUND)
    project.answer()
    channel.send(second)
    assert (outcome(first), outcome(second)) == (Rejected, Rejected)


def test_another_refusal_says_nothing_of_topology(channel: Channel, project: Project) -> None:
    message = made("m", ())
    sent(channel, message)
    channel.close(403, "ACCESS_REFUSED")
    assert outcome(message) is Rejected
    assert not project.asked


def test_a_nack_has_the_projects_queues_looked_for(channel: Channel, project: Project) -> None:
    message = made("m", ())
    sent(channel, message)
    channel.ack("m", nack=True)
    project.answer()
    assert set(channel.asked[-1]) == {ExchangeName("x"), QueueName("q")}
    assert verified(channel, (404, "NOT_FOUND - no queue 'q'")) == []
    assert verified(channel) == ["m"]


def test_refused_the_answer_stays_and_the_next_one_has_its_own(
    channel: Channel, project: Project
) -> None:
    first, second = made("a", ()), made("b", ())
    sent(channel, first)
    returned(channel, "a")
    project.answer()
    verified(channel, (503, "COMMAND_INVALID"))
    sent(channel, second)
    returned(channel, "b")
    assert (outcome(first), outcome(second)) == (Unroutable, Unroutable)
    channel.now += FUTILE_SECONDS
    third = made("c", ())
    sent(channel, third)
    returned(channel, "c")
    project.answer()
    assert outcome(third) is Unroutable  # the declaration is refused from memory


def test_a_connection_that_is_lost_while_the_project_is_asked(
    channel: Channel, project: Project
) -> None:
    back, refused = made("back", ()), made("refused", ())
    sent(channel, back, refused)
    returned(channel, "back")
    channel.ack("refused", nack=True)
    channel.lose()
    assert outcome(refused) is Nacked
    assert project.answer() == []
    channel.open(warm=False)
    channel.pump()
    assert verified(channel) == ["back"]
    channel.ack("back")
    assert outcome(back) is None


def test_given_up_while_the_project_is_asked_it_is_known_not_to_be_there(
    channel: Channel, project: Project
) -> None:
    message = made("m", ())
    sent(channel, message)
    returned(channel, "m")
    assert channel.dispatcher.waiting == 1
    message.fail("the deadline")
    assert outcome(message) is BrokerUnavailable
    project.answer()
    assert channel.asked == []


def test_an_exchange_that_is_missing_when_its_name_is_looked_up(
    channel: Channel, project: Project
) -> None:
    for message_id in "ab":  # the second time the configs have been declared on this connection
        message = made(message_id, NAMED)
        channel.send(message)
        assert verified(channel, NOT_FOUND) == []
        assert not message.done
        project.answer()
        assert set(channel.asked[-1]) == set(BOUND)
        assert verified(channel) == [message_id]
        channel.ack(message_id)
        assert outcome(message) is None


def test_an_exchange_that_nobody_declares_is_looked_for_again(
    channel: Channel, project: Project
) -> None:
    project.configs = ()
    first, second = made("a", NAMED), made("b", NAMED)
    channel.send(first)
    verified(channel, NOT_FOUND)
    project.answer()
    channel.send(second)
    assert len(channel.asked) == 2
    verified(channel, NOT_FOUND)
    assert (outcome(first), outcome(second)) == (Rejected, Rejected)
    assert len(project.asked) == 1


@pytest.mark.parametrize(
    ("topology", "text"),
    [
        ((QueueName("q"),), "NOT_FOUND - no queue 'q' in vhost '/'"),
        ((*NAMED, QueueName("q")), "NOT_FOUND - no queue 'q' in vhost '/'"),
        ((*NAMED, ExchangeName("y")), "NOT_FOUND - no exchange 'y' in vhost '/'"),
    ],
)
def test_what_else_is_named_and_missing_is_not_declared(
    channel: Channel, project: Project, topology: Topology, text: str
) -> None:
    message = made("m", topology)
    channel.send(message)
    verified(channel, (404, text))
    assert outcome(message) is Rejected
    assert not project.asked
