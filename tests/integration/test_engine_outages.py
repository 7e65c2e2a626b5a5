"""No broker, refused writing, alarms, and a broker that is frozen or killed."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rmq_publisher import (
    BrokerUnavailable,
    ConfirmTimeout,
    PublishManyError,
    QueueConfig,
    Rejected,
    apublish,
    connections,
    publish_many,
)
from tests.support.calls import (
    AT_ONCE,
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
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.faults import Fault, Verdict
from tests.support.rig.link import Link
from tests.support.rig.node import PrivateNode
from tests.support.rig.ports import SilentPort, closed_port
from tests.support.rig.proxy import Proxy
from tests.support.rig.wire import Frame


@pytest.fixture
def on_node(settings: Any, node: PrivateNode, node_proxy: Proxy) -> Iterator[Proxy]:
    """The same in front of the node that may be disturbed."""
    settings.RMQ_URL = node_proxy.url
    settings.RMQ_PUBLISH_TIMEOUT = PATIENCE
    yield node_proxy
    node.thaw()
    connections.close()


# -- no broker -------------------------------------------------------------------------------------


def test_nobody_listens(rmq: Any) -> None:
    port = closed_port()
    rmq.RMQ_URL = f"amqp://someone:pa55word@127.0.0.1:{port}/v"
    with Took() as took:
        error = error_of(queue="q", timeout=PATIENCE)
    assert took.seconds < PATIENCE / 2
    assert isinstance(error, BrokerUnavailable)
    assert f"127.0.0.1:{port}" in str(error)
    assert "Connection refused" in str(error)
    assert "pa55word" not in f"{error!r} {error} {status()}"
    with Took() as took:  # known down: no attempt is waited for
        again = error_of(queue="q", timeout=PATIENCE)
    assert took.seconds < AT_ONCE
    assert isinstance(again, BrokerUnavailable)
    assert (status().state, status().connects) == ("down", 0)


def test_a_name_that_nobody_knows(rmq: Any) -> None:
    rmq.RMQ_URL = "amqp://nowhere.invalid:5672"
    error = error_of(queue="q", timeout=PATIENCE)
    assert isinstance(error, BrokerUnavailable)
    assert "nowhere.invalid:5672" in str(error)
    assert "cannot be resolved" in str(error)


def test_a_port_that_says_nothing(rmq: Any) -> None:
    rmq.RMQ_CONNECT_TIMEOUT = 0.3
    with SilentPort() as silent:
        rmq.RMQ_URL = silent.url
        with Took() as took:
            error = error_of(queue="q", timeout=PATIENCE)
        connections.close()
    assert took.seconds < 10
    assert isinstance(error, BrokerUnavailable)
    assert "no answer in time" in str(error)


def test_a_port_that_is_no_brokers(rmq: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        rmq.RMQ_URL = f"amqp://127.0.0.1:{server.getsockname()[1]}"
        call = calling(queue="q")
        with server.accept()[0] as client:
            client.recv(8)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        error = call.outcome()
    assert isinstance(error, BrokerUnavailable)


CHANNEL_OPEN_OK, CONFIRM_SELECT_OK = (20, 11), (85, 11)


class NoPublishingChannel(Fault):
    """An answer of the broker for the publishing channel never comes."""

    def __init__(self, method: tuple[int, int] = CHANNEL_OPEN_OK) -> None:
        super().__init__()
        self._method = method

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if (frame.method, frame.channel) != (self._method, 1):
            return Verdict.PASS
        self.hit()
        return Verdict.DROP


@pytest.mark.parametrize("method", [CHANNEL_OPEN_OK, CONFIRM_SELECT_OK])
def test_a_broker_that_freezes_while_the_channel_is_opened(
    rmq: Any, through: Proxy, amqp: Amqp, method: tuple[int, int]
) -> None:
    """pika's own time limit ends with the connection's opening; nothing leaves before SelectOk."""
    rmq.RMQ_CONNECT_TIMEOUT, rmq.RMQ_HEARTBEAT = 0.5, 600
    queue = amqp.declare_queue()
    fault = through._arm(NoPublishingChannel(method))
    error = error_of(routing_key=queue)
    assert isinstance(error, BrokerUnavailable)
    assert "no answer in time" in str(error)
    assert through.publishes == 0
    fault.disarm()
    eventually(lambda: status().state == "open")
    now(queue=queue)
    assert fault.hits >= 1


def test_the_next_node_is_tried_when_one_freezes_while_it_is_opened(
    rmq: Any, through: Proxy, amqp: Amqp
) -> None:
    rmq.RMQ_CONNECT_TIMEOUT, rmq.RMQ_HEARTBEAT = 0.5, 600
    rmq.RMQ_URL = [through.url, amqp.url]
    fault = through._arm(NoPublishingChannel())
    now(queue=amqp.declare_queue())
    assert (fault.hits, status().connects) == (1, 1)


def test_a_broker_that_freezes_while_the_channel_is_opened_again(
    rmq: Any, through: Proxy, amqp: Amqp
) -> None:
    rmq.RMQ_CONNECT_TIMEOUT, rmq.RMQ_HEARTBEAT = 0.5, 600
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = through._arm(NoPublishingChannel())
    assert isinstance(error_of(queue=queue, user_id="somebody"), Rejected)
    call = calling(queue=queue)
    assert fault.wait()
    eventually(lambda: status().state != "open")
    fault.disarm()
    assert isinstance(call.value(), str)
    assert "no answer in time" in status().last_error


def test_the_first_connection_is_waited_for(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    stall = through.stall()
    call = calling(queue=queue)
    assert stall.wait()
    assert status().state == "connecting"
    assert not call.done
    stall.disarm()
    assert isinstance(call.value(), str)


def test_the_first_reconnection_is_waited_for(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    stall = through.stall()
    through.cut()
    eventually(lambda: status().state == "reconnecting")
    call = calling(queue=queue)
    assert stall.wait()
    assert not call.done
    stall.disarm()
    assert isinstance(call.value(), str)


def test_down_and_up_again(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    through.refuse()
    through.cut()
    assert isinstance(error_of(queue=queue), BrokerUnavailable)
    with Took() as took:
        assert all(isinstance(error_of(queue=queue), BrokerUnavailable) for _ in range(20))
    assert took.seconds < AT_ONCE
    with pytest.raises(PublishManyError) as caught:
        publish_many([b"1", b"2"], queue=queue, delivery="now")
    assert {type(error) for error in caught.value.outcomes} == {BrokerUnavailable}
    through.accept()
    eventually(lambda: status().state == "open")
    now(queue=queue)
    assert len(amqp.drain(queue, 2)) == 2  # nothing that was told "not sent" was sent


def test_what_was_written_before_the_broker_went_down_is_unknown(
    through: Proxy, amqp: Amqp
) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = through.cut_after_publish()
    through.refuse()
    assert isinstance(error_of(queue=queue), ConfirmTimeout)
    assert fault.hits == 1


def test_the_next_node_takes_over(rmq: Any, proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with Proxy.to(proxy.url) as first:
        rmq.RMQ_URL = [first.url, proxy.url]
        now(queue=queue)
        assert (first.connections_made, proxy.connections_made) == (1, 1)
        first.refuse()
        first.cut()
        now(queue=queue)
        assert status().node == f"127.0.0.1:{proxy.port}"
        connections.close()
        now(queue=queue)  # a new start: the closed one is tried first, within the same call
        assert status().node == f"127.0.0.1:{proxy.port}"
        assert first.connections_made == 1
        connections.close()
    assert len(amqp.drain(queue, 3)) == 3


def test_all_nodes_down(rmq: Any) -> None:
    ports = [closed_port(), closed_port()]
    rmq.RMQ_URL = [f"amqp://127.0.0.1:{port}" for port in ports]
    error = error_of(queue="q", timeout=PATIENCE)
    assert isinstance(error, BrokerUnavailable)
    assert str(ports[1]) in str(error)


# -- refused writing -------------------------------------------------------------------------------


@pytest.mark.disturbs
def test_a_forbidden_exchange_hurts_nobody_else(
    settings: Any, node: PrivateNode, node_proxy: Proxy, node_amqp: Amqp
) -> None:
    """Eight threads publish elsewhere meanwhile; the refusal is answered from memory."""
    queue = node_amqp.declare_queue("allowed")
    forbidden = node_amqp.declare_exchange("forbidden", "fanout")
    node_amqp.bind(queue, forbidden)
    node.add_user("writer", "secret", write="^amq\\.default$")
    settings.RMQ_URL = node_proxy.url.replace("guest:guest", "writer:secret")
    settings.RMQ_PUBLISH_TIMEOUT = PATIENCE
    now(queue=queue)
    stop = threading.Event()

    def work() -> list[str]:
        sent = []
        while not stop.is_set():
            sent.append(now(queue=queue))
        return sent

    calls = [Call(work) for _ in range(8)]
    errors = []
    for _ in range(20):
        assert node_proxy.wait_for_publishes(node_proxy.publishes + 10)
        errors.append(error_of(b"poison", exchange=forbidden))
    stop.set()
    sent = [message_id for call in calls for message_id in call.value()]
    assert {type(error) for error in errors} == {Rejected}
    assert {(error.reply_code, error.retryable) for error in errors} == {(403, False)}  # type: ignore[union-attr]
    # One refusal may cost several channels: the culprit is looked for among those in flight.
    assert 1 <= count(node_proxy, "broker Channel.Close") <= 9
    assert status().connects == 1
    received = message_ids(node_amqp.drain(queue, len(sent) + 1))
    assert set(sent) <= set(received)
    assert len(set(received)) == len(sent) + 1


# -- alarms ----------------------------------------------------------------------------------------


@pytest.mark.disturbs
def test_blocked_by_an_alarm(
    settings: Any, node: PrivateNode, on_node: Proxy, node_amqp: Amqp
) -> None:
    """A deadline first, then at once; nothing is sent twice, the connection stays."""
    settings.RMQ_HEARTBEAT, settings.RMQ_CONFIRM_TIMEOUT = 600, 0.5
    queue = node_amqp.declare_queue()
    now(b"before", queue=queue)
    node.block()
    first = calling(b"written", queue=queue, timeout=2)
    assert on_node.wait_for_event("broker Connection.Blocked")
    eventually(lambda: status().blocked)
    waiting = calling(b"not written", queue=queue, timeout=PATIENCE)
    assert isinstance(first.outcome(), ConfirmTimeout)
    assert "blocked: low on memory" in str(first.outcome())
    error = waiting.outcome(PATIENCE / 2)  # it ends with the first deadline, not with its own
    assert isinstance(error, BrokerUnavailable)
    with Took() as took:
        errors = [error_of(queue=queue) for _ in range(20)]
    assert took.seconds < AT_ONCE
    assert {type(error) for error in errors} == {BrokerUnavailable}
    assert "low on memory" in str(errors[0])
    node.unblock()
    eventually(lambda: not status().blocked)
    now(b"after", queue=queue)
    assert status().connects == 1
    assert on_node.publishes == 3
    received = [message.body for message in node_amqp.drain(queue, 3)]
    assert received == [b"before", b"written", b"after"]


@pytest.mark.disturbs
def test_an_alarm_that_ends_in_time_is_not_noticed(
    node: PrivateNode, on_node: Proxy, node_amqp: Amqp
) -> None:
    queue = node_amqp.declare_queue()
    now(queue=queue)
    node.block()
    calls = [calling(queue=queue)]
    eventually(lambda: status().blocked)
    calls += [calling(queue=queue) for _ in range(5)]
    eventually(lambda: status().waiting == 5)
    node.unblock()
    assert all(isinstance(call.value(), str) for call in calls)
    assert on_node.publishes == 7
    assert len(node_amqp.drain(queue, 7)) == 7


@pytest.mark.disturbs
def test_a_cancelled_publish_is_no_deadline_while_blocked(
    node: PrivateNode, on_node: Proxy, node_amqp: Amqp
) -> None:
    queue = node_amqp.declare_queue()
    now(queue=queue)
    node.block()
    calls = [calling(queue=queue)]
    eventually(lambda: status().blocked)
    calls.append(calling(queue=queue))
    eventually(lambda: status().waiting == 1)

    async def cancel_one() -> None:
        task = asyncio.create_task(apublish(b"cancelled", queue=queue))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_one())
    node.unblock()
    assert all(isinstance(call.value(), str) for call in calls)
    assert [message.body for message in node_amqp.drain(queue, 3)] == [b"x"] * 3


# -- a frozen broker, a killed one ---------------------------------------------------------------


@pytest.mark.disturbs
def test_a_frozen_broker(
    settings: Any, node: PrivateNode, on_node: Proxy, node_amqp: Amqp
) -> None:
    settings.RMQ_HEARTBEAT, settings.RMQ_CONFIRM_TIMEOUT = 600, 1.0
    settings.RMQ_CONNECT_TIMEOUT = 1.0
    queue = node_amqp.declare_queue()
    now(queue=queue)
    node.freeze()
    with Took() as took:
        call = calling(queue=queue)
        error = call.outcome()
    assert isinstance(error, ConfirmTimeout)  # it may still arrive
    assert took.seconds < PATIENCE
    assert on_node.connections_made >= 2
    assert "no answer in time" in str(error)
    with Took() as took:  # none of them waits for an attempt to connect, which takes a second
        assert all(isinstance(error_of(queue=queue), BrokerUnavailable) for _ in range(20))
    assert took.seconds < AT_ONCE
    node.thaw()
    eventually(lambda: status().state == "open")
    now(queue=queue)


@pytest.mark.disturbs
def test_a_killed_broker(settings: Any, node: PrivateNode, names: Names) -> None:
    """Confirmed is kept over kill -9; what was not is known; then it goes on by itself."""
    settings.RMQ_URL = node.url()
    queue = QueueConfig(names.queue())
    confirmed: list[str] = []
    failed: dict[str, Exception] = {}
    stop = threading.Event()

    def work(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            message_id = f"{thread}.{number}"
            error = error_of(queue=queue, message_id=message_id)
            if error is None:
                confirmed.append(message_id)
            else:
                failed[message_id] = error
                stop.wait(0.01)

    calls = [Call(lambda number=number: work(number)) for number in range(4)]
    eventually(lambda: len(confirmed) > 200)
    # A new queue's metadata is in memory only for a while: it would take its messages along.
    node.eval("catch mnesia:sync_log()")
    node.kill()
    eventually(lambda: failed)
    node.restart()
    before = len(confirmed)
    eventually(lambda: len(confirmed) > before + 200)
    stop.set()
    for call in calls:
        call.value()
    reader = Amqp(node.url())
    received = message_ids(reader.drain(queue.name, len(confirmed)))
    reader.close()
    assert set(confirmed) <= set(received)
    not_sent = {name for name, error in failed.items() if isinstance(error, BrokerUnavailable)}
    assert not_sent
    assert not not_sent & set(received)
    assert len(received) - len(set(received)) <= 64
