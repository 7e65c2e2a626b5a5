"""What a connection asks the broker for."""

import os
import socket
from typing import Any

from rmq_publisher.conf import loader
from rmq_publisher.transport.rabbitmq.connection import parameters
from rmq_publisher.transport.rabbitmq.naming import connection_name


def test_what_is_asked_for_and_how_an_operator_recognises_it(settings: Any) -> None:
    settings.RMQ_HEARTBEAT, settings.RMQ_CONNECT_TIMEOUT = 7, 2.5
    own = loader.connection("default")
    name = connection_name(own)
    asked = parameters(own, own.nodes[0], name)
    assert name.startswith(f"{socket.gethostname()} ")
    assert name.endswith(f"[{os.getpid()}] default")
    assert asked.client_properties == {"connection_name": name}
    assert asked.heartbeat == 7
    assert asked.socket_timeout == asked.stack_timeout == 2.5
