"""The engine on a broker or a network that fails: each fault hits, and costs what was promised."""

import random
import threading
from typing import Any

import pytest
from pika import spec
from pika.frame import Method

from rmq_publisher import (
    BrokerUnavailable,
    ConfirmTimeout,
    PublishError,
    QueueConfig,
    Rejected,
    connections,
    publish_many,
)
from rmq_publisher.transport.rabbitmq.topology_channels import CHANNELS_MAX, LOST
from tests.support.calls import (
    PATIENCE,
    Call,
    Took,
    calling,
    error_of,
    eventually,
    now,
    status,
)
from tests.support.faulty import count, message_ids
from tests.support.rig.amqp import Amqp
from tests.support.rig.faults import Fault, Stall, Step, Verdict
from tests.support.rig.link import Link
from tests.support.rig.proxy import Proxy
from tests.support.rig.wire import Frame


@pytest.mark.smoke
@pytest.mark.parametrize("reset", [True, False])
def test_cut_while_idle_costs_one_silent_reconnection(
    through: Proxy, amqp: Amqp, reset: bool
) -> None:
    queue = amqp.declare_queue()
    sent = [now(queue=queue)]
    assert through.cut(reset) == 1
    sent.append(now(queue=queue))
    assert status().connects == 2
    assert message_ids(amqp.drain(queue, 2)) == sent


