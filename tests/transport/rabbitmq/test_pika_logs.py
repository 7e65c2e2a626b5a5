"""pika's errors about our connections are not logged: ours say the same in one line."""

import logging

import pika
import pytest

from rmq_publisher import BrokerUnavailable, Consumer, publish
from tests.support.rig.ports import closed_port


def errors_of_pika(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("pika.") and record.levelno >= logging.WARNING
    ]


@pytest.fixture
def port(settings, caplog):
    """Where nobody listens; pika's logger is as the project's logging may set it."""
    caplog.set_level(logging.INFO, "pika")
    number = closed_port()
    settings.RMQ_URL = f"amqp://127.0.0.1:{number}"
    return number


def test_errors_of_our_connections_are_dropped(port, caplog):
    with pytest.raises(BrokerUnavailable):
        publish("x", queue="q", delivery="now")
    with pytest.raises(BrokerUnavailable), Consumer("q") as consumer:
        next(iter(consumer))
    assert errors_of_pika(caplog) == []


def test_those_of_other_connections_are_not(port, caplog):
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    assert errors_of_pika(caplog)


def test_all_are_shown_at_debug(port, caplog):
    caplog.set_level(logging.DEBUG, "pika")
    with pytest.raises(BrokerUnavailable):
        publish("x", queue="q", delivery="now")
    assert errors_of_pika(caplog)
