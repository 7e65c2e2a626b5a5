"""The accounting of delivery tags, against a simple model; and the one outcome of a delivery."""

import sys
import threading

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rmq_publisher.exceptions import BrokerUnavailable, ConfirmTimeout
from rmq_publisher.transport.outcome import Delivery
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.publisher_confirms import PublisherConfirms
from tests.support.deliveries import Told, ids, told

PLACES = [("", "q1"), ("", "q2"), ("x", "k")]


class ConfirmsMachine(RuleBasedStateMachine):
    """What a channel holds, as a plain list of tags and messages."""

    def __init__(self) -> None:
        super().__init__()
        self.confirms = PublisherConfirms()
        self.model: list[tuple[int, OutgoingMessage]] = []
        self.placed: set[OutgoingMessage] = set()
        self.next_tag = 1
        self.made = 0

    @rule(where=st.sampled_from(PLACES), placed=st.booleans())
    def send(self, where: tuple[str, str], placed: bool) -> None:
        message = Told(f"m{self.made}", where).message
        self.made += 1
        self.confirms.reserve(message)
        assert self.confirms.find(message.envelope.message_id) is message
        if placed:
            self.confirms.place(message)
            self.placed.add(message)
        assert self.confirms.sent(message) == self.next_tag
        self.model.append((self.next_tag, message))
        self.next_tag += 1

    @rule(data=st.data(), multiple=st.booleans())
    def answer(self, data: st.DataObject, multiple: bool) -> None:
        """Known tags, answered ones, tags that were never given out, and 0."""
        tag = data.draw(st.integers(0, self.next_tag + 1))
        if multiple:
            spoken_of = [pair for pair in self.model if not tag or pair[0] <= tag]
        else:
            spoken_of = [pair for pair in self.model if pair[0] == tag]
        assert self.confirms.answered(tag, multiple=multiple) == [item for _, item in spoken_of]
        self._gone([item for _, item in spoken_of])

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """A destination is set aside: its places are given back, once."""
        message = data.draw(st.sampled_from([item for _, item in self.model]))
        self.confirms.free(message)
        self.placed.discard(message)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([item for _, item in self.model])).delivery.fail("the deadline")

    @rule()
    def reap(self) -> None:
        expected = [item for _, item in self.model if item.delivery.claimed and item.frames]
        assert self.confirms.reap() == expected
        for message in expected:
            self.placed.discard(message)
            assert (message.envelope.body, message.envelope.header) == (b"", b"")
        assert self.confirms.reap() == []

    @rule()
    def clear(self) -> None:
        assert self.confirms.clear() == [item for _, item in self.model]
        self._gone([item for _, item in self.model])
        self.next_tag = 1

    def _gone(self, messages: list[OutgoingMessage]) -> None:
        self.model = [pair for pair in self.model if pair[1] not in messages]
        self.placed.difference_update(messages)
        for message in messages:
            assert self.confirms.find(message.envelope.message_id) is None

    @invariant()
    def agrees(self) -> None:
        known = [item for _, item in self.model]
        assert list(self.confirms) == known
        assert len(self.confirms) == len(known)
        assert self.confirms.in_flight == len(self.placed)
        assert self.confirms.by_destination() == {
            where: [item for item in known if item.envelope.destination == where]
            for where in PLACES
            if any(item.envelope.destination == where for item in known)
        }
        for message in known:
            assert self.confirms.find(message.envelope.message_id) is message


TestConfirms = ConfirmsMachine.TestCase


def test_an_answer_said_twice_speaks_of_nothing() -> None:
    confirms = PublisherConfirms()
    for delivery in told(3):
        confirms.sent(delivery.message)
    assert ids(confirms.answered(2, multiple=False)) == ["m1"]
    assert confirms.answered(2, multiple=False) == []
    assert ids(confirms.answered(2, multiple=True)) == ["m0"]
    assert ids(confirms.answered(0, multiple=True)) == ["m2"]


# -- the one outcome of a delivery ----------------------------------------------------------------


def test_the_first_outcome_stands() -> None:
    confirmed, timed_out = told(2)
    assert confirmed.resolve()
    assert not confirmed.fail("late")
    timed_out.written = True
    assert timed_out.fail("late")
    assert not timed_out.resolve()
    assert (confirmed.error, confirmed.told) == (None, 1)
    assert isinstance(timed_out.error, ConfirmTimeout)
    assert (timed_out.told, timed_out.error.message_id) == (1, "m1")


def test_what_was_never_written_was_not_sent() -> None:
    delivery = Told()
    delivery.fail("no connection")
    assert isinstance(delivery.error, BrokerUnavailable)
    assert "no connection" in str(delivery.error)


class Watched(Told):
    """Notes whether its end was marked when it was asked whether it was written."""

    __slots__ = ()

    @property
    def written(self) -> bool:  # type: ignore[override]
        self.__dict__.setdefault("marked", self.claimed)
        return False

    @written.setter
    def written(self, value: bool) -> None: ...


def test_a_caller_marks_the_end_before_it_looks_whether_it_was_written() -> None:
    """The I/O thread does it the other way round: one of them sees the other."""
    delivery = Watched()
    delivery.fail("the deadline")
    assert delivery.__dict__["marked"]


@pytest.fixture
def hasty_threads() -> object:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_caller_and_io_thread_agree_on_one_outcome() -> None:
    """A thread writes and confirms, another gives up: each is told once, and never a lie."""
    deliveries = told(3000)
    written: set[Delivery] = set()
    start = threading.Barrier(2)

    def give_up() -> None:
        start.wait()
        for delivery in deliveries:
            delivery.fail("the deadline")

    caller = threading.Thread(target=give_up)
    caller.start()
    start.wait()
    for delivery in deliveries:
        delivery.written = True
        if not delivery.claimed:
            written.add(delivery)
            delivery.resolve()
    caller.join()
    assert all(delivery.told == 1 for delivery in deliveries)
    not_sent = {item for item in deliveries if isinstance(item.error, BrokerUnavailable)}
    assert not not_sent & written
    assert {item for item in deliveries if item.error is None} <= written
