"""The memory broker where a real one has no part: its consumers, its clock, threads and forks."""

import gzip
import os
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    QueueConfig,
    Rejected,
    Unroutable,
    conf,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.composing import compose
from rmq_publisher.fields import basic_properties
from rmq_publisher.message import Envelope
from rmq_publisher.topology import QueueName
from rmq_publisher.transport.amqp import AmqpTransport
from rmq_publisher.transport.base import Delivery
from rmq_publisher.transport.content import Content, read_properties
from rmq_publisher.transport.memory import MemoryTransport, broker_of
from rmq_publisher.transport.memorybroker import MemoryBroker
from tests.configured import configurer

Q = QueueConfig("q")


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    configure = configurer(settings)
    configure(URL="memory://")
    for alias in ("default", "other"):
        broker_of(alias).reset()
    return configure


@pytest.fixture
def broker(configure: Callable[..., None]) -> MemoryBroker:
    """That of the alias ``default``, empty."""
    return broker_of("default")


def send(body: Any = b"x", **options: Any) -> str:
    return publish(body, delivery="now", **options)


def envelope(body: bytes = b"x", key: str = "q", **options: Any) -> Envelope:
    return compose(conf.connection("default"), body, routing_key=key, **options)


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
    send(exchange=exchange, queue=queue)
    broker.delete_exchange("x")
    with pytest.raises(Rejected, match="404"):
        send(exchange=exchange, queue=queue)
    send(exchange=exchange, queue=queue)
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


def test_waiting_for_what_expires_elsewhere(broker: MemoryBroker) -> None:
    broker.declare(
        Q,
        QueueConfig("wait", message_ttl=0.1, dead_letter_exchange="", dead_letter_routing_key="q"),
    )
    send(queue="wait")
    assert broker.get("q", timeout=5) is not None


def test_waiting_ends_where_the_queue_does(broker: MemoryBroker) -> None:
    broker.declare(Q)
    timer = threading.Timer(0.1, broker.reset)
    timer.start()
    with pytest.raises(Rejected, match="404"):
        broker.get("q", timeout=5)
    timer.join()


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


# -- time -----------------------------------------------------------------------------------------


def test_the_clock_can_be_set_forward(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig(
            "wait", message_ttl=3600, dead_letter_exchange="", dead_letter_routing_key="work"
        ),
        QueueConfig("work", message_ttl=60),
    )
    send(queue="wait")
    broker.advance(3599)
    assert broker.depths() == {"wait": 1, "work": 0}
    broker.advance(2)
    assert broker.depths() == {"wait": 0, "work": 1}
    broker.advance(60)
    assert broker.depths() == {"wait": 0, "work": 0}
    broker.reset()
    broker.declare(QueueConfig("q", message_ttl=60))
    send(queue="q")
    assert broker.depth("q") == 1


