"""A process that was forked without Python's hooks (a C extension, some servers)."""

import os
from typing import Any

import pytest

from rmq_publisher import connections, publish
from rmq_publisher.transport.rabbitmq.transport import AmqpTransport
from tests.support.rig.amqp import Amqp


@pytest.mark.usefixtures("rmq")
def test_the_process_id_alone_tells_that_the_connection_is_the_parents(amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    publish("parent", queue=queue, delivery="now")
    transport: Any = connections["default"]
    assert isinstance(transport, AmqpTransport)
    parents: Any = transport._engine
    parents.pid = os.getpid() + 1  # as a child finds it, where no hook ran
    try:
        publish("child", queue=queue, delivery="now")
        assert transport._engine is not parents
        assert parents.status().connects == 1  # and nobody touched it
    finally:
        parents.pid = os.getpid()
        parents.close(1.0)
    assert [message.body for message in amqp.drain(queue)] == [b"parent", b"child"]
