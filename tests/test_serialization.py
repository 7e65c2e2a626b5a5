"""Serializers by name: JSON as Django means it, compression, others by registration."""

import gzip
import json
import math
import pickle
import uuid
import zlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher import serialization
from rmq_publisher.serialization import encode, is_known, names, register_serializer

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is gone afterwards."""
    monkeypatch.setattr(serialization, "_serializers", dict(serialization._serializers))


@given(json_values)
def test_json_comes_back(value):
    encoded = encode("json", value)
    assert json.loads(encoded.body) == value
    assert (encoded.content_type, encoded.content_encoding) == ("application/json", None)
    assert encoded.headers == {}


@given(json_values)
def test_gzip_and_zlib_come_back_and_say_so(value):
    plain = encode("json", value).body
    zipped = encode("json+gzip", value)
    assert gzip.decompress(zipped.body) == plain
    assert (zipped.content_type, zipped.content_encoding) == ("application/json", "gzip")
    assert zipped.headers == {}
    deflated = encode("json+zlib", value)
    assert zlib.decompress(deflated.body) == plain
    assert (deflated.content_type, deflated.content_encoding) == ("application/json", "deflate")
    # kombu and Celery know the zlib format by this name, in this header.
    assert deflated.headers == {"compression": "application/x-gzip"}


def test_the_same_value_gives_the_same_bytes():
    assert encode("json+gzip", {"a": 1}) == encode("json+gzip", {"a": 1})


def test_json_is_compact_utf8():
    assert encode("json", {"a": [1, "é"]}).body == '{"a":[1,"é"]}'.encode()


def test_json_takes_what_django_takes():
    value = {
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "price": Decimal("1.10"),
        "id": uuid.UUID(int=7),
        "wait": timedelta(seconds=90),
        "label": gettext_lazy("yes"),
    }
    assert json.loads(encode("json", value).body) == {
        "when": "2026-01-02T03:04:05Z",
        "day": "2026-01-02",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000007",
        "wait": "P0DT00H01M30S",
        "label": "yes",
    }


@pytest.mark.parametrize(
    "value", [math.nan, [math.inf], {"a": -math.inf}, object(), b"x", {1j: 2}]
)
def test_what_is_not_json_raises(value):
    with pytest.raises((TypeError, ValueError)):
        encode("json", value)


def test_a_cycle_raises():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        encode("json", value)


@pytest.mark.parametrize(
    "name",
    ["nope", "", "+", "+gzip", "json+", "json+lzma", "json+gzip+zlib", "JSON", None, 5, b"json"],
)
def test_an_unknown_name_is_told_with_those_that_are_known(name):
    assert not is_known(name)
    with pytest.raises(LookupError, match="use one of json"):
        encode(name, {})


@pytest.mark.parametrize("name", ["json", "json+gzip", "json+zlib"])
def test_known_names(name):
    assert is_known(name)


def test_another_serializer_is_registered_and_compressed_too(registry):
    register_serializer("csv", lambda row: ",".join(row).encode(), "text/csv", "utf-8")
    assert names() == ("csv", "json")
    encoded = encode("csv", ["a", "b"])
    assert (encoded.body, encoded.content_type, encoded.content_encoding) == (
        b"a,b",
        "text/csv",
        "utf-8",
    )
    zipped = encode("csv+gzip", ["a"])
    assert gzip.decompress(zipped.body) == b"a"
    assert zipped.content_encoding == "gzip"


@pytest.mark.parametrize("name", ["", "a+b", "+"])
def test_a_name_that_could_not_be_told_from_a_compression_is_refused(name):
    with pytest.raises(ValueError, match="serializer's name"):
        register_serializer(name, str.encode, "text/plain")


@pytest.mark.parametrize("made", ["text", bytearray(b"x"), None, 5])
@pytest.mark.parametrize("name", ["bad", "bad+gzip"])
def test_a_serializer_that_makes_no_bytes_is_found_out_at_once(registry, made, name):
    """Else the body would break the frame inside a commit hook, or in the I/O thread."""
    register_serializer("bad", lambda _: made, "text/plain")
    words = f"serializer 'bad' must return bytes, not {type(made).__name__}"
    with pytest.raises(RuntimeError, match=words):
        encode(name, {})


def test_nothing_here_ever_unpickles():
    """The room makes bytes and reads none: not one function of it takes bytes apart."""
    text = Path(serialization.__file__).read_text()
    for word in ("import pickle", "marshal", "loads", "decompress", "eval(", "import_string"):
        assert word not in text
    assert "pickle" not in names()
    with pytest.raises(TypeError):
        encode("json", pickle.dumps("x"))
