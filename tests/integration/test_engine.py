"""The engine on a real broker that is well: confirms, answers, topology, threads, closing."""

import asyncio
import gc
import os
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.test import override_settings

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ConfirmTimeout,
    ExchangeConfig,
    Message,
    Nacked,
    Producer,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.transport.rabbitmq import circuit_breakers
from rmq_publisher.transport.rabbitmq.event_loop import QUIET_TURNS
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
from tests.support.deliveries import Told
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.node import PrivateNode
from tests.support.rig.ports import SilentPort, closed_port
from tests.support.rig.proxy import Proxy


def closes(proxy: Proxy) -> int:
    """Channels that the broker closed."""
    return sum(event.what == "broker Channel.Close" for event in proxy.events)


# -- one message -----------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.usefixtures("rmq")
def test_a_confirmed_message_is_in_the_queue(amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    message_id = now(b'{"a": 1}', queue=queue, headers={"n": 1}, priority=3)
    [message] = amqp.drain(queue, 1)
    assert message.body == b'{"a": 1}'
    assert message.properties.message_id == message_id
    assert message.properties.delivery_mode == 2
    assert message.properties.headers == {"n": 1}
    assert status().state == "open"
    assert status().product.startswith("RabbitMQ")


@pytest.mark.smoke
@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 1_000_000])
@pytest.mark.usefixtures("rmq")
def test_bodies_around_the_size_of_a_frame(amqp: Amqp, size: int) -> None:
    queue = amqp.declare_queue()
    now(b"z" * size, queue=queue)
    [message] = amqp.drain(queue, 1)
    assert message.body == b"z" * size


@pytest.mark.smoke
def test_many_leave_as_one_pipeline(through: Proxy, amqp: Amqp) -> None:
    """More than a window of them, in order, and the broker answers several at once."""
    queue = amqp.declare_queue()
    bodies = [b"%d" % number for number in range(2000)]
    message_ids = publish_many(bodies, queue=queue, delivery="now")
    received = amqp.drain(queue, 2000)
    assert [message.body for message in received] == bodies
    assert [message.properties.message_id for message in received] == message_ids
    assert through.publishes == 2000
    assert 0 < through.acks < 2000  # a `multiple` one counts once


