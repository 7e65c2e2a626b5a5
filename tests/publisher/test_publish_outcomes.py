"""What becomes known of a message: topology, outcomes and the timeout."""

import asyncio
import logging
import time
from datetime import timedelta

import pytest

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ConfirmTimeout,
    ExchangeConfig,
    Nacked,
    Producer,
    PublishError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish_many,
)
from tests.support.publishing import LONG, bodies, count, now, taken
from tests.support.rig.proxy import SilentPort, closed_port

SECRET = "s3cr3t-value"


# -- topology ---------------------------------------------------------------------------------


def test_a_plain_queue_may_have_any_arguments(rmq, amqp, proxy):
    """A plain string queue is verified passively (it may have any arguments ...)"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue(
        durable=False, auto_delete=True, arguments={"x-max-length": 5, "x-message-ttl": 60_000}
    )
    now(queue=queue)
    assert bodies(amqp, queue) == [b"x"]
    assert count(proxy, "client Queue.Declare") == 1


def test_a_plain_queue_needs_no_configure_permission(rmq, node, node_amqp):
    """... and needs no configure permission"""
    queue = node_amqp.declare_queue()
    node.add_user("writer", "writer", configure="^$", read="^$", write=r"^(amq\.default|ev)$")
    rmq.RMQ_URL = node.url("writer")
    now(queue=queue)
    assert bodies(node_amqp, queue) == [b"x"]
    with pytest.raises(Rejected) as caught:
        now(queue=QueueConfig(queue))
    assert (caught.value.reply_code, caught.value.retryable) == (403, False)
    now(queue=queue)
    assert bodies(node_amqp, queue) == [b"x"]


def test_what_may_not_be_written_to_is_rejected_for_good(rmq, node, node_amqp):
    """Rejected: 403. A 403 on writing is not seen by a passive declare: the channel is closed."""
    exchange, queue = node_amqp.declare_exchange(kind="fanout"), node_amqp.declare_queue()
    node_amqp.bind(queue, exchange)
    node.add_user("reader", "reader", write=r"^amq\.default$")
    rmq.RMQ_URL = node.url("reader")
    with pytest.raises(Rejected) as caught:
        now(SECRET, exchange=exchange, message_id="m")
    assert (caught.value.reply_code, caught.value.retryable) == (403, False)
    assert (caught.value.message_id, caught.value.exchange) == ("m", exchange)
    assert SECRET not in str(caught.value)
    now("allowed", queue=queue)
    assert bodies(node_amqp, queue) == [b"allowed"]


def test_a_queue_that_is_missing_is_rejected_and_may_come(rmq, amqp):
    """Rejected: the broker closed a channel over it (403, 404, 406): .reply_code; retryable if 404"""
    queue = amqp.names.queue()
    with pytest.raises(Rejected) as caught:
        now(SECRET, queue=queue, message_id="m")
    error = caught.value
    assert (error.reply_code, error.retryable) == (404, True)
    assert (error.message_id, error.exchange, error.routing_key) == ("m", "", queue)
    assert queue in error.reply_text
    assert SECRET not in str(error)
    amqp.declare_queue(queue)
    now(queue=queue, message_id="m")
    assert bodies(amqp, queue) == [b"x"]


def test_an_exchange_that_is_missing_is_rejected_and_may_come(rmq, amqp):
    exchange, queue = amqp.names.exchange(), amqp.declare_queue()
    with pytest.raises(Rejected) as caught:
        now(exchange=exchange, routing_key="k")
    assert (caught.value.reply_code, caught.value.exchange) == (404, exchange)
    amqp.declare_exchange(exchange)
    amqp.bind(queue, exchange, "k")
    now(exchange=exchange, routing_key="k")
    assert bodies(amqp, queue) == [b"x"]


@pytest.mark.smoke
def test_configs_are_declared_with_their_arguments_and_bindings(rmq, amqp):
    """a ``QueueConfig`` or ``ExchangeConfig`` is declared actively with exactly its arguments and
    bindings"""
    source = ExchangeConfig(amqp.names.exchange(), "fanout")
    exchange = ExchangeConfig(
        amqp.names.exchange(), "topic", durable=False, bindings=[Binding(source)]
    )
    queue = QueueConfig(
        amqp.names.queue(),
        max_length=5,
        message_ttl=60,
        arguments={"x-queue-mode": "lazy"},
        bindings=[Binding(exchange, "a.*"), Binding(source.name)],
    )
    now("by name", queue=queue)
    now("by key", exchange=exchange, routing_key="a.b")
    now("by source", exchange=source)
    assert bodies(amqp, queue.name) == [b"by name", b"by key", b"by source"]
    # Declaring it again otherwise is refused: the arguments are exactly these.
    amqp.channel.queue_declare(
        queue.name,
        durable=True,
        arguments={"x-max-length": 5, "x-message-ttl": 60_000, "x-queue-mode": "lazy"},
    )
    amqp.channel.exchange_declare(exchange.name, "topic", durable=False)
    with pytest.raises(Rejected) as caught:
        now(queue=QueueConfig(queue.name, max_length=6))
    assert (caught.value.reply_code, caught.value.retryable) == (406, False)


def test_declare_declares_what_is_neither_queue_nor_exchange_of_the_call(rmq, amqp):
    """declare=() on the call"""
    exchange = ExchangeConfig(amqp.names.exchange(), "fanout")
    one = QueueConfig(amqp.names.queue(), bindings=[Binding(exchange)])
    two = QueueConfig(amqp.names.queue(), bindings=[Binding(exchange)])
    now(exchange=exchange, declare=[one])
    now(exchange=exchange, declare=(two for _ in "a generator"))
    assert (len(taken(amqp, one.name)), len(taken(amqp, two.name))) == (2, 1)


def test_an_empty_queue_skips_verification(rmq, amqp, proxy):
    """An empty queue skips this."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now(routing_key=queue)
    now(routing_key=queue, queue="", exchange="")
    assert len(taken(amqp, queue)) == 2
    assert count(proxy, "client Queue.Declare") == count(proxy, "client Exchange.Declare") == 0


