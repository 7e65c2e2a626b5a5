"""How brokers are: answered at once, looked up in the background, disturbing nobody."""

import os
import threading
from collections.abc import Iterator

import pytest

from rmq_publisher import connections
from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.conf import loader
from rmq_publisher.monitoring import broker_status
from rmq_publisher.monitoring.broker_status import BrokerStatus, QueueDepth
from rmq_publisher.testing import capture
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.memory import transport
from rmq_publisher.transport.rabbitmq.transport import AmqpTransport
from tests.support.calls import AT_ONCE, PATIENCE, Took, calling, eventually, now, status
from tests.support.configured import configurer
from tests.support.rig.ports import SilentPort, closed_port


@pytest.fixture
def looks(monkeypatch) -> Iterator[broker_status.StatusProber]:
    """Looks that know nothing yet; none outlives its test."""
    fresh = broker_status.StatusProber()
    monkeypatch.setattr(broker_status, "_prober", fresh)
    yield fresh
    fresh.join(PATIENCE)


@pytest.fixture
def configure(settings, looks):
    settings.INSTALLED_APPS = ["rmq_publisher"]  # without the topology of the example
    yield configurer(settings)
    looks.join(PATIENCE)
    connections.close()


def seen(alias: str = "default") -> BrokerStatus:
    """What is known once the looks have ended."""
    broker_status.statuses()
    broker_status.join(PATIENCE)
    return next(status for status in broker_status.statuses() if status.alias == alias)


def looking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "looks at" in thread.name]


# -- a broker that is there ---------------------------------------------------------------------------


def test_before_the_first_look_has_ended(configure, broker):
    configure(URL=broker.url)
    [first] = broker_status.statuses()
    assert first == BrokerStatus("default", host=f"{broker.host}:{broker.port}", vhost="/")
    assert first.state == "unknown"


def test_up_with_the_depths_of_declared_queues(configure, broker, amqp, names):
    queue, missing = names.queue(), names.queue()
    amqp.declare_queue(queue)
    for _ in range(3):
        amqp.publish(b"x", queue)
    amqp.wait_for_depth(queue, 3)
    configure(URL=broker.url, QUEUES=[QueueConfig(missing), QueueConfig(queue)])
    found = seen()
    assert (found.state, found.error, found.vhost) == ("up", "", "/")
    assert found.product.startswith("RabbitMQ ")
    assert found.host == f"{broker.host}:{broker.port}"
    assert found.connect_ms > 0
    refused, there = found.queues
    assert there == QueueDepth(queue, 3, 0)
    assert (refused.name, refused.messages, refused.consumers) == (missing, None, None)
    assert refused.error.startswith("404 ")


def test_each_alias_has_its_own(configure, broker):
    configure(
        CONNECTIONS={
            "default": {"URL": broker.url},
            "away": {"URL": f"amqp://127.0.0.1:{closed_port()}"},
            "here": {"URL": "memory://"},
        }
    )
    assert (seen().state, seen("away").state, seen("here").state) == ("up", "down", "up")


def test_a_look_leaves_no_connection_and_no_thread(configure, proxy):
    configure(URL=proxy.url)
    threads = threading.active_count()
    assert seen().state == "up"
    assert proxy.wait_for_open(0)
    assert proxy.connections_made == 1
    assert status().state == "closed"  # the one that this process would publish by
    eventually(lambda: threading.active_count() == threads)


def test_a_look_does_not_disturb_the_connection_that_is_published_by(
    configure, proxy, amqp, names
):
    queue = names.queue()
    amqp.declare_queue(queue)
    configure(URL=proxy.url, QUEUES=[QueueConfig(names.queue())])  # a 404 at each look
    now(queue=queue)
    before = status()
    assert seen().state == "up"
    now(queue=queue)
    assert status() == before
    amqp.wait_for_depth(queue, 2)


# -- how often ---------------------------------------------------------------------------------------


