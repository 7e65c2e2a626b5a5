"""Encodes and validates AMQP 0-9-1 field tables and basic properties.

pika's encoder does not support floats, checks lengths with ``assert`` and puts values into its error
messages.

The types are those that RabbitMQ reads (its errata to section 4.2.1): ``I`` and ``l`` are signed integers
of 32 and 64 bits, ``x`` is a byte array, ``d`` a double.
"""

import calendar
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

SHORTSTR_MAX = 255  # AMQP 0-9-1, 4.2.5.3: the length is one octet
TABLE_MAX = 131_072  # bytes; no frame is larger unless broker and clients are configured for it
_DEPTH_MAX = 32  # deeper tables are a mistake, perhaps a cycle


class FieldError(ValueError):
    """AMQP cannot represent a value. The message names the place and the type, never the value."""


def shortstr(what: str, value: object) -> bytes:
    """Return ``value`` as a short string with its length in front."""
    if not isinstance(value, str):
        raise FieldError(f"{what} must be a str, not {type(value).__name__}")
    data = utf8(what, value)
    if len(data) > SHORTSTR_MAX:
        raise FieldError(f"{what} takes {len(data)} bytes of UTF-8; AMQP allows {SHORTSTR_MAX}")
    return len(data).to_bytes(1) + data


def utf8(what: str, value: str) -> bytes:
    """Return ``value`` as UTF-8."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        # Not chained: the error contains the whole text, and would show the value.
        raise FieldError(f"{what} contains a surrogate, which UTF-8 cannot encode") from None


def table(what: str, value: Mapping[str, Any], depth: int = 0) -> bytes:
    """Return a mapping as a field table with its length in front."""
    if depth > _DEPTH_MAX:
        raise FieldError(f"{what} is nested more than {_DEPTH_MAX} deep")
    return _sized(what, _fields(what, value, depth))


def _fields(what: str, value: Mapping[str, Any], depth: int) -> Iterator[bytes]:
    for key, item in value.items():
        # Places are put into words only where an error may need them: that would cost more than encoding.
        if type(key) is str and key.isascii() and len(key) <= SHORTSTR_MAX:
            yield len(key).to_bytes(1) + key.encode()
        else:
            yield shortstr(f"a key of {what}", key)
        yield _plain(item) or _value(f"{what}[{key!r}]", item, depth)


def _plain(value: Any) -> bytes | None:
    """Return a value that needs no check, None for another: the common ones, without an error's words."""
    if value is None:
        return b"V"
    if type(value) is str and value.isascii():
        return b"S" + len(value).to_bytes(4) + value.encode()
    if type(value) is bool:
        return b"t\x01" if value else b"t\x00"
    return None


