"""The memory broker where a real one has no part: its consumers, its clock, threads and forks."""

import gc
import gzip
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ExchangeConfig,
    QueueConfig,
    Rejected,
    Unroutable,
    connections,
    publish_many,
)
from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.conf import loader
from rmq_publisher.messages.compose import compose
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.message_flow import Core, Routed
from rmq_publisher.transport.memory.received import Received
from rmq_publisher.transport.memory.transport import MemoryTransport, broker_of
from rmq_publisher.transport.outcome import Delivery
from rmq_publisher.transport.rabbitmq.transport import AmqpTransport
from tests.support.memory import memory_settings, send

Q = QueueConfig("q")


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    return memory_settings(settings)


@pytest.fixture
def broker(configure: Callable[..., None]) -> MemoryBroker:
    """That of the alias ``default``, empty."""
    return broker_of("default")


def envelope(body: bytes = b"x", key: str = "q", **options: Any) -> Envelope:
    return compose(loader.connection("default"), body, routing_key=key, **options)


# -- brokers and connections ----------------------------------------------------------------------


def test_each_alias_has_a_broker_of_its_own(configure: Callable[..., None]) -> None:
    configure(URL="memory://", CONNECTIONS={"other": {}})
    send(queue=Q, using="default")
    with pytest.raises(Rejected, match="404"):
        send(queue="q", using="other")
    assert broker_of("default").depths() == {"q": 1}
    assert broker_of("other").depths() == {}
    assert broker_of("default") is broker_of("default")


def test_the_broker_outlives_connections(broker: MemoryBroker) -> None:
    send(queue=Q)
    connections.close()
    send(queue="q")
    assert len(broker.drain("q")) == 2


def test_another_url_gets_another_transport(configure: Callable[..., None]) -> None:
    first = connections["default"]
    assert isinstance(first, MemoryTransport)
    configure(URL="memory://", PUBLISH_TIMEOUT=1)
    assert connections["default"] is first
    configure(URL="amqp://localhost:1")
    assert isinstance(connections["default"], AmqpTransport)
    configure(URL="memory://")
    assert isinstance(connections["default"], MemoryTransport)


def test_status(broker: MemoryBroker) -> None:
    status = connections["default"].status()
    assert (status.state, status.product, status.node, status.vhost) == (
        "closed",
        "memory",
        "memory://",
        "/",
    )
    send(queue=Q)
    assert connections["default"].status().state == "open"


def test_reset_forgets_what_was_verified(broker: MemoryBroker) -> None:
    send(queue=Q)
    broker.reset()
    assert broker.depths() == {}
    send(queue=Q)
    assert broker.depths() == {"q": 1}


def test_what_was_refused_is_verified_anew(broker: MemoryBroker) -> None:
    exchange = ExchangeConfig("x", "fanout")
    queue = QueueConfig("q", bindings=[Binding(exchange)])
    broker.declare(queue)
    send(exchange="x", queue="q")
    broker.delete_exchange("x")
    with pytest.raises(Rejected, match="404"):
        send(exchange="x", queue="q")
    broker.declare(queue)
    send(exchange="x", queue="q")
    assert broker.depth("q") == 2


def test_the_user_of_the_settings_counts(configure: Callable[..., None]) -> None:
    configure(URL="memory://", USERNAME="shop", PASSWORD="secret")
    send(queue=Q, user_id="shop")
    with pytest.raises(Rejected, match="authenticated user was 'shop'"):
        send(queue=Q, user_id="guest")


def test_exchange_types_of_plugins_are_refused(broker: MemoryBroker) -> None:
    with pytest.raises(Rejected, match="406 PRECONDITION_FAILED - unknown exchange type"):
        broker.declare(ExchangeConfig("x", "x-delayed-message"))


# -- what callers see of it -----------------------------------------------------------------------


