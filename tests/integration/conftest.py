"""Fixtures that several tests against servers share."""

from collections.abc import Iterator
from typing import Any

import pytest

from rmq_publisher import connections
from rmq_publisher.transport.memory.transport import broker_of
from tests.support.calls import PATIENCE
from tests.support.configured import configurer
from tests.support.rig.amqp import Names
from tests.support.rig.proxy import Proxy
from tests.support.sides import SOON, Memory, Rabbit, Side


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.smoke)])
def side(request: pytest.FixtureRequest, settings: Any, names: Names) -> Iterator[Side]:
    outside: Memory | Rabbit
    if request.param == "memory":
        memory = broker_of("default")
        memory.reset()
        outside = Memory(memory, names)
    else:
        broker, amqp = map(request.getfixturevalue, ("broker", "amqp"))
        outside = Rabbit(broker, amqp, names)
    configurer(settings)(URL=outside.url, PUBLISH_TIMEOUT=SOON)
    yield Side(outside)
    connections.close()


@pytest.fixture
def through(rmq: Any, proxy: Proxy) -> Iterator[Proxy]:
    """The library publishes through a proxy that breaks things."""
    rmq.RMQ_URL = proxy.url
    rmq.RMQ_PUBLISH_TIMEOUT = PATIENCE
    yield proxy
    connections.close()
