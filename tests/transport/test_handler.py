"""Finding the transport of an alias by its dotted path."""

import sys

import pytest

from rmq_publisher import publish
from rmq_publisher.transport.handler import RABBITMQ, connections


def test_an_import_error_is_raised_by_the_call_and_the_next_call_works(settings, monkeypatch):
    settings.RMQ_URL = "amqp://127.0.0.1:1"
    module = RABBITMQ.rpartition(".")[0]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        for delivery in ("on_commit", "outbox", "now"):
            with pytest.raises(ImportError, match=module):
                publish("body", queue="any", delivery=delivery)
    assert type(connections["default"]).__module__ == module
