"""Decodes properties and field tables: every type that this package or other clients write.

pika's decoder turns floats into whole numbers, so that the result could not be encoded again.
"""

import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from pika import BasicProperties

from rmq_publisher.amqp.compression import HEADER, content_encoding_method, decompress, method
from rmq_publisher.amqp.encoding import PROPERTIES

Read = tuple[Any, int]  # a value and where the next one begins


def read_properties(header: bytes) -> dict[str, Any]:
    """Return the properties of a content header's flags and list, by name; headers as a dict."""
    flags = int.from_bytes(header[:2])
    at = 2
    values: dict[str, Any] = {}
    for index, name in enumerate(PROPERTIES):
        if flags & 1 << (15 - index):
            values[name], at = _property(name, header, at)
    return values


def read_property(header: bytes, wanted: str) -> Any:
    """Return one property of a content header, or None; its headers are skipped, not decoded."""
    flags = int.from_bytes(header[:2])
    place, at = PROPERTIES.index(wanted), 2
    if not flags & 1 << (15 - place):
        return None
    for index, name in enumerate(PROPERTIES[:place]):
        if flags & 1 << (15 - index):
            _, at = _sized(header, at) if name == "headers" else _property(name, header, at)
    return _property(wanted, header, at)[0]


def read_table(data: bytes) -> dict[str, Any]:
    """Return a field table, with its length in front, as a dict.

    Raises:
        Exception: the bytes are not a table; of many classes.
    """
    values: dict[str, Any] = _table(data, 0)[0]
    return values


def _property(name: str, data: bytes, at: int) -> Read:
    if name == "headers":
        return _table(data, at)
    if name in ("delivery_mode", "priority"):
        return data[at], at + 1
    if name == "timestamp":
        return int.from_bytes(data[at : at + 8]), at + 8
    return _short(data, at)


def _short(data: bytes, at: int) -> Read:
    end = _within(data, at + 1 + data[at])
    return data[at + 1 : end].decode(), end


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    end = _within(data, at + 4 + int.from_bytes(data[at : at + 4]))
    return data[at + 4 : end], end


def _within(data: bytes, end: int) -> int:
    """Refuse a truncated value: a slice would silently return what is left."""
    if end > len(data):
        raise ValueError("the data ends inside a value")
    return end


def _table(data: bytes, at: int) -> Read:
    piece, end = _sized(data, at)
    values: dict[str, Any] = {}
    inside = 0
    while inside < len(piece):
        key, inside = _short(piece, inside)
        values[key], inside = _value(piece, inside)
    return values, end


def _array(data: bytes, at: int) -> Read:
    piece, end = _sized(data, at)
    values = []
    inside = 0
    while inside < len(piece):
        value, inside = _value(piece, inside)
        values.append(value)
    return values, end


def _value(data: bytes, at: int) -> Read:
    return _READERS[data[at : at + 1]](data, at + 1)


def _text(data: bytes, at: int) -> Read:
    piece, end = _sized(data, at)
    try:
        return piece.decode(), end
    except UnicodeDecodeError:
        return piece, end  # AMQP's long strings may be any bytes, and other clients use that


def _fixed(form: str, make: Callable[..., Any]) -> Callable[[bytes, int], Read]:
    kind = struct.Struct(form)

    def read(data: bytes, at: int) -> Read:
        return make(*kind.unpack_from(data, at)), at + kind.size

    return read


def _decimal(scale: int, unscaled: int) -> Decimal:
    return Decimal(unscaled).scaleb(-scale)


def _datetime(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_READERS: dict[bytes, Callable[[bytes, int], Read]] = {
    b"S": _text,
    b"x": _sized,
    b"t": _fixed(">?", bool),
    b"I": _fixed(">i", int),
    b"l": _fixed(">q", int),
    b"d": _fixed(">d", float),
    b"D": _fixed(">Bi", _decimal),
    b"T": _fixed(">Q", _datetime),
    b"F": _table,
    b"A": _array,
    b"V": lambda _, at: (None, at),
    # Written by other clients, never by this package (RabbitMQ's errata to AMQP 0-9-1, table 3).
    b"b": _fixed(">b", int),
    b"B": _fixed(">B", int),
    b"s": _fixed(">h", int),
    b"u": _fixed(">H", int),
    b"i": _fixed(">I", int),
    b"L": _fixed(">q", int),  # Qpid's and py-amqp's; RabbitMQ reads it as l
    b"f": _fixed(">f", float),
}

_TEXT_MAX = 2**27  # bytes of a decompressed body; RabbitMQ 3 accepts none larger


class BrokerMessage:
    """A message as brokers and consumers see it: the encoded bytes, and ways to read them.

    Attributes:
        exchange: exchange it was published to; empty for the default exchange.
        routing_key: routing key.
        header: property flags and property list of AMQP's content header.
        body: the encoded body.
    """

    def __init__(self, exchange: str, routing_key: str, header: bytes, body: bytes) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self.body = body

    @cached_property
    def properties(self) -> BasicProperties:
        """The properties as pika's consumers get them, except that floats in headers stay floats."""
        return BasicProperties(**read_properties(self.header))

    @property
    def headers(self) -> dict[str, Any]:
        """The headers; an empty dict if there are none."""
        return dict(self.properties.headers or {})

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self.properties.message_id or ""

    def text(self) -> str:
        """Return the body, decompressed as its properties say, as text.

        Raises:
            ValueError: it is not text.
        """
        named = self.headers.get(HEADER)
        try:
            how = method(named) if named else None
            how = how or content_encoding_method(self.properties.content_encoding or "")
        except LookupError as error:
            raise ValueError(str(error.args[0])) from None
        return (decompress(how, self.body, _TEXT_MAX) if how else self.body).decode()

    def json(self) -> Any:
        """Return the value of a JSON body, decompressed as its properties say.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.text())

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.message_id} exchange={self.exchange!r} "
            f"routing_key={self.routing_key!r} {len(self.body)} bytes>"
        )