def test_cut_before_its_ack_it_is_sent_again_under_the_same_id(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(b"first", queue=queue)
    fault = through.cut_after_publish()
    sent = now(b"twice", queue=queue)
    assert fault.hits == 1
    assert fault.answered
    received = amqp.drain(queue, 3)
    assert [message.body for message in received] == [b"first", b"twice", b"twice"]
    assert message_ids(received)[1:] == [sent, sent]
    assert status().connects == 2


def test_cut_before_it_left_it_is_sent_once(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = through.cut_before_publish()
    now(queue=queue)
    assert fault.hits == 1
    assert len(amqp.drain(queue, 2)) == 2


def test_a_second_loss_ends_it(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    first, second = through.cut_after_publish(1), through.cut_after_publish(2)
    error = error_of(queue=queue)
    assert (first.hits, second.hits) == (1, 1)
    assert isinstance(error, ConfirmTimeout)
    assert "second time" in str(error)
    assert through.publishes == 3
    now(queue=queue)
    assert status().connects == 3


def test_a_pipeline_that_is_cut_goes_on_in_order(through: Proxy, amqp: Amqp) -> None:
    """At most a window of duplicates, and each message first arrives in its place."""
    queue = amqp.declare_queue()
    now(b"first", queue=queue)
    fault = through.cut_after_publish(100)
    bodies = [b"%03d" % number for number in range(300)]
    publish_many(bodies, queue=queue, delivery="now")
    assert fault.hits == 1
    received = [message.body for message in amqp.drain(queue, 301)][1:]
    assert list(dict.fromkeys(received)) == bodies
    assert len(received) - len(bodies) <= 64


class Ends(Fault):
    """The broker ends the whole connection over each message to a queue; RabbitMQ does over some."""

    def __init__(self, queue: str) -> None:
        super().__init__()
        self._queue = queue.encode()

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        if (
            step is not Step.STARTED
            or self._queue not in link.up.received[frame.start : frame.end]
        ):
            return Verdict.PASS
        close = spec.Connection.Close(541, "INTERNAL_ERROR", 0, 0)
        link._send(link.down, Method(0, close).marshal())
        self.hit()
        return Verdict.STOP


def test_a_message_that_ends_the_connection_is_rejected_alone(through: Proxy, amqp: Amqp) -> None:
    queue, poison = amqp.declare_queue(), amqp.declare_queue()
    sent = [now(queue=queue)]
    fault = through._arm(Ends(poison))

    def some() -> list[str]:
        return [now(queue=queue) for _ in range(30)]

    beside = [Call(some) for _ in range(8)]
    error = error_of(queue=poison)
    for call in beside:
        sent += call.value()
    assert fault.hits == 2
    assert isinstance(error, Rejected)
    assert error.reply_code == 541
    assert not error.retryable
    assert status().connects == 3
    received = message_ids(amqp.drain(queue, len(sent)))
    assert set(received) == set(sent)


def test_reset_in_the_middle_of_a_body(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = through.reset_in_body()
    now(b"b" * 1_000_000, queue=queue)
    assert fault.hits == 1
    assert [len(message.body) for message in amqp.drain(queue, 2)] == [1, 1_000_000]
    assert status().connects == 2


def test_a_swallowed_ack_is_a_timeout_at_the_deadline(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = through.swallow_acks()
    with Took() as took:
        error = error_of(queue=queue, timeout=0.3)
    assert fault.hits == 1
    assert isinstance(error, ConfirmTimeout)
    assert error.retryable
    assert 0.3 <= took.seconds < 6
    now(queue=queue)  # the answers that follow are not taken for its own
    assert status().connects == 1
    assert len(amqp.drain(queue, 3)) == 3  # outcome unknown: it was there


def test_stalled_bytes_are_a_timeout_at_the_deadline(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    stall = through.stall()
    with Took() as took:
        error = error_of(queue=queue, timeout=0.3)
    assert stall.wait()
    assert isinstance(error, ConfirmTimeout)
    assert took.seconds < 6
    stall.disarm()
    now(queue=queue)
    assert status().connects == 1
    assert len(amqp.drain(queue, 3)) == 3


def test_a_large_message_does_not_hang_on_a_peer_that_does_not_read(
    through: Proxy, amqp: Amqp
) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    stall = through.stall("broker")
    with Took() as took:
        error = error_of(b"l" * 12_000_000, queue=queue, timeout=0.5)
    assert stall.wait()
    assert isinstance(error, ConfirmTimeout)
    assert took.seconds < 10
    stall.disarm()
    now(b"next", queue=queue)
    assert [len(message.body) for message in amqp.drain(queue, 3)] == [1, 12_000_000, 4]


def test_silence_while_something_is_unconfirmed_is_a_lost_connection(
    rmq: Any, through: Proxy, amqp: Amqp
) -> None:
    """The retry after it goes through: only the one stream was dead."""
    rmq.RMQ_HEARTBEAT, rmq.RMQ_CONFIRM_TIMEOUT = 600, 0.5
    queue = amqp.declare_queue()
    now(queue=queue)
    stall = through.stall("client")
    call = calling(queue=queue)
    assert through.wait_for_connections(2)
    stall.disarm()
    assert isinstance(call.value(), str)
    assert "nothing came for 0.5 s" in status().last_error
    assert status().connects == 2


def test_heartbeats_are_a_sign_of_life(rmq: Any, through: Proxy, amqp: Amqp) -> None:
    """An unanswered message alone kills no connection: its queue may be sick."""
    rmq.RMQ_HEARTBEAT, rmq.RMQ_CONFIRM_TIMEOUT = 1, 1.5
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = through.swallow_acks()
    assert isinstance(error_of(queue=queue, timeout=3.5), ConfirmTimeout)
    assert fault.hits == 1
    assert through.connections_made == 1


def test_an_idle_connection_stays_alive_by_heartbeats(
    rmq: Any, through: Proxy, amqp: Amqp
) -> None:
    """RabbitMQ cuts off a client that is silent for two intervals."""
    rmq.RMQ_HEARTBEAT = 1
    queue = amqp.declare_queue()
    now(queue=queue)
    assert not through.wait_for_open(0, timeout=4)
    now(queue=queue)
    assert (status().connects, through.connections_made) == (1, 1)
    swallowed = through.drop_heartbeats()
    assert swallowed.wait()
    assert through.wait_for_open(0, timeout=10)  # and that is what would have happened without
    swallowed.disarm()
    now(queue=queue)
    assert status().connects == 2


@pytest.mark.parametrize("kind", ["active", "passive"])
def test_topology_is_there_again_on_every_reconnection(
    through: Proxy, amqp: Amqp, kind: str
) -> None:
    """The queue is deleted while the connection is down; what was verified on it counts no more."""
    name = amqp.names.queue()
    queue = QueueConfig(name) if kind == "active" else name
    amqp.declare_queue(name)
    now(queue=queue)
    for number in range(50 if kind == "active" else 3):
        assert through.cut() == 1
        amqp.delete_queue(name)
        if kind == "passive":
            assert isinstance(error_of(queue=queue), Rejected)
            amqp.declare_queue(name)
        now(b"%d" % number, queue=queue)
        assert status().connects == number + 2
        assert amqp.depth(name) == 1


DECLARE_OK = (50, 11)


class NoAnswerAboutQueues(Fault):
    """What the broker says of queues never comes."""

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if frame.method != DECLARE_OK:
            return Verdict.PASS
        self.hit()
        return Verdict.DROP


def test_verifications_that_are_never_answered_hold_up_no_others(
    through: Proxy, amqp: Amqp
) -> None:
    """As many as run at a time; the next one neither waits for them nor takes their channels."""
    queues = [amqp.declare_queue() for _ in range(CHANNELS_MAX + 1)]
    now(routing_key=queues[0])
    fault = through._arm(NoAnswerAboutQueues())
    calls = [calling(queue=queue) for queue in queues[:-1]]
    assert fault.wait(hits=CHANNELS_MAX)
    fault.disarm()
    now(queue=queues[-1])
    assert fault.hits == CHANNELS_MAX
    assert not any(call.done for call in calls)
    through.cut()
    assert len({call.value() for call in calls}) == CHANNELS_MAX
    assert status().connects == 2


def test_a_late_answer_says_nothing_of_the_next_connection(through: Proxy, amqp: Amqp) -> None:
    """Else what was verified on the lost one would count as verified on its successor."""
    queue = amqp.declare_queue()
    now(queue=queue)
    link = connections["default"]._thread.connection._connection  # type: ignore[attr-defined]
    through.cut()
    now(queue=queue)
    told: list[Any] = []
    link._tell(lambda replies, refusal: told.append((replies, refusal)), [], None)
    assert told == [([], (LOST, "the connection was lost"))]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_whatever_the_network_does_nobody_is_told_a_lie(
    through: Proxy, amqp: Amqp, seed: int
) -> None:
    """Confirmed is there, "not sent" and "rejected" are not, and duplicates are within bounds."""
    chance = random.Random(seed)
    queues = [amqp.declare_queue() for _ in range(2)]
    now(queue=queues[0], message_id="first")
    stop = threading.Event()
    outcomes: dict[str, PublishError | None] = {"first": None}

    def work(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            message_id = f"{thread}.{number}"
            outcomes[message_id] = error_of(
                b"b" * (number % 7) * 50_000,
                queue=queues[number % 2],
                message_id=message_id,
                user_id="somebody" if number % 40 == 39 else None,
                timeout=2,
            )

    def stall_briefly() -> Stall:
        stall = through.stall(chance.choice(["client", "broker", "both"]))
        stall.wait()
        stall.disarm()
        return stall

    calls = [Call(lambda thread=thread: work(thread)) for thread in range(8)]
    breaks = [
        lambda: through.cut(reset=chance.random() < 0.5),
        lambda: through.cut_after_publish(chance.randint(1, 30)),
        lambda: through.cut_before_publish(chance.randint(1, 30)),
        lambda: through.reset_in_body(chance.randint(1, 30)),
        lambda: through.swallow_acks(1),
        stall_briefly,
    ]
    hits = 0
    for _ in range(12):
        fault = chance.choice(breaks)()
        hits += fault if isinstance(fault, int) else fault.wait(timeout=10)
        assert through.wait_for_publishes(through.publishes + 30, timeout=PATIENCE)
    stop.set()
    for call in calls:
        call.value()
    engine = connections["default"]._thread  # type: ignore[attr-defined]
    eventually(lambda: engine.dispatcher.flow.window == 64)
    eventually(lambda: engine.dispatcher._confirms.in_flight == 0)
    assert hits >= 6  # some came while there was no connection

    confirmed = {name for name, error in outcomes.items() if error is None}
    arrived = [name for queue in queues for name in message_ids(amqp.drain(queue))]
    missing = confirmed - set(arrived)
    kinds = {type(error) for error in outcomes.values() if error is not None}
    assert missing == set()
    assert kinds <= {Rejected, ConfirmTimeout, BrokerUnavailable}
    for kind in (Rejected, BrokerUnavailable):
        told = {name for name, error in outcomes.items() if type(error) is kind}
        assert not told & set(arrived)
    assert Rejected in kinds
    lost = status().connects + count(through, "broker Channel.Close")
    assert len(arrived) - len(set(arrived)) <= 64 * lost