def test_every_outcome_is_there_when_submit_returns(broker: MemoryBroker) -> None:
    broker.declare(Q)
    deliveries = [Delivery(envelope(), lambda: None), Delivery(envelope(key="no"), lambda: None)]
    connections["default"].submit(deliveries)
    assert all(delivery.done for delivery in deliveries)
    assert deliveries[0].error is None
    assert isinstance(deliveries[1].error, Unroutable)


def test_what_its_caller_gave_up_is_not_sent(broker: MemoryBroker) -> None:
    broker.declare(Q)
    delivery = Delivery(envelope(), lambda: None)
    delivery.fail("too late")
    connections["default"].submit([delivery])
    assert broker.depth("q") == 0


def test_a_callback_may_publish(broker: MemoryBroker) -> None:
    broker.declare(Q)
    outcomes: list[str] = []
    delivery = Delivery(envelope(), lambda: outcomes.append(send(b"again", queue="q")))
    connections["default"].submit([delivery])
    assert len(outcomes) == 1
    assert [message.body for message in broker.drain("q")] == [b"x", b"again"]


def test_errors_keep_no_frame_that_holds_the_message(broker: MemoryBroker) -> None:
    delivery = Delivery(envelope(), lambda: None)
    connections["default"].submit([delivery])
    assert isinstance(delivery.error, Unroutable)
    assert delivery.error.__traceback__ is None
    assert delivery.error.__context__ is None


def test_nothing_shows_a_body_or_a_headers_value(broker: MemoryBroker) -> None:
    broker.declare(QueueConfig("q", max_length=0, overflow="reject-publish"), QueueConfig("r"))
    send("SECRET", routing_key="r", headers={"h": "SECRET"})
    message = broker.get("r")
    texts = [repr(message), repr(broker), repr(connections["default"])]
    for options in ({"routing_key": "q"}, {"routing_key": "no"}, {"exchange": "no"}):
        with pytest.raises(Exception, match=r"refused|returned|rejected") as caught:
            send("SECRET", headers={"h": "SECRET"}, **options)
        texts += [str(caught.value), repr(caught.value)]
    assert "SECRET" not in "".join(texts)
    assert "6 bytes" in repr(message)


# -- consumers ------------------------------------------------------------------------------------


def test_getting_from_nothing(broker: MemoryBroker) -> None:
    broker.declare(Q)
    assert broker.get("q") is None
    assert broker.drain("q") == []
    for look in (broker.get, broker.drain, broker.depth):
        with pytest.raises(Rejected, match="404 NOT_FOUND - no queue 'none' in vhost '/'"):
            look("none")


def test_a_message_is_settled_once(broker: MemoryBroker) -> None:
    send(queue=Q)
    message = broker.get("q")
    assert message is not None
    message.ack()
    for again in (message.ack, message.reject):
        with pytest.raises(Rejected, match=r"406 PRECONDITION_FAILED - unknown delivery tag$"):
            again()


def test_settling_after_the_queue_is_gone(broker: MemoryBroker) -> None:
    queue = QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    broker.declare(QueueConfig("dead"))
    for verdict in ({}, {"requeue": True}):
        send(queue=queue)
        message = broker.get("q")
        assert message is not None
        broker.delete_queue("q")
        broker.declare(queue)
        message.reject(**verdict)
        assert broker.depths() == {"dead": 0, "q": 0}


def test_what_a_consumer_reads(broker: MemoryBroker) -> None:
    message_id = send({"total": "12.50"}, serializer="json", queue=Q, headers={"rate": 1.5})
    [message] = broker.drain("q")
    assert message.json() == {"total": "12.50"}
    assert message.text() == '{"total":"12.50"}'
    assert (message.message_id, message.queue, message.redelivered) == (message_id, "q", False)
    assert message.headers == {"rate": 1.5}
    assert message.properties.content_type == "application/json"


