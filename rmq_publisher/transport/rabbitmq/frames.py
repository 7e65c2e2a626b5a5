"""The frames of a basic.publish, built once, in the calling thread.

One write for all frames of all messages that wait is what makes the engine fast; pika writes method,
header and body of each one apart.
"""

import struct
from functools import lru_cache

from rmq_publisher.amqp.encoding import shortstr
from rmq_publisher.messages.envelope import FRAME_MAX, HEADER_OVERHEAD, Envelope

PUBLISH_CHANNEL = 1  # fixed, so that frames can be built before there is a connection
_FRAME_OVERHEAD = 8  # type, channel, size; end
_FRAME_END = b"\xce"
_HEADER = struct.Struct(">BHIHHQ")  # frame type, channel, size; class, weight, body size
_BODY = struct.Struct(">BHI")
_BASIC = 60
_PUBLISH = 40


@lru_cache(maxsize=1024)
def _method_frame(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    payload = (
        struct.pack(">HHH", _BASIC, _PUBLISH, 0)
        + shortstr("exchange", exchange)
        + shortstr("routing_key", routing_key)
        + (b"\x01" if mandatory else b"\x00")
    )
    return _BODY.pack(1, PUBLISH_CHANNEL, len(payload)) + payload + _FRAME_END


def marshal(envelope: Envelope, frame_max: int = FRAME_MAX) -> bytes:
    """Return all frames of a publish; ``frame_max`` is the negotiated limit in bytes."""
    header, body = envelope.header, envelope.body
    pieces = [
        _method_frame(envelope.exchange, envelope.routing_key, envelope.mandatory),
        _HEADER.pack(2, PUBLISH_CHANNEL, 12 + len(header), _BASIC, 0, len(body)),
        header,
        _FRAME_END,
    ]
    limit = frame_max - _FRAME_OVERHEAD
    for start in range(0, len(body), limit):
        part = body[start : start + limit]
        pieces += (_BODY.pack(3, PUBLISH_CHANNEL, len(part)), part, _FRAME_END)
    return b"".join(pieces)


def header_fits(envelope: Envelope, frame_max: int) -> bool:
    """Return whether the content header, which AMQP cannot split, fits into one frame."""
    return len(envelope.header) + HEADER_OVERHEAD <= frame_max
