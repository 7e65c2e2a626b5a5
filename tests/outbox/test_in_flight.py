"""Rows on their way: pipelines, runs of keys, leases that end, and outcomes that never come."""

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rmq_publisher import connections
from rmq_publisher.conf.loader import connection
from rmq_publisher.exceptions import ConfirmTimeout, PublishError, Unroutable
from rmq_publisher.messages.compose import compose
from rmq_publisher.outbox.in_flight import InFlight
from rmq_publisher.outbox.row import NOT_SENT, OutboxRow
from rmq_publisher.timing import monotonic
from tests.support.calls import PATIENCE, eventually
from tests.support.rig.amqp import Amqp
from tests.support.rig.proxy import Proxy

pytestmark = pytest.mark.usefixtures("rmq")


@pytest.fixture
def queue(amqp: Amqp) -> str:
    return amqp.declare_queue()


@pytest.fixture
def by_proxy(rmq: Any, proxy: Proxy) -> Proxy:
    rmq.RMQ_URL = proxy.url
    return proxy


def row(number: int, queue: str, key: str = "", own_for: float = 60.0) -> OutboxRow:
    envelope = compose(connection("default"), f"{number}", routing_key=queue)
    return OutboxRow(number, 7, "default", envelope, key, monotonic() + own_for)


def rows(queue: str, count: int, key: str = "", **options: Any) -> list[OutboxRow]:
    return [row(number, queue, key, **options) for number in range(count)]


class Watched:
    """A flight, and all that came of it."""

    def __init__(self, low: int = 0) -> None:
        self.woken = threading.Event()
        self.wakes = 0
        self.flight = InFlight(lambda: connections["default"], self._wake, low)
        self.outcomes: dict[int, PublishError | object | None] = {}

    def _wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def look(self) -> None:
        for one, outcome in self.flight.outcomes():
            assert one.id not in self.outcomes
            self.outcomes[one.id] = outcome
        self.flight.send(sys.maxsize)

    def add(self, given: Sequence[OutboxRow]) -> None:
        self.flight.add(given)
        self.flight.send(sys.maxsize)

    def end(self) -> "Watched":
        """Look whenever it wakes us, until everything has its outcome."""
        deadline = monotonic() + PATIENCE
        while len(self.flight):
            assert monotonic() < deadline, "it never comes to an end"
            self.woken.wait(0.1)  # deadlines wake nobody
            self.woken.clear()
            self.look()
        assert self.flight.bytes == 0
        return self

    @property
    def kinds(self) -> list[Any]:
        """The outcomes in order: None, `NOT_SENT` or an error's type."""
        found = [self.outcomes[number] for number in sorted(self.outcomes)]
        return [type(one) if isinstance(one, PublishError) else one for one in found]


def flown(*given: OutboxRow) -> Watched:
    watched = Watched()
    watched.add(given)
    return watched.end()


def bodies(amqp: Amqp, queue: str, expected: int) -> list[int]:
    return [int(message.body) for message in amqp.drain(queue, expected)]