@pytest.mark.parametrize("serializer", ["json+gzip", "json+zlib"])
def test_compressed_bodies_are_read(broker: MemoryBroker, serializer: str) -> None:
    send({"a": 1}, serializer=serializer, queue=Q)
    [message] = broker.drain("q")
    assert message.json() == {"a": 1}
    decompress = gzip.decompress if serializer == "json+gzip" else zlib.decompress
    assert decompress(message.body) == b'{"a":1}'


def test_waiting_for_a_message(broker: MemoryBroker) -> None:
    broker.declare(Q)
    timer = threading.Timer(0.1, lambda: send(b"late", queue="q"))
    timer.start()
    began = time.monotonic()
    message = broker.get("q", timeout=20)
    timer.join()
    assert message is not None
    assert message.body == b"late"
    assert time.monotonic() - began < 10
    began = time.monotonic()
    assert broker.get("q", timeout=0.1) is None
    assert 0.1 <= time.monotonic() - began < 2


WAKES: dict[str, Callable[[MemoryBroker, Received], object]] = {
    "publish": lambda broker, held: send(queue="q"),
    "requeue": lambda broker, held: held.reject(requeue=True),
    "expiry": lambda broker, held: send(queue="soon"),
    "clock": lambda broker, held: broker.advance(3600),
    "delete": lambda broker, held: broker.delete_queue("q"),
    "reset": lambda broker, held: broker.reset(),
}


@pytest.mark.parametrize("what", WAKES)
def test_who_waits_is_woken(broker: MemoryBroker, what: str) -> None:
    dead: dict[str, Any] = {"dead_letter_exchange": "", "dead_letter_routing_key": "q"}
    broker.declare(
        Q,
        QueueConfig("soon", message_ttl=0.1, **dead),
        QueueConfig("later", message_ttl=3600, **dead),
    )
    send(queue="q")
    held = broker.get("q")
    assert held is not None
    send(queue="later")
    ended: list[object] = []

    def consume() -> None:
        try:
            ended.append(broker.get("q", timeout=1800))
        except Rejected as error:
            ended.append(error)

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    deadline = time.monotonic() + 30
    while not broker._waiting and time.monotonic() < deadline:
        time.sleep(0.001)
    WAKES[what](broker, held)
    consumer.join(30)
    [got] = ended
    assert isinstance(got, Rejected if what in ("delete", "reset") else Received)
    assert not broker._waiting


def test_before_a_consumer_looks(broker: MemoryBroker) -> None:
    looks: list[int] = []
    broker = MemoryBroker(before_look=lambda: looks.append(1))
    broker.declare(Q)
    assert looks == []
    broker.get("q")
    broker.depth("q")
    broker.depths()
    broker.advance(1)
    assert len(looks) == 4


# -- interruptions, threads and forks -------------------------------------------------------------


def interrupt_once(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], object]
) -> None:
    """Have something happen in the midst of the next publish."""
    inside = Core.publish

    def interrupted(core: Core, *args: Any) -> Routed:
        monkeypatch.undo()
        interrupt()
        return inside(core, *args)

    monkeypatch.setattr(Core, "publish", interrupted)


