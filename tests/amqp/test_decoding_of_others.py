"""Headers as other clients write them: types that this package reads and never writes."""

import struct

import pytest

from rmq_publisher.amqp.decoding import read_properties

HEADERS = 1 << 13  # the property's flag


def header(value: bytes) -> bytes:
    """A content header whose one header ``h`` has a value of these bytes."""
    table = b"\x01h" + value
    return HEADERS.to_bytes(2) + len(table).to_bytes(4) + table


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"b" + struct.pack(">b", -5), -5), (b"B" + b"\xfb", 251),
        (b"s" + struct.pack(">h", -500), -500), (b"u" + struct.pack(">H", 60_000), 60_000),
        (b"i" + struct.pack(">I", 2**31), 2**31), (b"L" + struct.pack(">q", -(2**40)), -(2**40)),
        (b"f" + struct.pack(">f", 1.5), 1.5), (b"S\x00\x00\x00\x01\xff", b"\xff"),
    ],
)  # fmt: skip
def test_types_of_others_are_read(value: bytes, meant: object) -> None:
    assert read_properties(header(value)) == {"headers": {"h": meant}}
