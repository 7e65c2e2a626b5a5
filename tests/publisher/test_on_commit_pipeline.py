"""The messages of one commit leave in one pipeline and share one deadline."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import transaction

from rmq_publisher import (
    Message,
    QueueConfig,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.publisher import on_commit
from rmq_publisher.transport import delivery
from tests.support.publishing import LONG, HoldAnswers, bodies, now, taken
from tests.support.rig.proxy import SilentPort, closed_port
from tests.support.transactions import rolled_back

one = pytest.mark.django_db(transaction=True)


# -- one pipeline -----------------------------------------------------------------------------


def in_one_transaction(how, queue):
    with transaction.atomic():
        if how == "after a savepoint's rollback":
            publish("0", queue=queue)
            rolled_back()
        for n in range(how == "after a savepoint's rollback", 100):
            if how == "in nested blocks":
                with transaction.atomic():
                    publish(str(n), queue=queue)
            elif how == "among other hooks":
                transaction.on_commit(lambda: None)
                publish(str(n), queue=queue)
            else:
                publish(str(n), queue=queue)


@one
@pytest.mark.parametrize(
    "how", ["plainly", "in nested blocks", "among other hooks", "after a savepoint's rollback"]
)
def test_a_hundred_messages_leave_as_one_pipeline(rmq, amqp, proxy, failed, how):
    """Several messages published in one transaction leave as one pipelined batch after commit

    No answer comes before the hundredth has left: sent one by one they would wait for ever.
    """
    rmq.RMQ_URL, rmq.RMQ_MAX_IN_FLIGHT = proxy.url, 100
    queue = amqp.declare_queue()
    now("first", queue=queue)  # the first on a connection goes alone
    held = proxy._arm(HoldAnswers(100))
    in_one_transaction(how, queue)
    assert failed == []
    assert held.hits == 1
    assert bodies(amqp, queue) == [b"first", *(b"%d" % n for n in range(100))]


@one
def test_a_hundred_messages_take_about_two_round_trips_with_the_usual_window(
    rmq, amqp, proxy, failed
):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now("first", queue=queue)
    proxy.delay_acks(0.4)
    started = time.monotonic()
    in_one_transaction("plainly", queue)
    assert 0.4 < time.monotonic() - started < 10  # one by one: 40 s, and failures after 5
    assert failed == []


@one
def test_single_ones_and_many_and_several_queues_share_the_pipeline(rmq, amqp, proxy, failed):
    rmq.RMQ_URL = proxy.url
    queues = [amqp.declare_queue() for _ in range(3)]
    declared = QueueConfig(amqp.names.queue())
    now("first", queue=queues[0])
    held = proxy._arm(HoldAnswers(7))
    with transaction.atomic():
        for queue in queues:
            publish("a", queue=queue)
        publish_many(["b", Message("c", priority=1)], queue=queues[1])
        publish_many(["d", "e"], queue=declared)
    assert (failed, held.hits) == ([], 1)
    assert bodies(amqp, queues[1]) == [b"a", b"b", b"c"]
    assert bodies(amqp, declared.name) == [b"d", b"e"]


@one
def test_each_connection_has_a_pipeline_of_its_own(rmq, amqp, proxy, failed):
    rmq.RMQ_CONNECTIONS = {"events": {"URL": proxy.url}}
    queue, other = amqp.declare_queue(), amqp.declare_queue()
    now("first", queue=other, using="events")
    held = proxy._arm(HoldAnswers(10))
    with transaction.atomic():
        for n in range(10):
            publish(str(n), queue=queue, using="default")
            publish(str(n), queue=other, using="events")
    assert (failed, held.hits) == ([], 1)
    assert bodies(amqp, queue) == [b"%d" % n for n in range(10)]
    assert bodies(amqp, other) == [b"first", *(b"%d" % n for n in range(10))]


@one
@pytest.mark.parametrize("dead", ["refuses", "is silent"])
def test_a_dead_connection_takes_no_other_with_it(rmq, amqp, failed, dead):
    queue = amqp.declare_queue()
    with SilentPort() as silent:
        url = silent.url if dead == "is silent" else f"amqp://127.0.0.1:{closed_port()}/"
        rmq.RMQ_CONNECTIONS = {"a-dead-one": {"URL": url, "PUBLISH_TIMEOUT": 2}}
        with transaction.atomic():
            for n in range(5):
                publish("lost", queue="q", using="a-dead-one", message_id=f"lost-{n}")
                publish(str(n), queue=queue, using="default", timeout=2)
        connections["a-dead-one"].close(0)
    assert bodies(amqp, queue) == [b"%d" % n for n in range(5)]
    assert [error.message_id for error in failed] == [f"lost-{n}" for n in range(5)]


@one
@pytest.mark.parametrize("way", ["before", "after"])
def test_a_connection_lost_in_the_middle_loses_nothing(rmq, amqp, proxy, failed, way):
    """A duplicate carries the same ``message_id``."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now("first", queue=queue)
    fault = proxy.cut_before_publish(50) if way == "before" else proxy.cut_after_publish(50)
    in_one_transaction("plainly", queue)
    assert (failed, fault.hits) == ([], 1)
    arrived = taken(amqp, queue)
    ids = {message.body: message.properties.message_id for message in arrived}
    assert list(ids) == [b"first", *(b"%d" % n for n in range(100))]
    assert len(set(ids.values())) == 101
    assert all(message.properties.message_id == ids[message.body] for message in arrived)


