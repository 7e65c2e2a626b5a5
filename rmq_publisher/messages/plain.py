"""The envelope of a plain message: a body, and no properties but those that every message has.

Most messages are plain. Only id and time differ between them, so the rest of the header is made once.
"""

import time
from functools import lru_cache

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.amqp.entities import Topology
from rmq_publisher.messages.envelope import Envelope, encoded_body, too_large
from rmq_publisher.messages.ids import ID_SIZE, new_id


def seal_plain(
    body: str | bytes,
    *,
    exchange: str,
    routing_key: str,
    topology: Topology,
    max_body_size: int,
    app_id: str | None,
) -> Envelope:
    """Make the envelope; exactly what `message.seal` makes of the same arguments.

    Args:
        body: str (sent as UTF-8) or bytes (unchanged).
        exchange: exchange's name, which was checked.
        routing_key: routing key, which was checked.
        topology: what to verify or declare before it is sent.
        max_body_size: bytes.
        app_id: the settings' own, if any.

    Raises:
        InvalidMessage: what AMQP or RabbitMQ cannot take.
    """
    __traceback_hide__ = True  # as in compose()
    if isinstance(body, str):
        body = encoded_body(body, None, {"exchange": exchange, "routing_key": routing_key}).body
    if len(body) > max_body_size:
        raise too_large(body, max_body_size, {"exchange": exchange, "routing_key": routing_key})
    message_id = new_id()
    before, behind = _around_id(app_id)
    header = b"".join((before, message_id.encode(), int(time.time()).to_bytes(8), behind))
    return Envelope(message_id, exchange, routing_key, header, body, topology)


@lru_cache(maxsize=64)
def _around_id(app_id: str | None) -> tuple[bytes, bytes]:
    """Return what stands in the header before the id and behind the time."""
    mark = "-" * ID_SIZE
    values = {
        "content_type": "application/json", "delivery_mode": 2, "message_id": mark,
        "timestamp": 0, "app_id": app_id,
    }  # fmt: skip
    before, _, behind = basic_properties(values).partition(mark.encode())
    return before, behind[8:]
