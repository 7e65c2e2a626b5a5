"""The core of the contract once more, over TLS: there the stream below pika is pika's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rmq_publisher import connections
from tests.integration.test_contract import (
    test_a_message_arrives_as_it_was_published,
    test_a_queue_that_is_gone_after_it_was_verified,
    test_an_empty_body_and_a_large_one_arrive,
    test_an_exchange_that_is_gone_after_it_was_verified,
    test_apublish,
    test_every_kind_of_header_arrives,
    test_every_property_arrives,
    test_messages_come_out_in_order,
    test_no_such_exchange,
    test_no_such_queue,
    test_nothing_bound,
    test_publish_many_tells_each_outcome,
    test_the_user_id_must_be_the_connections,
    test_what_others_published_is_not_hurt,
)
from tests.integration.test_contract_dead_letters import test_a_full_queue_refuses
from tests.integration.test_contract_topology import (
    test_a_publish_declares_what_it_is_given,
    test_a_queue_declared_differently,
)
from tests.support.calls import PATIENCE, status
from tests.support.configured import configurer
from tests.support.rig import wire
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.ladder import Broker
from tests.support.rig.node import PrivateNode
from tests.support.sides import (
    Rabbit,
    Side,
)

__all__ = [
    "test_a_full_queue_refuses",
    "test_a_message_arrives_as_it_was_published",
    "test_a_publish_declares_what_it_is_given",
    "test_a_queue_declared_differently",
    "test_a_queue_that_is_gone_after_it_was_verified",
    "test_an_empty_body_and_a_large_one_arrive",
    "test_an_exchange_that_is_gone_after_it_was_verified",
    "test_apublish",
    "test_every_kind_of_header_arrives",
    "test_every_property_arrives",
    "test_messages_come_out_in_order",
    "test_no_such_exchange",
    "test_no_such_queue",
    "test_nothing_bound",
    "test_publish_many_tells_each_outcome",
    "test_the_user_id_must_be_the_connections",
    "test_what_others_published_is_not_hurt",
]


@pytest.fixture
def side(settings: Any, tls_node: PrivateNode, names: Names) -> Iterator[Side]:
    """The real broker behind TLS; what a test looks at from outside goes without."""
    assert tls_node.certificates is not None
    outside = Amqp(tls_node.url(), names)
    configurer(settings)(
        URL=tls_node.tls_url(),
        TLS={"CA_FILE": tls_node.certificates.ca_file},
        PUBLISH_TIMEOUT=PATIENCE,
    )
    broker = Broker(tls_node.url(), "local", wire.product(tls_node.url()))
    yield Side(Rabbit(broker, outside, names))
    assert status().tls
    connections.close()
    outside.close()