def test_one_look_in_ten_seconds(configure, proxy, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(broker_status, "monotonic", lambda: clock[0])
    configure(URL=proxy.url)
    for _ in range(5):
        assert seen().state == "up"
    assert proxy.connections_made == 1
    clock[0] += broker_status.EVERY_SECONDS - 0.1
    assert seen().age == pytest.approx(9.9)
    assert proxy.connections_made == 1
    clock[0] += 0.1
    assert broker_status.statuses()[0].age == pytest.approx(10.0)  # what is known, meanwhile
    assert seen().age == 0.0
    assert proxy.connections_made == 2


def test_what_was_seen_long_ago_says_nothing_of_now(configure, broker, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(broker_status, "monotonic", lambda: clock[0])
    configure(URL=broker.url)
    assert seen().state == "up"
    clock[0] += 600.1
    [old] = broker_status.statuses()
    assert (old.state, old.age) == ("unknown", pytest.approx(600.1))
    assert seen().state == "up"


def test_of_many_processes_that_are_asked_in_turn_each_tells_what_it_knows(configure, monkeypatch):
    """Of one in a dozen, asked every five seconds: it looks each time, and tells of the time before."""
    clock = [1000.0]
    monkeypatch.setattr(broker_status, "monotonic", lambda: clock[0])
    configure(URL=f"amqp://127.0.0.1:{closed_port()}")
    assert seen().state == "down"
    for _ in range(3):
        for seconds in (60.0, 599.0):
            clock[0] += seconds
            [old] = broker_status.statuses()
            assert (old.state, old.age) == ("down", seconds)
            broker_status.join(PATIENCE)


@pytest.mark.parametrize(("configured", "taken"), [(60, 3.0), (1, 1.0)])
def test_a_look_waits_for_a_connection_no_longer_than_this(
    configure, monkeypatch, configured, taken
):
    waited = []

    def declare(self, topology, timeout):
        waited.append((self.settings.connect_timeout, timeout))
        raise broker_status.BrokerUnavailable("no answer")

    monkeypatch.setattr(AmqpTransport, "declare", declare)
    configure(URL=f"amqp://127.0.0.1:{closed_port()}", CONNECT_TIMEOUT=configured)
    assert seen().state == "down"
    assert waited == [(taken, taken)]


def test_looks_never_overlap(configure, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(broker_status, "monotonic", lambda: clock[0])
    with SilentPort() as silent:
        configure(URL=silent.url, CONNECT_TIMEOUT=2)
        for _ in range(20):
            broker_status.statuses()
            clock[0] += broker_status.EVERY_SECONDS
            assert len(looking()) == 1
        assert all(thread.daemon for thread in looking())
        broker_status.join(PATIENCE)


def test_other_settings_are_another_broker(configure, broker):
    configure(URL=broker.url)
    assert seen().state == "up"
    configure(URL=f"amqp://127.0.0.1:{closed_port()}")
    assert broker_status.statuses()[0].state == "unknown"
    assert seen().state == "down"


# -- brokers that are not well ---------------------------------------------------------------------


def test_a_broker_that_is_away(configure):
    port = closed_port()
    configure(URL=f"amqp://127.0.0.1:{port}", QUEUES=[QueueConfig("q")])
    found = seen()
    assert (found.state, found.host, found.queues) == ("down", f"127.0.0.1:{port}", ())
    assert "refused" in found.error


def test_a_login_that_is_refused_shows_no_password(configure, broker):
    configure(URL=f"amqp://nobody:secret-1@{broker.host}:{broker.port}")
    found = seen()
    assert found.state == "down"
    assert found.error
    assert "secret-1" not in repr(found)


def test_a_silent_broker_costs_nobody_time(configure):
    with SilentPort() as silent:
        configure(URL=silent.url)
        with Took() as took:
            for _ in range(100):
                assert broker_status.statuses()[0].state == "unknown"
        assert took.seconds < AT_ONCE
        assert seen().state == "down"


@pytest.mark.disturbs
def test_an_alarm_by_a_message_that_no_queue_takes(configure, node):
    configure(URL=node.url(), QUEUES=[QueueConfig("q")])
    node.block()
    found = seen()
    assert found.state == "blocked"
    assert "low on memory" in found.error
    assert found.queues[0].error.startswith("404 ")  # asked before the message
    node.unblock()
    broker_status._prober._known.clear()
    assert seen().state == "up"


@pytest.mark.disturbs
def test_an_alarm_that_our_own_connection_knows_of(configure, node, node_proxy, node_amqp, names):
    queue = names.queue()
    node_amqp.declare_queue(queue)
    configure(URL=node_proxy.url)
    now(queue=queue)
    node.block()
    call = calling(queue=queue)
    eventually(lambda: status().blocked)
    published = node_proxy.publishes
    assert seen().state == "blocked"
    assert node_proxy.publishes == published
    node.unblock()
    assert isinstance(call.outcome(), str)


@pytest.mark.disturbs
def test_a_broker_that_freezes_in_the_middle(configure, node):
    """It answers nothing, and the look ends all the same."""
    configure(URL=node.url(), QUEUES=[QueueConfig(f"q{number}") for number in range(50)])
    assert seen().state == "up"
    node.freeze()
    try:
        broker_status._prober._known["default"].began = None
        with Took() as took:
            assert broker_status.statuses()[0].state == "up"
        assert took.seconds < AT_ONCE
        assert seen().state == "down"
    finally:
        node.thaw()


def test_an_alarm_that_is_told_after_the_return(configure):
    """The broker sends the two from different processes, in any order."""
    configure(URL=f"amqp://127.0.0.1:{closed_port()}")
    told = []

    class Late:
        settings = loader.connection("default")

        def submit(self, deliveries):
            for delivery in deliveries:
                delivery.resolve()

        def declare(self, topology, timeout):
            told.append("low on memory")
            raise broker_status.BrokerUnavailable("no answer")

        def status(self):
            return Status("default", "open", blocked="".join(told))

    assert broker_status._blocked(Late(), connections["default"]) == "low on memory"


def test_queues_that_do_not_answer_have_their_time(configure, broker, monkeypatch):
    asked = []

    def declare(self, topology, timeout):
        if not topology:
            return []
        asked.append(timeout)
        monkeypatch.setattr(broker_status, "monotonic", lambda: 1000.0 + len(asked))
        raise broker_status.BrokerUnavailable("no answer")

    monkeypatch.setattr(AmqpTransport, "declare", declare)
    monkeypatch.setattr(broker_status, "monotonic", lambda: 1000.0)
    configure(URL=broker.url, QUEUES=[QueueConfig(f"q{number}") for number in range(5)])
    found = seen()
    assert asked == [1.0, 1.0, 1.0]
    errors = [queue.error for queue in found.queues]
    assert errors[:3] == ["no answer"] * 3
    assert all("not asked" in error for error in errors[3:])


def test_settings_that_are_wrong(configure):
    configure(CONNECTIONS={"default": {"URL": "memory://"}, "bad": {"URL": "amqp://h:x"}})
    found = seen("bad")
    assert found.state == "down"
    assert "RMQ_CONNECTIONS['bad']['URL']" in found.error
    assert seen().state == "up"


def test_without_any_connection(configure):
    assert broker_status.statuses() == []


# -- in this process ----------------------------------------------------------------------------------


def test_the_memory_broker_is_looked_at_at_once(configure):
    configure(URL="memory://", QUEUES=[QueueConfig("memory-depth")])
    transport._brokers.pop("default", None)
    [before] = broker_status.statuses()
    assert before.queues == (QueueDepth("memory-depth", 0, 0),)
    now(queue=QueueConfig("memory-depth"))
    [found] = broker_status.statuses()
    assert (found.state, found.product, found.age) == ("up", "memory", 0.0)
    assert found.queues == (QueueDepth("memory-depth", 1, 0),)
    assert looking() == []


def test_a_capture_takes_nothing_of_it(configure):
    configure(URL=f"amqp://127.0.0.1:{closed_port()}", QUEUES=[QueueConfig("q")])
    with capture() as published:
        [found] = broker_status.statuses()
    assert found.state == "up"
    assert list(published) == []
    with capture(route=True):
        assert broker_status.statuses()[0].queues == (QueueDepth("q", 0, 0),)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_looks_for_itself(configure, proxy):
    """Also where the parent was looking: the child holds none of its connections."""
    configure(URL=proxy.url)
    assert seen().state == "up"
    proxy.stall("client")
    broker_status._prober._known["default"].began = None
    broker_status.statuses()
    assert proxy.wait_for_connections(2)
    eventually(lambda: broker_status._prober._transports)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            known = broker_status._prober._known["default"]
            said = (
                known.status.state,
                known.thread,
                known.began,
                len(broker_status._prober._transports),
            )
            os.write(writer, repr(said).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"('up', None, None, 0)"
    os.close(reader)
    os.close(writer)
    proxy.resume()