def test_verified_once_per_connection_by_value_and_again_after_a_reconnect(rmq, amqp, proxy):
    """Verified once per connection, again after a reconnect."""
    rmq.RMQ_URL = proxy.url
    name, exchange = amqp.declare_queue(), amqp.declare_exchange()
    amqp.bind(name, exchange, name)

    def everything():
        for _ in range(3):
            now(queue=name)
            now(queue=QueueConfig(name))
            now(queue=name, exchange=exchange)
            publish_many(["x", "y"], queue=QueueConfig(name), delivery="now")

    everything()
    # As a name, as a config, and as a name together with the exchange.
    assert count(proxy, "client Queue.Declare") == 3
    assert count(proxy, "client Exchange.Declare") == 1
    proxy.cut()
    everything()
    assert proxy.connections_made == 2
    assert count(proxy, "client Queue.Declare") == 6
    assert count(proxy, "client Exchange.Declare") == 2
    assert len(taken(amqp, name)) == 30


# -- outcomes ---------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_takes_later(rmq, amqp, proxy):
    """Nacked: refused by a queue; retryable. Nothing but a lost connection is retried in a call."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    now("first", queue=queue)
    with pytest.raises(Nacked) as caught:
        now(SECRET, queue=queue, message_id="m")
    assert caught.value.retryable
    assert (caught.value.message_id, caught.value.routing_key) == ("m", queue)
    assert SECRET not in str(caught.value)
    assert proxy.publishes == 2
    assert bodies(amqp, queue) == [b"first"]
    now("second", queue=queue, message_id="m")
    assert bodies(amqp, queue) == [b"second"]


def test_nothing_but_a_lost_connection_is_retried(rmq, amqp, proxy):
    """Nothing but a lost connection is retried within a call."""
    rmq.RMQ_URL = proxy.url
    with pytest.raises(Unroutable):
        now(routing_key=amqp.names.unique())
    assert proxy.publishes == 1
    with pytest.raises(Rejected):
        now(queue=amqp.names.unique())
    assert proxy.publishes == 1
    assert count(proxy, "client Queue.Declare") == 1
    assert proxy.connections_made == 1


def test_no_broker_is_unavailable_and_it_may_come(rmq, amqp):
    """BrokerUnavailable: not sent: no connection, login refused, blocked; retryable"""
    good, rmq.RMQ_URL = rmq.RMQ_URL, f"amqp://guest:guest@127.0.0.1:{closed_port()}/"
    with pytest.raises(BrokerUnavailable) as caught:
        now(SECRET, queue="q", message_id="m")
    assert caught.value.retryable
    assert (caught.value.message_id, caught.value.routing_key) == ("m", "q")
    assert SECRET not in str(caught.value)
    status = connections["default"].status()
    assert status.state == "down"
    assert status.node in status.last_error
    rmq.RMQ_URL = good
    queue = amqp.declare_queue()
    now(queue=queue, message_id="m")
    assert bodies(amqp, queue) == [b"x"]


def test_a_refused_login_is_unavailable_and_the_password_not_shown(rmq, broker, caplog):
    rmq.RMQ_URL = f"amqp://guest:{SECRET}@{broker.host}:{broker.port}/"
    with (
        caplog.at_level(logging.DEBUG, "rmq_publisher"),
        pytest.raises(BrokerUnavailable) as caught,
    ):
        now(queue="q")
    assert "login was refused" in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text


@pytest.mark.disturbs
def test_a_blocked_broker_is_unavailable(rmq, node, node_amqp):
    queue = node_amqp.declare_queue()
    rmq.RMQ_URL = node.url()
    now("before", queue=queue)
    node.block()
    with pytest.raises(PublishError):
        now("notices the alarm", queue=queue, timeout=0.5)
    with pytest.raises(BrokerUnavailable, match="block") as caught:
        now("during", queue=queue, timeout=LONG)
    assert caught.value.retryable
    assert connections["default"].status().blocked


# -- the timeout ------------------------------------------------------------------------------


@pytest.fixture
def promptly():
    """A call with a timeout of its own ends long before the settings' times are over."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < LONG / 3


