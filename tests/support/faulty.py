"""What several tests of lost connections and failing brokers share."""

from tests.support.rig.amqp import Received
from tests.support.rig.proxy import Proxy


def message_ids(received: list[Received]) -> list[str]:
    return [message.properties.message_id for message in received]


def count(proxy: Proxy, what: str) -> int:
    return sum(event.what == what for event in proxy.events)