def test_rows_without_a_key_are_one_pipeline(by_proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """None waits for another's confirm."""
    flown(row(9, queue))  # the first one of a connection goes alone in any case
    silence = by_proxy.stall("client")
    watched = Watched()
    watched.add(rows(queue, 5))
    assert by_proxy.wait_for_publishes(6)
    silence.disarm()
    assert watched.end().kinds == [None] * 5
    assert bodies(amqp, queue, 6) == [9, 0, 1, 2, 3, 4]


def test_each_row_has_its_own_outcome(queue: str) -> None:
    good, bad = rows(queue, 3), row(3, "nobody takes it")
    assert flown(*good[:2], bad, good[2]).kinds == [None, None, None, Unroutable]


def test_rows_of_a_key_go_one_by_one(by_proxy: Proxy, amqp: Amqp, queue: str) -> None:
    flown(row(9, queue))  # the first one of a connection goes alone in any case
    swallowed = by_proxy.swallow_acks(None)
    watched = Watched()
    watched.add([*rows(queue, 3, key="a"), row(3, queue, key="b")])
    assert swallowed.wait()
    assert by_proxy.wait_for_publishes(3)  # the first of each key
    watched.look()
    assert by_proxy.publishes == 3
    watched.flight.give_up()
    watched.look()
    assert sorted(set(bodies(amqp, queue, 3)) - {9}) == [0, 3]


def test_the_rest_of_a_run_waits_when_one_fails(amqp: Amqp, queue: str) -> None:
    run = [row(0, queue, "a"), row(1, "nobody takes it", "a"), row(2, queue, "a")]
    others = [row(3, queue, "b"), row(4, queue, "b")]
    assert flown(*run, *others).kinds == [None, Unroutable, NOT_SENT, None, None]
    assert sorted(bodies(amqp, queue, 3)) == [0, 3, 4]


def test_what_comes_later_goes_behind_its_key(amqp: Amqp, queue: str) -> None:
    watched = Watched()
    for number in range(10):
        watched.add([row(number, queue, "a")])
    assert [one.id for one in watched.flight.keyed()] == list(range(10))
    assert watched.end().kinds == [None] * 10
    assert bodies(amqp, queue, 10) == list(range(10))


def test_a_key_is_free_again_afterwards(amqp: Amqp, queue: str) -> None:
    watched = Watched()
    watched.add([row(0, "nobody takes it", "a"), row(1, queue, "a")])
    watched.end()
    watched.add([row(2, queue, "a")])
    assert watched.end().kinds == [Unroutable, NOT_SENT, None]


def test_what_is_no_longer_ours_is_not_sent(amqp: Amqp, queue: str) -> None:
    late = [row(0, queue, own_for=0), row(1, queue, "a", own_for=0), row(2, queue, "a")]
    assert flown(*late, row(3, queue)).kinds == [NOT_SENT, NOT_SENT, NOT_SENT, None]
    assert bodies(amqp, queue, 1) == [3]


def test_what_waits_for_a_place_until_it_is_no_longer_ours_is_not_sent(
    rmq: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_MAX_IN_FLIGHT, rmq.RMQ_PUBLISH_TIMEOUT = 1, 2.0
    swallowed = by_proxy.swallow_acks(None)
    watched = Watched()
    watched.add(rows(queue, 3, own_for=0.5))
    assert swallowed.wait()
    assert watched.end().kinds == [ConfirmTimeout, NOT_SENT, NOT_SENT]
    assert bodies(amqp, queue, 1) == [0]


def test_no_outcome_is_waited_for_beyond_the_timeout(
    rmq: Any, by_proxy: Proxy, queue: str
) -> None:
    rmq.RMQ_PUBLISH_TIMEOUT = 0.5
    swallowed = by_proxy.swallow_acks(None)
    assert flown(*rows(queue, 2, key="a")).kinds == [ConfirmTimeout, NOT_SENT]
    assert swallowed.hits


def test_each_outcome_gives_its_pipeline_more_time(
    rmq: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    """Five messages that each take more than half of the timeout."""
    rmq.RMQ_MAX_IN_FLIGHT, rmq.RMQ_PUBLISH_TIMEOUT = 1, 1.5
    slow = by_proxy.delay_acks(0.8)
    assert flown(*rows(queue, 4)).kinds == [None] * 4
    assert slow.hits >= 4


def test_closing_lets_what_is_on_the_wire_come_home(
    rmq: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_MAX_IN_FLIGHT = 1
    slow = by_proxy.delay_acks(0.5)
    watched = Watched()
    watched.add([*rows(queue, 2), row(2, queue, "a"), row(3, queue, "a")])
    assert by_proxy.wait_for_publishes(1)
    watched.flight.close()
    assert watched.end().kinds == [None, NOT_SENT, NOT_SENT, NOT_SENT]
    assert slow.hits == 1
    assert bodies(amqp, queue, 1) == [0]


def test_giving_up_leaves_nothing_without_an_outcome(by_proxy: Proxy, queue: str) -> None:
    swallowed = by_proxy.swallow_acks(None)
    watched = Watched()
    watched.add([*rows(queue, 1), row(1, queue, "a"), row(2, queue, "a")])
    assert swallowed.wait()
    watched.flight.give_up()
    watched.look()
    assert len(watched.flight) == 0
    assert watched.kinds[0] is ConfirmTimeout
    assert watched.kinds[2] is NOT_SENT


def test_it_wakes_when_few_are_left_and_not_for_each(queue: str) -> None:
    watched = Watched(low=10)
    watched.add(rows(queue, 40))
    eventually(lambda: len(watched.flight._ended) == 40)
    assert watched.wakes == 2  # at ten, and at none
    silent = Watched(low=-1)
    silent.add(rows(queue, 5))
    eventually(lambda: len(silent.flight._ended) == 5)
    assert silent.wakes == 0


def test_it_counts_what_it_holds(by_proxy: Proxy, queue: str) -> None:
    by_proxy.swallow_acks(None)
    watched = Watched()
    given: Callable[[int], OutboxRow] = lambda number: row(number, queue, "a" if number else "")  # noqa: E731
    watched.add([given(number) for number in range(4)])
    assert (len(watched.flight), watched.flight.bytes) == (4, 4)
    watched.flight.give_up()
    watched.look()
    assert (len(watched.flight), watched.flight.bytes) == (0, 0)