def test_a_destructor_that_publishes(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[BrokerUnavailable] = []

    class Publishes:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            for work in (lambda: send(b"never", queue=Q, message_id="m"), broker.depths):
                with pytest.raises(BrokerUnavailable, match="interrupted") as caught:
                    work()
                errors.append(caught.value)

    broker.declare(Q)
    gc.collect()  # so that no automatic collection finds it before ours
    Publishes()
    interrupt_once(broker, monkeypatch, gc.collect)
    send(b"outer", queue="q")
    send(b"later", queue="q")
    assert [(error.message_id, error.routing_key) for error in errors] == [("m", "q"), ("", "")]
    assert "message m" in str(errors[0])
    assert [message.body for message in broker.drain("q")] == [b"outer", b"later"]


def test_a_signals_handler_that_publishes(broker: MemoryBroker) -> None:
    """As often as it can; each ends, and those that were confirmed are there."""
    broker.declare(Q)
    confirmed: list[str] = []
    refused: list[BrokerUnavailable] = []

    def handler(*_: object) -> None:
        try:
            confirmed.append(send(queue="q"))
        except BrokerUnavailable as error:
            refused.append(error)

    before = signal.signal(signal.SIGUSR1, handler)
    stop = threading.Event()

    def strike() -> None:
        while not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            stop.wait(0.0005)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        deadline = time.monotonic() + 30
        while not (confirmed and refused) and time.monotonic() < deadline:
            confirmed += publish_many([b"x"] * 20, queue="q", delivery="now")
    finally:
        stop.set()
        striker.join()
        signal.signal(signal.SIGUSR1, before)
    assert refused, "no signal came in the midst of a publish"
    assert sorted(message.message_id for message in broker.drain("q")) == sorted(confirmed)


def test_the_broker_of_another_alias_is_not_interrupted(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.declare(Q)
    broker_of("other").declare(Q)
    interrupt_once(
        broker, monkeypatch, lambda: broker_of("other").publish(envelope(b"inner"), "guest")
    )
    send(queue="q")
    assert (broker.depth("q"), broker_of("other").depth("q")) == (1, 1)


def test_a_thread_that_does_not_let_go(
    configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destructor in another thread may wait for this one."""
    configure(URL="memory://", PUBLISH_TIMEOUT=0.2)
    broker = broker_of("default")
    broker.declare(Q)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(60)

    interrupt_once(broker, monkeypatch, hold)
    holder = threading.Thread(target=send, kwargs={"queue": "q"})
    holder.start()
    try:
        assert held.wait(30)
        for options in ({"queue": "q"}, {"queue": QueueConfig("new")}):
            with pytest.raises(BrokerUnavailable, match=r"was busy for 0\.2 s \(.*message m\)"):
                send(message_id="m", **options)
        with pytest.raises(BrokerUnavailable, match=r"busy for 0\.1 s"):
            connections["default"].declare((Q,), 0.1)
    finally:
        go.set()
        holder.join()
    send(queue="q")
    assert broker.depths() == {"q": 2}


def test_many_threads(broker: MemoryBroker) -> None:
    broker.declare(Q)
    taken: list[bytes] = []

    def consume() -> None:
        while (message := broker.get("q", timeout=2)) is not None and message.body != b"end":
            taken.append(message.body)
            message.ack()

    def produce(name: int) -> None:
        publish_many([b"%d-%d" % (name, n) for n in range(200)], queue="q", delivery="now")

    consumers = [threading.Thread(target=consume) for _ in range(4)]
    producers = [threading.Thread(target=produce, args=(name,)) for name in range(4)]
    for thread in (*consumers, *producers):
        thread.start()
    for thread in producers:
        thread.join()
    publish_many([b"end"] * 4, queue="q", delivery="now")
    for thread in consumers:
        thread.join()
    assert sorted(taken) == sorted(b"%d-%d" % (name, n) for name in range(4) for n in range(200))
    assert broker.depth("q") == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_brokers_of_its_own(broker: MemoryBroker) -> None:
    send(queue=Q)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            broker.depths()

    # Without care a fork finds the lock taken, by a thread that the child does not have.
    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    send(queue=Q)
                    status = 0 if broker.depth("q") == 2 else 2
                finally:
                    os._exit(status)
            deadline = time.monotonic() + 10
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    pytest.fail("the child hangs")
                time.sleep(0.01)
            assert os.waitstatus_to_exitcode(ended[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert broker.depth("q") == 1


# -- reading what is on the wire ------------------------------------------------------------------


def test_passive_declarations_change_nothing(broker: MemoryBroker) -> None:
    with pytest.raises(Rejected):
        broker.declare(QueueName("q"))
    assert broker.depths() == {}
