"""Field tables and basic properties as bytes: pika reads back what was given, or it is refused."""

import decimal
import math
import re
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rmq_publisher.amqp.encoding import (
    PROPERTIES,
    TABLE_MAX,
    FieldError,
    basic_properties,
    octet,
    shortstr,
    table,
    timestamp,
    utf8,
)

SECRET = "s3cr3t-value"

text = st.text(st.characters(exclude_categories=["Cs"]))
short_text = text.filter(lambda value: len(value.encode()) <= 255)
keys = short_text
ints = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
zones = st.timezones() | st.just(UTC) | st.none()
datetimes = st.datetimes(
    datetime.fromisoformat("1970-01-03"), datetime.fromisoformat("9999-12-30"), timezones=zones
)
decimals = st.builds(
    lambda unscaled, scale: Decimal(unscaled).scaleb(-scale),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 28),
)
scalars = st.none() | st.booleans() | ints | floats | text | st.binary() | datetimes | decimals
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(keys, values, max_size=6)


def read(value):
    """What pika makes of it: it reads doubles as ints, seconds only, and no tuples."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return int(value)
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware.replace(microsecond=0, fold=0)
    if isinstance(value, dict):
        return {key: read(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [read(item) for item in value]
    return value


def decoded(header: bytes) -> BasicProperties:
    properties = BasicProperties()
    properties.decode(header)
    return properties


def types(value):
    """Types too: True is 1 to ==, and b"" is not ""."""
    if isinstance(value, dict):
        return {key: types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [types(item) for item in value]
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


# -- what is accepted comes back --------------------------------------------------------------


@given(tables)
def test_every_table_is_read_by_pika_as_it_was_given(headers):
    came = decoded(basic_properties({"headers": headers})).headers
    assert came == read(headers)
    assert types(came) == types(read(headers))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{
                name: short_text
                for name in PROPERTIES
                if name not in ("headers", "delivery_mode", "priority", "timestamp")
            },
            "headers": tables,
            "delivery_mode": st.integers(0, 255),
            "priority": st.integers(0, 255),
            "timestamp": st.integers(0, 2**63 - 1),
        },
    )
)
def test_every_set_of_properties_is_read_by_pika_as_it_was_given(given_values):
    came = vars(decoded(basic_properties(given_values)))
    expected = dict.fromkeys(PROPERTIES) | given_values
    expected["headers"] = read(expected["headers"])
    assert came == expected


@given(floats)
def test_a_float_is_a_double_on_the_wire(value):
    """pika reads doubles as ints, so this one is read by hand."""
    assert table("t", {"k": value})[4:] == b"\x01kd" + struct.pack(">d", value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", b"S"), (b"x", b"x"), (True, b"t"), (1, b"I"), (2**31, b"l"), (-(2**31) - 1, b"l"),
        (1.5, b"d"), (None, b"V"), (Decimal("1.5"), b"D"), (datetime(2026, 1, 1, tzinfo=UTC), b"T"),
        ({}, b"F"), ([], b"A"), ((), b"A"),
    ],
)  # fmt: skip
def test_the_types_are_those_that_rabbitmq_reads(value, kind):
    assert table("t", {"k": value})[6:7] == kind


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1.2345"), Decimal("-0.0001"), Decimal("1E+3"), Decimal(2147483647),
        Decimal(-2147483648), Decimal("0.2147483647"), Decimal("1.50"), Decimal("0E+900000"),
        Decimal("0E-900000"), Decimal("1E-255"), Decimal("-0"), Decimal(1000000000),
        Decimal("1.0000000000000000000000000000000000000000"),
    ],
)  # fmt: skip
def test_a_decimal_comes_back_equal_whatever_the_context(value):
    with decimal.localcontext() as context:
        context.prec = 2  # an application's own; what is sent must not depend on it
        context.traps[decimal.Inexact] = False
        header = basic_properties({"headers": {"k": value}})
    with decimal.localcontext(decimal.Context(prec=50)):
        assert decoded(header).headers == {"k": value}


def test_a_naive_datetime_is_taken_as_utc_as_pika_does():
    naive = datetime.fromisoformat("2026-07-01T12:30:15")
    assert timestamp("t", naive) == timestamp("t", naive.replace(tzinfo=UTC))
    ahead = timezone(timedelta(hours=2))
    assert timestamp("t", naive.replace(tzinfo=ahead)) == timestamp(
        "t", naive - timedelta(hours=2)
    )


def test_enumerations_are_their_values():
    class Colour(StrEnum):
        RED = "red"

    class Level(IntEnum):
        HIGH = 9

    headers = {"colour": Colour.RED, "level": Level.HIGH, Colour.RED: 1}
    assert decoded(basic_properties({"headers": headers})).headers == {
        "colour": "red",
        "level": 9,
        "red": 1,
    }
    assert octet("priority", Level.HIGH) == b"\x09"


def test_none_is_left_out_of_the_properties():
    assert basic_properties(dict.fromkeys(PROPERTIES)) == b"\0\0"


@given(short_text)
def test_short_strings_carry_their_length(value):
    data = value.encode()
    assert shortstr("it", value) == bytes([len(data)]) + data


def test_a_short_string_has_255_bytes_not_characters():
    assert len(shortstr("it", "é" * 127 + "x")) == 256
    with pytest.raises(FieldError, match="it takes 256 bytes"):
        shortstr("it", "é" * 128)


# -- what is refused --------------------------------------------------------------------------


def _cyclic_list():
    value = [SECRET]
    value.append(value)
    return value


def _cyclic_dict():
    value = {"name": SECRET}
    value["itself"] = value
    return value


def _nested(depth):
    value = SECRET
    for _ in range(depth):
        value = [value]
    return value


UNENCODABLE = [
    object(), {1, 2}, frozenset(), bytearray(b"x"), memoryview(b"x"), 1j, range(3), SECRET.split,
    2**63, -(2**63) - 1, 10**400,
    math.nan, math.inf, -math.inf,
    Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal(2**31), Decimal("2147483648E-3"),
    Decimal("1E+10"), Decimal("1E+1000000"), Decimal("1E+999999999999999999"), Decimal("1E-256"),
    Decimal("1.0000000000000000000000000000000000000001"),
    datetime.fromisoformat("1969-12-31T23:59:59"), datetime.fromisoformat("1970-01-01T00:00+01:00"),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
    timedelta(1), date.fromisoformat("2026-01-01"), clock.fromisoformat("12:00"),
    "\ud800" + SECRET, {"key\udfff": 1}, {"k" * 256: SECRET}, {1: SECRET}, {b"k": SECRET},
    {None: 1}, [SECRET, object()], {"k": {"l": [object()]}},
    _cyclic_list(), _cyclic_dict(), _nested(40),
]  # fmt: skip


@pytest.mark.parametrize("value", UNENCODABLE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": v}])
def test_what_a_header_cannot_carry_is_refused_without_its_value(value, wrap):
    with pytest.raises(FieldError) as caught:
        table("headers", {"name": wrap(value)})
    assert SECRET not in str(caught.value)
    assert "headers" in str(caught.value)


def test_a_table_that_doubles_at_each_level_is_refused_before_it_fills_the_memory():
    value: list[object] = []
    for _ in range(30):
        value = [value, value]
    with pytest.raises(FieldError, match="bytes"):
        table("headers", {"k": value})


@pytest.mark.parametrize(
    "name",
    [n for n in PROPERTIES if n not in ("headers", "delivery_mode", "priority", "timestamp")],
)
@pytest.mark.parametrize("value", [b"x", 5, 1.5, True, ["x"], "\ud800", "é" * 128, "x" * 256])
def test_a_property_that_is_no_short_string_is_refused(name, value):
    with pytest.raises(FieldError, match=name):
        basic_properties({name: value})


@pytest.mark.parametrize("name", ["delivery_mode", "priority"])
@pytest.mark.parametrize("value", [-1, 256, 1.0, True, "1", b"1", Decimal(1)])
def test_an_octet_is_an_int_from_0_to_255(name, value):
    with pytest.raises(FieldError, match=f"{name} must be an int from 0 to 255"):
        basic_properties({name: value})


@pytest.mark.parametrize(
    "value", [-1, 2**63, True, 1.5, "2026", datetime.fromisoformat("1960-01-01"), timedelta(1)]
)
def test_a_timestamp_is_a_datetime_or_whole_seconds_since_1970(value):
    with pytest.raises(FieldError, match="timestamp"):
        basic_properties({"timestamp": value})


def test_a_surrogate_is_refused_and_the_text_not_shown_by_the_chain():
    with pytest.raises(FieldError) as caught:
        utf8("it", SECRET + "\udc80")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


class Counting(Mapping[str, str]):
    """A megabyte of headers; counts how many of them are looked at."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 1000

    def __iter__(self) -> Iterator[str]:
        return (f"k{number}" for number in range(len(self)))

    def __getitem__(self, key: str) -> str:
        self.read += 1
        return "x" * 1000


def test_no_more_is_read_than_it_takes_to_know() -> None:
    headers = Counting()
    with pytest.raises(FieldError, match=f"more than {TABLE_MAX} bytes"):
        table("headers", headers)
    assert headers.read <= TABLE_MAX // 1000 + 1


def test_what_cannot_be_sent_is_named_by_its_place():
    with pytest.raises(FieldError, match=re.escape("headers['a'][1]['b'] is of type object")):
        table("headers", {"a": [0, {"b": object()}]})