def _sized(what: str, pieces: Iterable[bytes]) -> bytes:
    """Join pieces and prepend their length; stop as soon as they are too long."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > TABLE_MAX:
            raise FieldError(f"{what} takes more than {TABLE_MAX} bytes")
    return len(data).to_bytes(4) + data


def _value(what: str, value: Any, depth: int) -> bytes:
    for kind, encode in _ENCODERS:
        if isinstance(value, kind):
            return encode(what, value, depth)
    raise FieldError(
        f"{what} is of type {type(value).__name__}, which an AMQP header cannot carry"
    )


def _str(what: str, value: str, _: int) -> bytes:
    data = utf8(what, value)
    return b"S" + len(data).to_bytes(4) + data


def _bytes(_what: str, value: bytes, _: int) -> bytes:
    return b"x" + len(value).to_bytes(4) + value


def _int(what: str, value: int, _: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return struct.pack(">ci", b"I", value)
    if -(2**63) <= value < 2**63:
        return struct.pack(">cq", b"l", value)
    raise FieldError(f"{what} is an int of more than 64 bits")


def _float(what: str, value: float, _: int) -> bytes:
    if not math.isfinite(value):
        raise FieldError(f"{what} is not a finite float; RabbitMQ cannot read it")
    return struct.pack(">cd", b"d", value)


def _decimal(what: str, value: Decimal, _: int) -> bytes:
    if not value.is_finite():
        raise FieldError(f"{what} is a Decimal that is not finite")
    # From its digits: arithmetic would round to the precision of the thread's context.
    sign, digits, exponent = value.as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    power = int(exponent) + len(digits) - len(significant) if significant else 0
    scale, zeros = max(0, -power), max(0, power)
    if scale > 255 or len(significant) + zeros > 10:
        raise FieldError(f"{what} is a Decimal of more digits than AMQP's 32 bits")
    unscaled = int(f"{'-' if sign else ''}{significant or 0}") * 10**zeros
    if not -(2**31) <= unscaled < 2**31:
        raise FieldError(f"{what} is a Decimal of more digits than AMQP's 32 bits")
    return struct.pack(">cBi", b"D", scale, unscaled)


def _datetime(what: str, value: datetime, _: int) -> bytes:
    return b"T" + timestamp(what, value)


def timestamp(what: str, value: datetime | int) -> bytes:
    """Return seconds since 1970 as AMQP's timestamp; a naive datetime is read as UTC."""
    try:
        seconds = calendar.timegm(value.utctimetuple()) if isinstance(value, datetime) else value
    except OverflowError:  # in UTC it is before the year 1 or after 9999
        raise FieldError(f"{what} is out of the range of dates") from None
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise FieldError(f"{what} must be a datetime or whole seconds, not {type(value).__name__}")
    if not 0 <= seconds < 2**63:
        raise FieldError(f"{what} must not be before 1970 or past 63 bits of seconds")
    return seconds.to_bytes(8)


def _mapping(what: str, value: Mapping[str, Any], depth: int) -> bytes:
    return b"F" + table(what, value, depth + 1)


def _sequence(what: str, value: Sequence[Any], depth: int) -> bytes:
    if depth > _DEPTH_MAX:
        raise FieldError(f"{what} is nested more than {_DEPTH_MAX} deep")
    return b"A" + _sized(
        what,
        (
            _plain(item) or _value(f"{what}[{place}]", item, depth + 1)
            for place, item in enumerate(value)
        ),
    )


# bool comes before int: it is a subclass.
_ENCODERS: tuple[tuple[Any, Callable[[str, Any, int], bytes]], ...] = (
    (str, _str),
    (bool, lambda _what, value, _: b"t\x01" if value else b"t\x00"),
    (int, _int),
    (float, _float),
    (bytes, _bytes),
    (type(None), lambda _what, _value, _: b"V"),
    (datetime, _datetime),
    (Decimal, _decimal),
    (Mapping, _mapping),
    (list | tuple, _sequence),
)

# AMQP 0-9-1, 1.8.3: properties in the order in which they are sent; the first has the highest flag.
PROPERTIES = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id",
    "reply_to", "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
)  # fmt: skip
_FLAGS = {name: 1 << (15 - index) for index, name in enumerate(PROPERTIES)}


def basic_properties(values: Mapping[str, Any]) -> bytes:
    """Return the properties that are not None as the flags and list of a content header.

    Args:
        values: by name, a subset of `PROPERTIES`.

    Raises:
        FieldError: AMQP cannot represent a value.
    """
    flags = 0
    pieces = []
    for name in PROPERTIES:
        value = values.get(name)
        if value is None:
            continue
        flags |= _FLAGS[name]
        if name == "headers":
            pieces.append(table("headers", value))
        elif name in ("delivery_mode", "priority"):
            pieces.append(octet(name, value))
        elif name == "timestamp":
            pieces.append(timestamp(name, value))
        else:
            pieces.append(shortstr(name, value))
    return flags.to_bytes(2) + b"".join(pieces)


def octet(what: str, value: object) -> bytes:
    """Return an int from 0 to 255 as one byte."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise FieldError(f"{what} must be an int from 0 to 255")
    return value.to_bytes(1)
