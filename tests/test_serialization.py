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
from rmq_publisher.serialization import (
    DecodeError,
    accepted,
    compress,
    decode,
    encode,
    is_known,
    names,
    register_serializer,
)

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
    assert set(names()) >= {"csv", "json"}
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
    """No function of it can make an object of what a message names."""
    text = Path(serialization.__file__).read_text()
    for word in ("import pickle", "marshal", "yaml.load", "eval(", "import_string"):
        assert word not in text
    assert "pickle" not in names()
    with pytest.raises(TypeError):
        encode("json", pickle.dumps("x"))


# -- reading ------------------------------------------------------------------------------------

LIMIT = 2**20


def read(body, content_type="application/json", content_encoding=None, **options):
    accept = accepted(options.pop("accept", None))
    return decode(body, content_type, content_encoding, accept=accept, limit=LIMIT, **options)


@pytest.mark.parametrize("name", ["json", "msgpack", "yaml"])
@given(value=json_values)
def test_what_a_serializer_wrote_it_reads(name, value):
    try:
        encoded = encode(name, value)
    except OverflowError:
        return  # msgpack has 64 bits
    got = read(encoded.body, encoded.content_type, encoded.content_encoding, accept=[name])
    assert got == value or name == "yaml"  # YAML keeps no control characters


@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_what_was_compressed_by_name_comes_back(compression):
    encoded = encode("json", {"a": 1})
    if compression:
        encoded = compress(encoded, compression)
    assert read(encoded.body, compression=encoded.headers.get("compression")) == {"a": 1}


@pytest.mark.parametrize("name", ["json+gzip", "json+zlib"])
def test_what_was_compressed_by_the_serializers_name_comes_back(name):
    encoded = encode(name, {"a": 1})
    kombus = encoded.headers.get("compression")
    assert read(encoded.body, content_encoding=encoded.content_encoding, compression=kombus) == {
        "a": 1
    }
    with pytest.raises(ValueError, match="give only one"):
        compress(encoded, "gzip")


def test_types_that_no_serializer_reads_are_bytes():
    pickled = pickle.dumps({"a": 1})
    assert read(pickled, "application/x-python-serialize") == pickled
    assert read(b"plain", "text/plain") == b"plain"
    assert read(b"none", None) == b"none"


@pytest.mark.parametrize(
    ("content_type", "accept"),
    [
        ("application/x-python-serialize", ["json"]), (None, ["json"]), ("text/plain", ["json"]),
        ("application/json", ["yaml"]), ("application/json", []), ("application/json", ["text/plain"]),
    ],
)  # fmt: skip
def test_what_is_not_accepted_is_not_read(content_type, accept):
    with pytest.raises(DecodeError, match="not accepted"):
        read(b'{"a":1}', content_type, accept=accept)


def test_types_are_accepted_by_serializer_and_by_their_own_name():
    assert accepted(["json", "Text/Plain"]) == {"application/json", "text/plain"}
    assert read(b"x", "text/plain; charset=utf-8", accept=["text/plain"]) == b"x"


@pytest.mark.parametrize(
    ("accept", "error"),
    [("json", TypeError), (5, TypeError), (["nope"], LookupError), (["pickle"], LookupError),
     (["json+gzip"], LookupError)],
)  # fmt: skip
def test_accept_names_what_can_be_read(accept, error):
    with pytest.raises(error):
        accepted(accept)


@pytest.mark.parametrize(
    ("body", "content_type", "content_encoding", "compression"),
    [
        (b"{", "application/json", None, None),
        (b"\xff\xfe", "application/json", "utf-8", None),
        (b"[" * 100_000, "application/json", None, None),
        (b"1" * 5000, "application/json", None, None),
        (b'"\xe4"', "application/json", "rot13", None),
        (b'"xn--"', "application/json", "idna", None),
        (b'"x"', "application/json", "unicode_escape", None),
        (b'"x"', "application/json", "gzip", None),
        (b'"x"', "application/json", None, "application/x-gzip"),
        (b'"x"', "application/json", None, "application/x-nothing"),
        (b'"x"', "application/json", None, 5),
        (zlib.compress(bytes(2 * LIMIT)), "application/json", None, "application/x-gzip"),
        (gzip.compress(bytes(2 * LIMIT)), "application/json", "gzip", None),
        (b"\xc1", "application/x-msgpack", None, None),
        (b"\x91" * 100_000, "application/x-msgpack", None, None),
        (b"!!python/object/apply:os.system ['true']", "application/x-yaml", None, None),
        (b"a: [", "application/x-yaml", None, None),
    ],
)  # fmt: skip
def test_hostile_bodies_are_refused_without_a_word_of_theirs(
    body, content_type, content_encoding, compression
):
    with pytest.raises(DecodeError) as caught:
        read(body, content_type, content_encoding, compression=compression)
    assert caught.value.__cause__ is None
    assert "os.system" not in str(caught.value)


def test_charsets_of_others_are_read():
    assert read('"ä"'.encode("latin-1"), content_encoding="ISO-8859-1") == "ä"
    assert read('"ä"'.encode("utf-16"), content_encoding="utf-16") == "ä"


def test_a_reader_that_raises_tells_only_the_kind(registry):
    def broken(data):
        raise RuntimeError(data.decode())

    register_serializer("odd", str.encode, "text/odd", decode=broken)
    with pytest.raises(DecodeError, match=r"is not valid text/odd \(RuntimeError\)$"):
        read(b"secret", "text/odd")


def test_an_extra_that_is_not_installed_is_told(registry):
    del serialization._serializers["yaml"]
    with pytest.raises(LookupError, match=r"install rmq-publisher\[yaml\]"):
        encode("yaml", {})
