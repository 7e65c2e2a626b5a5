"""Deliveries read off the stream, and the frames that settle them. No I/O.

pika takes three objects and a dozen calls for each frame of a delivery; here a method frame whose names
were seen before is a few slices.
"""

import struct
from collections.abc import Iterable

from rmq_publisher.transport.consuming import (
    ACK,
    ACK_MULTIPLE,
    GIVE_BACK,
    REJECT,
    REQUEUE,
    Delivered,
)

CONSUME_CHANNEL = 1  # fixed, as that of a publishing connection
_SETTLE = struct.Struct(
    ">BHIHHQBB"
)  # frame type, channel, size; class, method, tag, bits; frame end
_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER = struct.pack(">HH", 60, 60)
# Method and bits of each verdict: basic.ack, basic.reject, basic.nack. 4.3 counts no nack as a failure.
_SETTLING = {
    ACK: (80, 0),
    ACK_MULTIPLE: (80, 1),
    REJECT: (90, 0),
    REQUEUE: (90, 1),
    GIVE_BACK: (120, 2),
}
_FRAME_END = 0xCE
_NAMES_MAX = 1024  # of exchange and routing key that are remembered


def settle_frame(tag: int, verdict: int) -> bytes:
    """Return the frame of basic.ack, basic.reject or basic.nack (AMQP 0-9-1, 1.8.3.13 and 14)."""
    method, bits = _SETTLING[verdict]
    return _SETTLE.pack(_METHOD, CONSUME_CHANNEL, 13, 60, method, tag, bits, _FRAME_END)


class SettledTags:
    """The tags of one channel that were settled: each once, unbroken runs of acks as one frame."""

    def __init__(self) -> None:
        self._floor = 0  # every tag up to it is settled
        self._above: set[int] = set()  # settled, with an unsettled one below

    def take(self, settled: Iterable[tuple[int, int]]) -> bytes:
        """Return the frames for tags and verdicts; what was settled before gets none.

        A second frame for one tag would make the broker close the channel.
        """
        frames: list[bytes] = []
        acked: set[int] = set()
        for tag, verdict in settled:
            if tag <= self._floor or tag in self._above:
                continue
            if verdict == ACK:
                acked.add(tag)
            elif verdict == ACK_MULTIPLE:
                frames.append(settle_frame(tag, ACK_MULTIPLE))
                self._floor = tag
                self._above = {one for one in self._above if one > tag}
                acked = {one for one in acked if one > tag}
            elif tag not in acked:
                frames.append(settle_frame(tag, verdict))
                self._above.add(tag)
        self._join(acked, frames)
        return b"".join(frames)

    def _join(self, acked: set[int], frames: list[bytes]) -> None:
        floor, above = self._floor, self._above
        run = last = 0
        while True:
            if floor + 1 in acked:
                floor += 1
                acked.discard(floor)
                run, last = run + 1, floor
            elif floor + 1 in above:
                floor += 1
                above.discard(floor)
            else:
                break
        self._floor = floor
        if run:
            frames.append(settle_frame(last, ACK_MULTIPLE if run > 1 else ACK))
        if acked:
            frames += [settle_frame(tag, ACK) for tag in sorted(acked)]
            above |= acked


class DeliveryReader:
    """Puts deliveries together from the frames of the consuming channel.

    Args:
        body_max: bytes of a body that is kept; a larger one is delivered without it.

    Attributes:
        session: the number of the channel, which each delivery bears.
        complete: what was read and not fetched yet.
    """

    def __init__(self, body_max: int) -> None:
        self.session = 0
        self.complete: list[Delivered] = []
        self._body_max = body_max
        self._names: dict[bytes, tuple[bool, str, str]] = {}
        self._method: tuple[int, str, bool, str, str] | None = None
        self._header: bytes | None = None
        self._size = self._missing = 0
        self._parts: list[bytes] = []

    def opened(self, session: int) -> None:
        """Another channel is open: what was read in part never ends."""
        self.session = session
        self._forget()

    def _forget(self) -> None:
        self._method = self._header = None
        self._parts = []

    def feed(self, kind: int, payload: bytes) -> bool:
        """Take a frame of the channel; return False for one that is no part of a delivery."""
        if kind == _METHOD:
            if not payload.startswith(_DELIVER):
                return False
            self._deliver(payload)
            return True
        if self._method is None:
            return False
        if kind == _HEADER:
            self._begin(payload)
        elif kind == _BODY:
            self._more(payload)
        else:
            return False
        return True

    def _deliver(self, payload: bytes) -> None:
        end = 5 + payload[4]
        consumer_tag = payload[5:end].decode("utf-8", "surrogateescape")
        tag = int.from_bytes(payload[end : end + 8])
        rest = payload[end + 8 :]  # whether it was redelivered, exchange, routing key
        names = self._names.get(rest)
        if names is None:
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            names = self._names[rest] = _read_names(rest)
        self._method = (tag, consumer_tag, *names)
        self._header = None

    def _begin(self, payload: bytes) -> None:
        # Class and weight, the body's size, then the property flags and list.
        self._size = self._missing = int.from_bytes(payload[4:12])
        self._header = payload[12:]
        self._parts = []
        if not self._missing:
            self._end(b"")

    def _more(self, payload: bytes) -> None:
        self._missing -= len(payload)
        if self._size <= self._body_max:
            self._parts.append(payload)
        if self._missing <= 0:
            parts = self._parts
            self._end(parts[0] if len(parts) == 1 else b"".join(parts))

    def _end(self, body: bytes) -> None:
        method, header = self._method, self._header
        if method is None or header is None:
            return
        tag, consumer_tag, redelivered, exchange, routing_key = method
        self.complete.append(
            Delivered(
                self.session, tag, consumer_tag, redelivered, exchange, routing_key, header, body,
                self._size,
            )
        )  # fmt: skip
        self._forget()


def _read_names(data: bytes) -> tuple[bool, str, str]:
    """Return whether it was redelivered, the exchange and the routing key, which may be any bytes."""
    exchange_end = 2 + data[1]
    exchange = data[2:exchange_end].decode("utf-8", "surrogateescape")
    routing_key = data[exchange_end + 1 :].decode("utf-8", "surrogateescape")
    return bool(data[0] & 1), exchange, routing_key