def test_what_expires_at_once_does_where_time_stands_still(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.declare(Q)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    send(queue="q", properties=BasicProperties(expiration="0"))
    assert broker.depth("q") == 0


def test_what_is_late_happens_in_its_order_and_time(broker: MemoryBroker) -> None:
    def waits(seconds: float, key: str) -> dict[str, Any]:
        return {
            "message_ttl": seconds,
            "dead_letter_exchange": "",
            "dead_letter_routing_key": key,
        }

    broker.declare(
        QueueConfig("end", max_length=1),
        QueueConfig("slow", **waits(100, "end")),
        QueueConfig("first", **waits(10, "second")),
        QueueConfig("second", **waits(20, "end")),
    )
    send(b"quick", queue="first")
    send(b"slow", queue="slow")
    now = time.time()
    broker.advance(1000)
    [message] = broker.drain("end")
    assert message.body == b"slow"  # it came last, and pushed the other one out
    send(b"quick", queue="first")
    broker.advance(1000)
    [message] = broker.drain("end")
    latest, earlier = message.headers["x-death"]
    assert (latest["queue"], earlier["queue"]) == ("second", "first")
    assert (latest["time"] - earlier["time"]).total_seconds() == pytest.approx(20, abs=1)
    assert earlier["time"].timestamp() - now == pytest.approx(1010, abs=5)


def test_what_stood_behind_another_dies_when_it_comes_to_the_head(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead", message_ttl=60),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    send(b"long", queue="q", expiration=1000)
    send(b"short", queue="q", expiration=1)
    broker.advance(500)
    assert broker.depths() == {"dead": 0, "q": 2}
    message = broker.get("q")
    assert message is not None
    assert message.body == b"long"
    assert broker.depths() == {"dead": 1, "q": 0}  # with a minute from now, not from its death
    broker.advance(59)
    assert broker.depth("dead") == 1
    broker.advance(2)
    assert broker.depth("dead") == 0


def test_the_last_death_is_told_as_well(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("middle", dead_letter_exchange="", dead_letter_routing_key="dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="middle"),
    )
    send(queue="q", expiration=1)
    broker.advance(2)
    message = broker.get("middle")
    assert message is not None
    message.reject()
    [message] = broker.drain("dead")
    headers = message.headers
    for which, queue, reason in (("first", "q", "expired"), ("last", "middle", "rejected")):
        assert headers[f"x-{which}-death-queue"] == queue
        assert headers[f"x-{which}-death-reason"] == reason
        assert headers[f"x-{which}-death-exchange"] == ""


def test_dead_letters_keep_the_types_of_headers(broker: MemoryBroker) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    headers = {
        "float": 1.5, "decimal": Decimal("1.50"), "when": datetime(2024, 1, 1, tzinfo=UTC),
        "bytes": b"\xff", "big": 2**40, "none": None, "yes": True, "list": [1.25], "CC": ["x"],
    }  # fmt: skip
    send(queue="q", headers=headers)
    message = broker.get("q")
    assert message is not None
    message.reject()
    [message] = broker.drain("dead")
    kept = {name: message.headers[name] for name in headers}
    assert kept == headers
    assert [type(value) for value in kept.values()] == [type(value) for value in headers.values()]


@pytest.mark.parametrize("forged", ["text", ["text"], [{"queue": 1}], [{}]])
def test_what_a_publisher_writes_into_x_death_does_no_harm(
    broker: MemoryBroker, forged: Any
) -> None:
    broker.declare(
        QueueConfig("dead"),
        QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead"),
    )
    send(queue="q", headers={"x-death": forged}, expiration=1)
    broker.advance(2)
    [message] = broker.drain("dead")
    assert message.headers["x-death"][0]["queue"] == "q"


def test_quorum_queues_give_up_after_twenty(broker: MemoryBroker) -> None:
    send(queue=QueueConfig("q", queue_type="quorum"))
    for attempts in range(21):
        message = broker.get("q")
        assert message is not None
        assert message.headers == ({"x-delivery-count": attempts} if attempts else {})
        message.reject(requeue=True)
    assert broker.get("q") is None


def test_streams_cannot_be_got_from(broker: MemoryBroker) -> None:
    send(queue=QueueConfig("s", queue_type="stream"))
    with pytest.raises(Rejected, match=r"540 NOT_IMPLEMENTED - basic\.get not supported"):
        broker.get("s")
    assert broker.depth("s") == 1


# -- threads and forks ----------------------------------------------------------------------------


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

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.decimals(-1000, 1000, places=3),
)
KEYS = st.text(max_size=20)
FIELDS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)
SHORT = st.text(max_size=40)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.dictionaries(KEYS, FIELDS, max_size=5),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "timestamp": st.integers(0, 2**62),
        **dict.fromkeys(
            ("content_type", "content_encoding", "correlation_id", "reply_to", "expiration",
             "message_id", "type", "user_id", "app_id", "cluster_id"),
            SHORT,
        ),
    },
)  # fmt: skip


@given(PROPERTIES)
def test_what_is_written_is_read(values: dict[str, Any]) -> None:
    read = read_properties(basic_properties(values))
    assert read == values
    assert repr(read).replace("-0.0", "0.0") == repr({name: read[name] for name in read}).replace(
        "-0.0", "0.0"
    )
    assert basic_properties(read) == basic_properties(values)


def test_content_without_anything() -> None:
    content = Content("", "k", basic_properties({}), b"\xff")
    assert (content.headers, content.message_id) == ({}, "")
    with pytest.raises(ValueError, match="utf-8"):
        content.text()
    with pytest.raises(ValueError, match="utf-8"):
        content.json()


def test_passive_declarations_change_nothing(broker: MemoryBroker) -> None:
    with pytest.raises(Rejected):
        broker.declare(QueueName("q"))
    assert broker.depths() == {}
