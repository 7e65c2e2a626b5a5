"""Compressed bodies: kombu's names, and what is refused before it can fill the memory."""

import gzip
import lzma
import tracemalloc
import zlib

import brotli
import pytest
from kombu import compression as kombus

from rmq_publisher.amqp import compression
from rmq_publisher.amqp.compression import (
    CompressionError,
    content_encoding_method,
    decompress,
    method,
    names,
)

LIMIT = 2**20
METHODS = ["gzip", "bzip2", "lzma", "brotli", "zstandard"]


@pytest.mark.parametrize("name", names())
def test_kombu_knows_every_name_and_reads_what_is_written_by_it(name):
    how = method(name)
    assert kombus.get_encoder(name)[1] == how.content_type
    assert kombus.decompress(how.compress(b"body" * 99), how.content_type) == b"body" * 99


@pytest.mark.parametrize("name", names())
def test_what_kombu_compressed_is_read(name):
    body, content_type = kombus.compress(b"body" * 99, name)
    assert decompress(method(content_type), body, LIMIT) == b"body" * 99


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_body_may_have_as_many_bytes_as_the_limit_and_not_one_more(name, size):
    how = method(name)
    assert decompress(how, how.compress(b"x" * size), LIMIT) == b"x" * size
    if size:
        with pytest.raises(CompressionError, match=f"more than {size - 1} bytes"):
            decompress(how, how.compress(b"x" * size), size - 1)


@pytest.mark.parametrize("name", METHODS)
def test_a_bomb_takes_no_more_memory_than_the_limit_allows(name):
    how = method(name)
    bomb = how.compress(bytes(64 * LIMIT))
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError, match="more than"):
            decompress(how, bomb, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spoil", ["cut", "empty", "other", "more"])
def test_what_is_no_whole_stream_is_refused(name, spoil):
    how = method(name)
    whole = how.compress(bytes(range(256)) * 9)
    body = {"cut": whole[:-5], "empty": b"", "other": b"hello", "more": whole + b"rest"}[spoil]
    with pytest.raises(CompressionError):
        decompress(how, body, LIMIT)


def test_a_dictionary_of_gigabytes_is_refused():
    """An lzma stream says itself how much memory its reader needs."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 2**28}]
    body = lzma.compress(b"x", filters=filters)
    with pytest.raises(CompressionError):
        decompress(method("lzma"), body, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"x", mtime=0)), ("GZIP", gzip.compress(b"x", mtime=0)),
        ("deflate", zlib.compress(b"x")), ("br", brotli.compress(b"x")),
    ],
)  # fmt: skip
def test_content_encodings_of_http_are_read(encoding, body):
    assert decompress(content_encoding_method(encoding), body, LIMIT) == b"x"


def test_a_charset_is_no_compression():
    assert content_encoding_method("utf-8") is None


@pytest.mark.parametrize("name", ["", "rar", None, 5, b"gzip", "GZIP"])
def test_an_unknown_name_is_told_with_those_that_are_known(name):
    with pytest.raises(LookupError, match="use one of brotli, bzip, bzip2, gzip, lzma"):
        method(name)


def test_what_is_not_installed_is_told_with_the_extra_that_brings_it(monkeypatch):
    missing = compression.Method("application/zstd", bytes, bytes, "zstandard", installed=False)
    monkeypatch.setitem(compression._METHODS, "application/zstd", missing)
    monkeypatch.setitem(compression._METHODS, "zstd", missing)
    monkeypatch.setitem(compression._CONTENT_ENCODINGS, "zstd", missing)
    for read in (method, content_encoding_method):
        with pytest.raises(LookupError, match=r"install rmq-publisher\[zstandard\]"):
            read("zstd")
