"""What one caller does wrong, or has done to it, hurts nobody else: found by hostile readers."""

import signal
import threading
from typing import Any

import pytest
from django.db import transaction

from rmq_publisher import (
    BrokerUnavailable,
    ExchangeConfig,
    InvalidMessage,
    Producer,
    QueueConfig,
    Rejected,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.amqp.validation import TopologyError
from tests.support.calls import calling, eventually, now, status
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.ladder import Broker
from tests.support.rig.proxy import Proxy

UNKNOWN = {"type": "x-of-no-plugin"}
ENDS_THE_CONNECTION = (4, 0)  # before this version (3.10 does); 4.0 and 4.3 close the channel only


class SlowHookError(Exception):
    """What rolls a savepoint back."""


@pytest.mark.django_db(transaction=True)
def test_the_time_of_other_hooks_is_not_ours(rmq: Any, amqp: Amqp, caplog: Any) -> None:
    """A savepoint rolled back after the last publish makes each hook send its own."""
    queue = amqp.declare_queue()
    rmq.RMQ_PUBLISH_TIMEOUT = 0.3
    now(queue=queue)
    over = threading.Event()
    with transaction.atomic():
        publish("before", queue=queue)
        transaction.on_commit(lambda: over.wait(0.4))  # longer than all of ours may wait
        for _ in range(5):
            publish("after", queue=queue)
        with pytest.raises(SlowHookError), transaction.atomic():
            raise SlowHookError
    assert [message.body for message in amqp.drain(queue, 7)][1:] == [b"before", *[b"after"] * 5]
    assert "was committed but not published" not in caplog.text


@pytest.mark.smoke
def test_a_declaration_that_ends_the_connection(
    rmq: Any, broker: Broker, amqp: Amqp, names: Names
) -> None:
    """It alone is rejected, with the broker's words, and is not tried again for a while."""
    queue = amqp.declare_queue()
    now(queue=queue)
    bad = ExchangeConfig(names.exchange(), **UNKNOWN)
    with pytest.raises(Rejected) as caught:
        publish("x", exchange=bad, routing_key="k", delivery="now")
    ended = broker.version < ENDS_THE_CONNECTION
    assert caught.value.reply_code == (503 if ended else 406)
    assert not caught.value.retryable
    connects = 2 if ended else 1
    eventually(lambda: status().connects == connects)
    for _ in range(3):
        with pytest.raises(Rejected):
            publish("x", exchange=bad, routing_key="k", delivery="now")
    now(queue=queue)
    assert status().connects == connects


@pytest.mark.smoke
def test_one_of_many_declarations_ends_the_connection(rmq: Any, amqp: Amqp, names: Names) -> None:
    """Several are under way: the next connection takes them one at a time and finds the culprit."""
    now(routing_key=amqp.declare_queue())
    bad = ExchangeConfig(names.exchange(), **UNKNOWN)
    connections["default"].close()  # all begin together, on a new connection
    good = [calling(queue=QueueConfig(names.queue()), timeout=20) for _ in range(20)]
    culprit = calling(exchange=bad, routing_key="k", timeout=20)
    assert {type(call.outcome()) for call in good} == {str}
    assert isinstance(culprit.outcome(), Rejected)
    assert status().connects <= 3


class SoftLimitError(Exception):
    """What a task queue raises in a call that takes too long."""


def many(body: str, **options: Any) -> None:
    publish_many([body] * 3, **options)


@pytest.mark.parametrize("call", [publish, many])
def test_an_interrupted_call_sends_nothing_later(
    rmq: Any, proxy: Proxy, amqp: Amqp, call: Any
) -> None:
    queue = amqp.declare_queue()
    rmq.RMQ_URL = proxy.url
    rmq.RMQ_MAX_IN_FLIGHT = 1
    now(routing_key=queue)
    held = proxy.stall("client")
    first = calling(routing_key=queue, timeout=20)  # takes the only place
    assert proxy.wait_for_publishes(2)

    def interrupt(*_: object) -> None:
        raise SoftLimitError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(SoftLimitError):
            call("late", routing_key=queue, delivery="now")
    finally:
        signal.signal(signal.SIGALRM, before)
    held.disarm()
    assert isinstance(first.outcome(), str)
    now(routing_key=queue)
    assert b"late" not in [message.body for message in amqp.drain(queue, 3)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: QueueConfig("q", message_ttl=1e30),
        lambda: QueueConfig("q", expires=2**32),
        lambda: QueueConfig("q", durable="no"),  # type: ignore[arg-type]
        lambda: QueueConfig("q", single_active_consumer=None),  # type: ignore[arg-type]
        lambda: QueueConfig("q", bindings=None),  # type: ignore[arg-type]
        lambda: ExchangeConfig("e", "x-" + "n" * 300),
        lambda: ExchangeConfig("e", "x-\ud800"),
        lambda: ExchangeConfig("e", internal="no"),  # type: ignore[arg-type]
    ],
)
def test_what_pika_cannot_send_is_refused_when_it_is_made(make: Any) -> None:
    with pytest.raises(TopologyError):
        make()


@pytest.mark.parametrize("declare", [1, QueueConfig("q"), ["q"]])
def test_declare_says_what_it_takes(rmq: Any, declare: Any) -> None:
    with pytest.raises(InvalidMessage, match="declare= takes a list of"):
        publish("x", queue="q", declare=declare, delivery="now")
    with pytest.raises(InvalidMessage, match="declare= takes a list of"):
        publish_many(["x"], queue="q", declare=declare, delivery="now")
    with pytest.raises(InvalidMessage, match="declare= takes a list of"):
        Producer(queue="q", declare=declare)


def test_a_declaration_that_pika_cannot_send_ends_every_wait(rmq: Any, amqp: Amqp) -> None:
    """The constructors refuse them all; should one slip through, nobody waits for a dead thread."""
    queue = amqp.declare_queue()
    now(queue=queue)
    config = QueueConfig("slipped")
    object.__setattr__(config, "x_arguments", {"x-message-ttl": 2**80})
    with pytest.raises(BrokerUnavailable, match="I/O thread died"):
        publish("x", queue=config, delivery="now", timeout=20)
    now(queue=queue)