@pytest.mark.smoke
def test_sixteen_threads_share_one_connection(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    start = threading.Barrier(16)

    def work(number: int) -> list[str]:
        start.wait()
        return [now(b"%d" % number, queue=queue) for _ in range(50)]

    calls = [Call(lambda number=number: work(number)) for number in range(16)]
    sent = {message_id for call in calls for message_id in call.value()}
    assert {message.properties.message_id for message in amqp.drain(queue, 800)} == sent
    assert len(sent) == 800
    assert through.connections_made == 1
    assert status().connects == 1


@pytest.mark.parametrize("has_the_method", [True, False])
def test_without_our_own_stream_below_pika(
    through: Proxy, amqp: Amqp, has_the_method: bool
) -> None:
    """As with TLS; and a later pika may have renamed the one method that is not public."""
    queue = amqp.declare_queue()
    now(queue=queue)
    link = connections["default"]._thread.connection._connection  # type: ignore[attr-defined]
    link._services.wire = None
    if not has_the_method:
        link._channel._emit = None
    headers = {"n": 1, "t": "é", "none": None, "list": [True, b"\x00"]}
    publish_many([b"", b"1" * 200_000, "ü"], queue=queue, headers=headers, delivery="now")
    _, *received = amqp.drain(queue, 4)
    assert [message.body for message in received] == [b"", b"1" * 200_000, "ü".encode()]
    assert {message.properties.delivery_mode for message in received} == {2}
    assert received[0].properties.headers == headers
    assert isinstance(error_of(routing_key=amqp.names.unique()), Unroutable)


# -- the broker's answers --------------------------------------------------------------------------


def test_a_missing_queue_is_rejected_over_the_same_connection(through: Proxy, amqp: Amqp) -> None:
    queue, missing = amqp.declare_queue(), amqp.names.unique()
    now(queue=queue)
    for _ in range(3):
        error = error_of(queue=missing)
        assert isinstance(error, Rejected)
        assert (error.reply_code, error.retryable, error.routing_key) == (404, True, missing)
        assert missing in error.reply_text
    now(queue=queue)
    assert status().connects == 1
    assert through.connections_made == 1
    assert through.publishes == 2  # it was never written
    amqp.declare_queue(missing)
    now(queue=missing)  # that it was missing is not remembered


def test_unroutable_tells_code_and_key(through: Proxy, amqp: Amqp) -> None:
    exchange = amqp.declare_exchange()
    error = error_of(exchange=exchange, routing_key="nowhere", message_id="mine")
    assert isinstance(error, Unroutable)
    assert (error.reply_code, error.reply_text, error.retryable) == (312, "NO_ROUTE", True)
    assert (error.exchange, error.routing_key, error.message_id) == (exchange, "nowhere", "mine")
    assert through.returns == 1


def test_returns_among_acks_are_of_their_own_messages_only(through: Proxy, amqp: Amqp) -> None:
    exchange, queue = amqp.declare_exchange(), amqp.declare_queue()
    amqp.bind(queue, exchange, "known")
    keys = ["known" if number % 3 else "unknown" for number in range(300)]
    messages = [Message(key, routing_key=key) for key in keys]
    with pytest.raises(PublishManyError) as caught:
        publish_many(messages, exchange=exchange, delivery="now")
    outcomes = [type(error) if error else None for error in caught.value.outcomes]
    assert outcomes == [None if key == "known" else Unroutable for key in keys]
    assert through.returns == 100
    assert len(amqp.drain(queue, 200)) == 200


def test_a_full_queue_nacks(through: Proxy, amqp: Amqp) -> None:
    full, other = amqp.names.queue(), amqp.declare_queue()
    amqp.declare_queue(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    now(b"fits", queue=full)
    error = error_of(b"does not", queue=full)
    assert isinstance(error, Nacked)
    assert error.retryable
    assert through.nacks == 1
    now(queue=other)
    assert [message.body for message in amqp.drain(full, 1)] == [b"fits"]


def test_the_same_id_waits_until_the_first_is_resolved(through: Proxy, amqp: Amqp) -> None:
    """Else a return could not be told from the other's."""
    exchange, queue = amqp.declare_exchange(kind="topic"), amqp.declare_queue()
    amqp.bind(queue, exchange, "yes")
    now(b"first of all", exchange=exchange, routing_key="yes")
    held = through.stall("client")
    first = calling(b"1", exchange=exchange, routing_key="no", message_id="same")
    assert through.wait_for_publishes(2)
    second = calling(b"2", exchange=exchange, routing_key="yes", message_id="same")
    eventually(lambda: status().waiting == 1)
    assert through.publishes == 2
    held.disarm()
    assert isinstance(first.outcome(), Unroutable)
    assert second.value() == "same"
    assert through.publishes == 3
    assert [message.body for message in amqp.drain(queue, 2)] == [b"first of all", b"2"]


def test_a_mismatched_user_rejects_its_own_message_only(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    messages = [Message(b"%d" % n, user_id="somebody" if n == 25 else None) for n in range(50)]
    with pytest.raises(PublishManyError) as caught:
        publish_many(messages, queue=queue, delivery="now")
    errors = {n: error for n, error in enumerate(caught.value.outcomes) if error is not None}
    assert list(errors) == [25]
    assert isinstance(errors[25], Rejected)
    assert (errors[25].reply_code, errors[25].retryable) == (406, False)
    assert closes(through) >= 1
    assert status().connects == 1
    received = {message.body for message in amqp.drain(queue, 49)}
    assert received == {b"%d" % n for n in range(50) if n != 25}
    now(queue=queue)  # a mismatch says nothing of the destination


def test_an_exchange_deleted_behind_our_back(
    through: Proxy, amqp: Amqp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was verified on this connection; the broker closes the channel over the next message."""
    monkeypatch.setattr(circuit_breakers, "REFUSAL_SECONDS", PATIENCE)
    exchange, queue = amqp.declare_exchange(kind="fanout"), amqp.declare_queue()
    amqp.bind(queue, exchange)
    now(exchange=exchange)
    amqp.delete_exchange(exchange)
    error = error_of(exchange=exchange)
    assert isinstance(error, Rejected)
    assert (error.reply_code, error.retryable, error.exchange) == (404, True, exchange)
    assert closes(through) == 1
    now(queue=queue)
    published = through.publishes
    assert isinstance(error_of(exchange=exchange), Rejected)  # from memory
    assert (closes(through), through.publishes) == (1, published)
    assert status().connects == 1


def test_a_deleted_exchange_is_asked_for_again_after_a_while(
    through: Proxy, amqp: Amqp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breakers, "REFUSAL_SECONDS", 0.0)
    exchange, queue = amqp.declare_exchange(kind="fanout"), amqp.declare_queue()
    amqp.bind(queue, exchange)
    now(exchange=exchange)
    amqp.delete_exchange(exchange)
    assert isinstance(error_of(exchange=exchange), Rejected)
    config = ExchangeConfig(exchange, "fanout", durable=False)
    bound = QueueConfig(queue, bindings=[Binding(config)])
    now(exchange=config, declare=[bound])
    assert len(amqp.drain(queue, 2)) == 2


# -- topology --------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_declared_or_verified_once_per_connection(through: Proxy, amqp: Amqp) -> None:
    exchange, queue = ExchangeConfig(amqp.names.exchange()), amqp.names.queue()
    config = QueueConfig(queue, max_length=7, bindings=[Binding(exchange, "k")])
    for _ in range(3):
        now(queue=config, exchange=exchange, routing_key="k")
        now(queue=queue)
    declares = [event.what for event in through.events].count("client Queue.Declare")
    assert declares == 2  # one actively, one passively
    assert len(amqp.drain(queue, 6)) == 6
    with pytest.raises(Exception, match="inequivalent arg 'x-max-length'"):
        amqp.channel.queue_declare(queue, durable=True, arguments={"x-max-length": 8})


def test_a_mismatched_declaration_is_rejected_and_hurts_nobody(through: Proxy, amqp: Amqp) -> None:
    queue, other = amqp.declare_queue(), amqp.declare_queue()
    now(queue=other)
    error = error_of(queue=QueueConfig(queue, max_length=7))
    assert isinstance(error, Rejected)
    assert (error.reply_code, error.retryable) == (406, False)
    assert "x-max-length" in error.reply_text
    now(queue=other)
    now(queue=queue)
    assert status().connects == 1


@pytest.mark.usefixtures("through")
def test_many_topologies_at_once(amqp: Amqp) -> None:
    """More than there may be channels for them at a time."""
    queues = [amqp.names.queue() for _ in range(100)]
    calls = [calling(queue=QueueConfig(queue)) for queue in queues]
    assert all(isinstance(call.value(), str) for call in calls)
    assert [amqp.depth(queue) for queue in queues] == [1] * 100
    assert status().connects == 1


# -- threads, closing, settings --------------------------------------------------------------------


def test_close_drains_and_the_next_publish_opens_anew(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    through.delay_acks(0.3)
    calls = [calling(queue=queue) for _ in range(5)]
    assert through.wait_for_publishes(6)
    connections["default"].close()
    assert [call.outcome(AT_ONCE) for call in calls] == [call.value() for call in calls]
    assert status().state == "closed"
    assert through.wait_for_event("client Connection.Close")
    assert through.wait_for_open(0)
    through.disarm()
    now(queue=queue)
    assert through.connections_made == 2
    assert len(amqp.drain(queue, 7)) == 7


def test_close_gives_up_at_its_deadline(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    swallowed = through.swallow_acks()
    call = calling(queue=queue)
    assert swallowed.wait()
    with Took() as took:
        connections["default"].close(timeout=0.2)
    assert took.seconds < 5
    assert isinstance(call.outcome(AT_ONCE), ConfirmTimeout)


def test_a_publish_that_meets_a_close_is_sent_by_the_next_connection(
    through: Proxy, amqp: Amqp
) -> None:
    queue = amqp.declare_queue()
    stop = threading.Event()

    def work() -> int:
        sent = 0
        while not stop.is_set():
            now(queue=queue)
            sent += 1
        return sent

    calls = [Call(work) for _ in range(4)]
    for number in range(10):
        assert through.wait_for_publishes(through.publishes + 20)
        connections.close()
        assert through.wait_for_connections(number + 1)
    stop.set()
    sent = sum(call.value() for call in calls)
    assert len(amqp.drain(queue, sent)) == sent


def test_closing_takes_a_moment_only(through: Proxy, amqp: Amqp) -> None:
    """The goodbye leaves at once, not with the next event."""
    queue = amqp.declare_queue()
    seconds = 0.0
    for _ in range(20):
        now(queue=queue)
        with Took() as took:
            connections.close()
        seconds += took.seconds
    assert through.connections_made == 20
    assert seconds < 2


def test_what_comes_after_the_goodbye_is_not_written(through: Proxy, amqp: Amqp) -> None:
    """A caller that met the closing engine: it is told "not sent", and that is true."""
    queue = amqp.declare_queue()
    now(queue=queue)
    engine = connections["default"]._thread  # type: ignore[attr-defined]
    held = through.stall("client")
    closing = Call(connections.close)
    eventually(lambda: engine.connection.closing)
    late = Told("late", ("", queue))
    engine._inbox.append((late.message,))
    engine.wake()
    closing.value()
    held.disarm()
    assert isinstance(late.error, BrokerUnavailable)
    assert through.publishes == 1
    assert len(amqp.drain(queue, 1)) == 1


def test_closing_while_it_connects(through: Proxy, amqp: Amqp) -> None:
    """No socket is left behind, whatever it was about to do: a warning here is an error."""
    queue = amqp.declare_queue()
    for _ in range(30):
        call = calling(routing_key=queue, timeout=PATIENCE)
        connections["default"].close(0)
        assert isinstance(call.outcome(), str | BrokerUnavailable | ConfirmTimeout)
    connections.close()
    gc.collect()
    eventually(lambda: through.connections_open == 0)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [("x", TypeError), (True, TypeError), (-1, ValueError), (float("nan"), ValueError)],
)
@pytest.mark.usefixtures("rmq")
def test_closing_takes_seconds_or_does_nothing(
    amqp: Amqp, timeout: Any, error: type[Exception]
) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    with pytest.raises(error, match="timeout must be"):
        connections["default"].close(timeout)
    now(queue=queue)
    assert (status().state, status().connects) == ("open", 1)


@pytest.mark.usefixtures("rmq")
def test_closing_within_the_longest_time_there_is(amqp: Amqp) -> None:
    now(queue=amqp.declare_queue())
    connections["default"].close(threading.TIMEOUT_MAX)
    assert status().state == "closed"


@pytest.mark.usefixtures("rmq")
def test_a_thread_that_cannot_be_started_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.12 and later start none while the interpreter shuts down."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        error = error_of(routing_key="q")
        gc.collect()
    assert isinstance(error, BrokerUnavailable)
    assert "shutting down" in str(error)
    assert [item.message for item in told if item.category is ResourceWarning] == []


def test_what_comes_late_while_a_connection_is_let_go_is_closed_too(rmq: Any) -> None:
    """The look-up of a host's name may end in any turn of the loop; then a socket is made."""
    ended = threading.Event()

    def step(left: int) -> None:
        if left:
            engine._loop.add_callback(lambda: step(left - 1))
        else:
            ended.set()

    with SilentPort() as silent:
        rmq.RMQ_URL = f"amqp://127.0.0.1:{silent.port}"
        call = calling(routing_key="q")
        eventually(lambda: connections["default"]._thread is not None)  # type: ignore[attr-defined]
        engine = connections["default"]._thread  # type: ignore[attr-defined]
        turns, turn = iter(range(10_000)), engine._loop.turn

        def counted(*, wait: bool) -> None:
            if engine._stopped and next(turns) == QUIET_TURNS - 5:
                step(50)
            turn(wait=wait)

        engine._loop.turn = counted
        connections["default"].close(0)
        assert isinstance(call.outcome(), BrokerUnavailable)
        assert ended.is_set()


def test_closing_what_was_never_opened(rmq: Any) -> None:
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}"
    connections["default"].close()
    assert status().state == "closed"
    assert status().connects == 0


def test_a_callback_that_raises_ends_every_wait_and_the_next_publish_works(
    through: Proxy, amqp: Amqp, caplog: pytest.LogCaptureFixture
) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    held = through.stall("client")
    calls = [calling(queue=queue) for _ in range(10)]
    assert through.wait_for_publishes(11)
    engine = connections["default"]._thread
    assert engine is not None
    engine.dispatcher.answered = _raise  # type: ignore[method-assign]
    held.disarm()
    errors = [call.outcome(PATIENCE / 2) for call in calls]
    assert {type(error) for error in errors} == {ConfirmTimeout}
    assert "the I/O thread died of RuntimeError" in str(errors[0])
    assert "died of RuntimeError" in caplog.text
    assert "the canary" not in caplog.text
    now(queue=queue)
    assert connections["default"]._thread is not engine
    assert through.wait_for_open(1)
    eventually(lambda: not engine._thread.is_alive())


def _raise(*_: object, **__: object) -> None:
    raise RuntimeError("the canary")


def test_a_raising_answer_about_topology_ends_every_wait_too(
    through: Proxy, amqp: Amqp, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = amqp.declare_queue()
    now(routing_key=queue)
    engine = connections["default"]._thread
    assert engine is not None
    monkeypatch.setattr(engine.dispatcher, "verified", _raise)
    error = calling(queue=queue).outcome(PATIENCE / 2)
    assert isinstance(error, BrokerUnavailable)
    assert "the I/O thread died of RuntimeError" in str(error)
    now(queue=queue)
    assert through.connections_made == 2


def test_settings_move_the_connection_to_another_broker(
    rmq: Any, proxy: Proxy, amqp: Amqp
) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    before = connections["default"]
    with override_settings(RMQ_URL=proxy.url):
        now(queue=queue)
        assert proxy.connections_made == 1
        assert connections["default"] is not before
        assert before.status().state == "closed"
    now(queue=queue)
    assert proxy.wait_for_open(0)
    assert len(amqp.drain(queue, 3)) == 3


def test_settings_that_need_no_other_connection_keep_it(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    with override_settings(RMQ_PUBLISH_TIMEOUT=7.0, RMQ_APP_ID="other"):
        now(queue=queue)
    assert through.connections_made == 1
    assert [message.properties.app_id for message in amqp.drain(queue, 2)] == [None, "other"]


def test_several_connections(rmq: Any, proxy: Proxy, amqp: Amqp) -> None:
    rmq.RMQ_CONNECTIONS = {"events": {"URL": proxy.url}}
    queue = amqp.declare_queue()
    publish(b"1", queue=queue, using="default", delivery="now")
    Producer(queue=queue, using="events").publish(b"2")
    assert list(connections) == ["default", "events"]
    assert proxy.publishes == 1
    assert len(amqp.drain(queue, 2)) == 2


# -- asyncio ---------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_hundred_at_once_on_one_event_loop(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()

    async def main() -> list[str]:
        return await asyncio.gather(*(apublish(b"%d" % n, queue=queue) for n in range(100)))

    message_ids = asyncio.run(main())
    received = amqp.drain(queue, 100)
    assert {message.properties.message_id for message in received} == set(message_ids)
    assert through.connections_made == 1


def test_an_awaited_publish_raises_its_outcome(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()

    async def main() -> Any:
        return await asyncio.gather(
            apublish(b"1", queue=queue),
            apublish(b"2", routing_key=amqp.names.unique()),
            apublish(b"3", queue=amqp.names.unique()),
            return_exceptions=True,
        )

    good, unroutable, rejected = asyncio.run(main())
    assert isinstance(good, str)
    assert isinstance(unroutable, Unroutable)
    assert isinstance(rejected, Rejected)
    assert through.connections_made == 1


def test_an_awaited_publish_times_out(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    swallowed = through.swallow_acks()
    with pytest.raises(ConfirmTimeout), Took() as took:
        asyncio.run(apublish(b"1", queue=queue, timeout=0.2))
    assert swallowed.hits == 1
    assert took.seconds < 5
    now(queue=queue)


def test_a_cancelled_publish_gives_its_place_back(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    held = through.stall("client")

    async def main() -> None:
        task = asyncio.create_task(apublish(b"1", queue=queue))
        await asyncio.to_thread(through.wait_for_publishes, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    engine = connections["default"]._thread
    assert engine is not None
    eventually(lambda: engine.dispatcher._confirms.in_flight == 0)
    held.disarm()
    now(queue=queue)
    assert through.connections_made == 1


def test_an_event_loop_that_is_closed_meanwhile_hurts_nobody(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    now(queue=queue)
    held = through.stall("client")
    loop = asyncio.new_event_loop()
    task = loop.create_task(apublish(b"1", queue=queue))
    loop.run_until_complete(asyncio.sleep(0))
    assert through.wait_for_publishes(2)
    loop.close()
    held.disarm()
    now(queue=queue)
    assert through.connections_made == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()  # type: ignore[union-attr]


@pytest.mark.usefixtures("rmq")
@pytest.mark.parametrize("call", [now, Producer(queue="q").publish, lambda b: publish_many([b])])
def test_in_a_running_event_loop_a_blocking_publish_is_refused(call: Any) -> None:
    async def main() -> None:
        call(b"x")

    with pytest.raises(SynchronousOnlyOperation, match="apublish"):
        asyncio.run(main())


# -- the broker's view -----------------------------------------------------------------------------


@pytest.mark.disturbs
def test_the_connection_says_who_it_is(rmq: Any, node: PrivateNode) -> None:
    rmq.RMQ_URL = node.url()
    with pytest.raises(Unroutable):
        now(routing_key="nowhere")
    program = Path(sys.argv[0]).name
    expected = f"{socket.gethostname()} {program}[{os.getpid()}] default"
    assert expected in [client.name for client in node.list_connections()]


@pytest.mark.disturbs
def test_smaller_negotiated_limits_are_kept(rmq: Any, node: PrivateNode, names: Names) -> None:
    """A small frame and few channels, as some providers set them."""
    node.eval(
        "application:set_env(rabbit, frame_max, 8192), application:set_env(rabbit, channel_max, 4)"
    )
    try:
        rmq.RMQ_URL = node.url()
        queues = [QueueConfig(names.queue()) for _ in range(12)]
        calls = [calling(b"y" * 50_000, queue=queue) for queue in queues]
        assert all(isinstance(call.value(), str) for call in calls)
        error = error_of(queue=queues[0], headers={"h": "x" * 9000})
        assert isinstance(error, Rejected)
        assert (error.reply_code, error.retryable) == (501, False)
        now(queue=queues[0])
        assert status().connects == 1
        assert [node.queue_depth(queue.name) for queue in queues] == [2] + [1] * 11
    finally:
        connections.close()
        node.eval(
            "application:set_env(rabbit, frame_max, 131072),"
            "application:set_env(rabbit, channel_max, 2047)"
        )
