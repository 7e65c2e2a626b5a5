"""What several tests of relays share."""

from typing import Any

from rmq_publisher.outbox.relay import Relay
from tests.support.calls import Call
from tests.support.rig.amqp import Amqp


class Running:
    """A relay on a thread."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.call = Call(relay.run)

    def end(self) -> Relay:
        self.relay.stop()
        self.call.value()
        return self.relay


def once(store: str, **options: Any) -> Relay:
    working = Relay(store, once=True, **options)
    Call(working.run).value()
    return working


def ids(amqp: Amqp, queue: str, expected: int = 0) -> list[str]:
    return [message.properties.message_id for message in amqp.drain(queue, expected)]
