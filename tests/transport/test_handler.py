"""Finding the transport of an alias by its dotted path."""

import sys

import pytest

from rmq_publisher import publish
from rmq_publisher.transport.handler import RABBITMQ, connections
from rmq_publisher.transport.memory.transport import MemoryTransport


def test_an_import_error_is_raised_by_the_call_and_the_next_call_works(settings, monkeypatch):
    settings.RMQ_URL = "amqp://127.0.0.1:1"
    module = RABBITMQ.rpartition(".")[0]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        for delivery in ("on_commit", "outbox", "now"):
            with pytest.raises(ImportError, match=module):
                publish("body", queue="any", delivery=delivery)
    assert type(connections["default"]).__module__ == module


@pytest.fixture
def closes(monkeypatch):
    """The transports that were closed since."""
    closed = []
    monkeypatch.setattr(
        MemoryTransport, "close", lambda transport, timeout=None: closed.append(transport)
    )
    return closed


def test_a_setting_that_is_not_the_connections_own_leaves_it_open(settings, closes):
    settings.RMQ_URL = "memory://"
    before = connections["default"]
    settings.RMQ_MAX_ATTEMPTS = settings.RMQ_PUBLISH_TIMEOUT = 3
    settings.RMQ_CONNECTIONS = {"other": {"URL": "memory://"}}
    assert connections["default"] is before
    assert closes == []


def test_another_setting_of_a_connection_closes_the_old_one(settings, closes):
    settings.RMQ_URL = "memory://"
    before = connections["default"]
    settings.RMQ_HEARTBEAT = 3
    assert connections["default"] is not before
    assert closes == [before]