@one
def test_one_id_to_two_queues_in_one_transaction(rmq, amqp, failed):
    """The same ``message_id`` twice in flight: one event may go to two queues."""
    queues = [amqp.declare_queue() for _ in range(2)]
    with transaction.atomic():
        for queue in queues:
            publish("x", queue=queue, message_id="event")
            publish("y", queue=queue)
    assert failed == []
    for queue in queues:
        first, second = taken(amqp, queue)
        assert {first.body, second.body} == {b"x", b"y"}
        assert "event" in (first.properties.message_id, second.properties.message_id)


# -- one deadline -----------------------------------------------------------------------------


@one
@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("what", ["silent port", "no answers"])
def test_all_hooks_of_one_commit_share_one_deadline(rmq, amqp, proxy, failed, what, stale):
    """All hooks of one commit share one deadline: not one for each, also on a stale list, where each
    sends its own."""
    rmq.RMQ_CONNECT_TIMEOUT, rmq.RMQ_PUBLISH_TIMEOUT = LONG, 0.5
    queue = amqp.declare_queue()
    with SilentPort() as silent:
        if what == "silent port":
            rmq.RMQ_URL = silent.url
        else:
            rmq.RMQ_URL = proxy.url
            now("first", queue=queue, timeout=LONG)
            proxy.swallow_acks(None)
        started = time.monotonic()
        with transaction.atomic():
            for n in range(100):
                publish(str(n), queue=queue, message_id=str(n))
            if stale:
                rolled_back()
        took = time.monotonic() - started
        connections["default"].close(0)
    assert took < 10  # 50 s if each had its own
    assert [error.message_id for error in failed] == [str(n) for n in range(100)]
    assert all(error.retryable for error in failed)


@one
@pytest.mark.parametrize("stale", [False, True])
def test_the_time_of_other_apps_hooks_is_not_taken_from_ours(
    rmq, amqp, failed, monkeypatch, stale
):
    """Shared are the seconds that they wait, not those of slow hooks in between."""
    queue = amqp.declare_queue()
    passed = []
    clock = lambda: time.monotonic() + sum(passed)  # noqa: E731
    monkeypatch.setattr(on_commit, "monotonic", clock)
    monkeypatch.setattr(delivery, "monotonic", clock)
    with transaction.atomic():
        for n in range(3):
            publish(str(n), queue=queue)
            transaction.on_commit(lambda: passed.append(1000))
        if stale:
            rolled_back()
    assert (failed, len(passed)) == ([], 3)
    assert bodies(amqp, queue) == [b"0", b"1", b"2"]