def test_the_timeout_bounds_connecting(rmq, promptly):
    """``timeout`` bounds a whole call (connect, ...)"""
    rmq.RMQ_CONNECT_TIMEOUT = rmq.RMQ_PUBLISH_TIMEOUT = LONG
    with SilentPort() as silent:
        rmq.RMQ_URL = silent.url
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            now(queue="q", timeout=0.3)
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            now(queue="q", timeout=timedelta(seconds=0.3))
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            asyncio.run(apublish("x", queue="q", timeout=0.3))
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
            Producer(queue="q", timeout=0.3).publish("x")
        connections["default"].close(0)


def test_the_timeout_bounds_declaring(rmq, amqp, proxy, promptly):
    """``timeout`` bounds a whole call (... declare, ...)"""
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, LONG
    queue = amqp.declare_queue()
    now(routing_key=queue)
    proxy.stall("client")
    with pytest.raises(BrokerUnavailable, match=r"within 0\.3 s"):
        now("never written", queue=queue, timeout=0.3)
    proxy.resume()
    now("then", routing_key=queue)
    assert bodies(amqp, queue) == [b"x", b"then"]


def test_the_timeout_bounds_the_wait_for_the_confirm(rmq, amqp, proxy, promptly):
    """ConfirmTimeout: outcome unknown: the deadline; retryable"""
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, LONG
    queue = amqp.declare_queue()
    now(queue=queue)
    proxy.swallow_acks(None)
    with pytest.raises(ConfirmTimeout, match="within 1 s") as caught:
        now(SECRET, queue=queue, timeout=1, message_id="m")
    assert caught.value.retryable
    assert (caught.value.message_id, caught.value.routing_key) == ("m", queue)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfirmTimeout):
        asyncio.run(apublish("x", queue=queue, timeout=1))
    connections["default"].close(0)


def test_the_timeout_bounds_the_retry(rmq, amqp, proxy, promptly):
    """``timeout`` bounds a whole call (... retry)"""
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT, rmq.RMQ_CONNECT_TIMEOUT = proxy.url, LONG, LONG
    queue = amqp.declare_queue()
    now(queue=queue)
    fault = proxy.cut_after_publish()
    proxy.swallow_acks(None)  # of the connections that follow
    with pytest.raises(ConfirmTimeout, match="within 1 s"):
        now(queue=queue, timeout=1)
    assert fault.hits == 1
    connections["default"].close(0)


def test_a_second_lost_connection_is_an_unknown_outcome(rmq, amqp, proxy):
    """ConfirmTimeout: ... or a second lost connection"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    proxy.cut_after_publish(1)
    proxy.cut_after_publish(2)
    with pytest.raises(ConfirmTimeout, match="second time") as caught:
        now(queue=queue, message_id="m")
    assert caught.value.retryable
    assert {message.properties.message_id for message in taken(amqp, queue)} == {"m"}
