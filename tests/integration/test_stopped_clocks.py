"""Clocks that a project's tests stop, by freezegun or time-machine, stop nothing of ours."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from freezegun import freeze_time

from rmq_publisher import BrokerUnavailable, ConfirmTimeout, connections
from tests.support.calls import PATIENCE, error_of, now, status
from tests.support.rig.amqp import Amqp
from tests.support.rig.proxy import Proxy

Stop = Callable[[str], AbstractContextManager[Any]]
STOPS = {
    # It reads every attribute of every module; one of testcontainers' connects to Docker.
    "freezegun": lambda moment: freeze_time(moment, ignore=["testcontainers"]),
    "time-machine": lambda moment: time_machine.travel(
        datetime.fromisoformat(moment).replace(tzinfo=UTC), tick=False
    ),
}


@pytest.fixture(params=STOPS)
def stop(request: pytest.FixtureRequest) -> Stop:
    return STOPS[request.param]


@pytest.mark.parametrize("moment", ["2001-02-03", "2061-02-03"])
def test_a_process_whose_first_publish_was_under_a_stopped_clock(
    rmq: Any, through: Proxy, amqp: Amqp, stop: Stop, moment: str
) -> None:
    """Timers run under it (a reconnection waits by one) and go on after it."""
    queue = amqp.declare_queue()
    with stop(moment):
        now(b"first", queue=queue)
        assert through.cut() == 1
        now(b"second", queue=queue)
    assert through.cut() == 1
    now(b"third", queue=queue)
    assert [message.body for message in amqp.drain(queue, 3)] == [b"first", b"second", b"third"]


def test_a_deadline_under_a_stopped_clock(
    rmq: Any, through: Proxy, amqp: Amqp, stop: Stop
) -> None:
    """Silence is noticed, and so is a broker that does not answer the connection."""
    queue = amqp.declare_queue()
    rmq.RMQ_CONNECT_TIMEOUT = 0.3
    with stop("2001-02-03"):
        stall = through.stall()
        error = error_of(queue=queue, timeout=PATIENCE)
        assert isinstance(error, BrokerUnavailable)
        assert "no answer in time" in str(error)
        stall.disarm()
        through.resume()
    connections.close()
    rmq.RMQ_CONNECT_TIMEOUT = PATIENCE
    now(queue=queue)
    with stop("2001-02-03"):
        through.stall()
        assert isinstance(error_of(queue=queue, timeout=0.2), ConfirmTimeout)


def test_the_clock_of_a_test_is_the_messages_time(
    rmq: Any, through: Proxy, amqp: Amqp, stop: Stop
) -> None:
    queue = amqp.declare_queue()
    for moment, seconds in (("2001-02-03", 981_158_400), ("1961-02-03", 0)):
        with stop(moment):
            now(queue=queue)
            now(queue=queue, headers={"a": 1})
        for message in amqp.drain(queue, 2):
            assert message.properties.timestamp == seconds
    assert status().state == "open"
