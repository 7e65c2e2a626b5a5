"""Received messages, made without a broker."""

from typing import Any

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.origin import Origin
from rmq_publisher.transport.consuming import Delivered


def received(
    body: bytes = b"{}",
    *,
    queue: str = "orders",
    exchange: str = "",
    redelivered: bool = False,
    header: bytes | None = None,
    limit: int = 2**24,
    size: int | None = None,
    **properties: Any,
) -> ReceivedMessage:
    """A message as a consumer returns it; settling it has no effect."""
    if header is None:
        header = basic_properties(properties)
    size = len(body) if size is None else size
    delivered = Delivered(1, 1, "tag", redelivered, exchange, queue, header, body, size)
    return ReceivedMessage(delivered, Origin(lambda *_: True, lambda _: True, None, limit), queue)