@one
def test_the_next_transaction_has_a_deadline_of_its_own(rmq, amqp, proxy, failed):
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, 0.5
    queue = amqp.declare_queue()
    now("first", queue=queue, timeout=LONG)
    swallowed = proxy.swallow_acks(None)
    with transaction.atomic():
        publish("lost", queue=queue)
    assert len(failed) == 1
    swallowed.disarm()
    rmq.RMQ_PUBLISH_TIMEOUT = LONG
    with transaction.atomic():
        publish("next", queue=queue)
    assert len(failed) == 1


@one
def test_many_in_a_transaction_are_bounded_by_their_progress(rmq, amqp, proxy, failed):
    """for ``publish_many`` it bounds the time without progress"""
    rmq.RMQ_URL, rmq.RMQ_MAX_IN_FLIGHT = proxy.url, 1
    queue = amqp.declare_queue()
    now("first", queue=queue)
    proxy.delay_acks(0.3)
    with transaction.atomic():
        publish_many([str(n) for n in range(5)], queue=queue, timeout=0.9)
    assert failed == []
    assert len(bodies(amqp, queue)) == 6


class Clock:
    """Goes on when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []


class PlayedBatch:
    """No answer comes to any of its messages."""

    clock: Clock
    extended: bool

    def __init__(self, _using: str, envelopes: Sequence[Envelope]) -> None:
        self._count = len(envelopes)

    def submit(self) -> None:
        """Nothing is sent."""

    def wait(self, _timeout: float, deadline: float, *, extend: bool) -> float:
        type(self).extended = extend
        self.clock.waits.append(deadline - self.clock.now)
        self.clock.now = deadline
        return deadline

    def outcomes(self) -> list[None]:
        return [None] * self._count


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of messages that wait for answers that do not come."""
    PlayedBatch.clock = clock = Clock()
    monkeypatch.setattr(on_commit, "Batch", PlayedBatch)
    monkeypatch.setattr(on_commit, "monotonic", lambda: clock.now)
    return clock


@one
@pytest.mark.parametrize("timeouts", [(2, 7), (7, 2), (2, 7, 2)])
def test_a_commit_has_the_longest_timeout_of_its_hooks(
    clock: Clock, timeouts: Sequence[int]
) -> None:
    with transaction.atomic():
        for timeout in timeouts:
            publish("x", routing_key="key", timeout=timeout)
    assert clock.waits == [7.0]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("timeouts", "waits"),
    [((2, 7), [2.0, 5.0]), ((7, 2), [7.0, 0.0]), ((2, 7, 9), [2.0, 5.0, 2.0])],
)
def test_hooks_that_send_one_by_one_have_the_longest_timeout_together(
    clock: Clock,
    timeouts: Sequence[int],
    waits: list[float],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        for timeout in timeouts:
            publish("x", routing_key="key", timeout=timeout)
    assert clock.waits == waits


@one
@pytest.mark.parametrize("many_first", [False, True])
def test_beside_a_plain_publish_many_are_bounded_by_their_progress(
    clock: Clock, many_first: bool
) -> None:
    with transaction.atomic():
        for many in (many_first, not many_first):
            if many:
                publish_many(["x", "y"], routing_key="key", timeout=1)
            else:
                publish("z", routing_key="key", timeout=1)
    assert clock.waits == [1.0]
    assert PlayedBatch.extended


@pytest.mark.django_db
def test_what_one_hook_has_waited_the_next_one_has_not(
    clock: Clock, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        for number in range(3):  # under a capture each hook sends its own
            publish(str(number), routing_key="key", timeout=5)
    assert clock.waits == [5.0, 0.0, 0.0]
