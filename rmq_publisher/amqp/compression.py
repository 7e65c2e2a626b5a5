"""Compression of bodies, with kombu's names.

kombu writes a content type into the header ``compression``. Its ``gzip`` is the zlib format; the format
of gzip files is declared by ``content_encoding`` instead. Decompression stops at a limit.
"""

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


def optional_module(name: str) -> Any:
    """Return a module that an extra of this package installs; None if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


brotli = optional_module("brotli")
zstd = optional_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

HEADER = "compression"
# Preset 9 of lzma needs 65 MiB; a body may ask for up to 4 GiB.
_LZMA_MEMORY = 96 * 2**20  # bytes


class CompressionError(ValueError):
    """The body is not in the named format, is truncated, or exceeds the limit."""


class _Brotli:
    """brotli's decompressor with the interface of the others."""

    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return bytes(self._decompressor.process(data, output_buffer_limit=max_length))


@dataclass(frozen=True, slots=True)
class Method:
    """A compression method.

    Attributes:
        content_type: kombu's name for it.
        compress: compresses bytes.
        decompressor: makes an object with ``decompress(data, max_length)``, ``eof``, ``unused_data``.
        extra: the extra of this package that it needs; empty if Python includes it.
        installed: whether it can be used.
    """

    content_type: str
    compress: Callable[[bytes], bytes]
    decompressor: Callable[[], Any]
    extra: str = ""
    installed: bool = True


_ZLIB = Method("application/x-gzip", zlib.compress, zlib.decompressobj)
_BZIP2 = Method("application/x-bz2", bz2.compress, bz2.BZ2Decompressor)
_LZMA = Method(
    "application/x-lzma", lzma.compress, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
)
_BROTLI = Method(
    "application/x-brotli",
    lambda body: bytes(brotli.compress(body)),
    _Brotli,
    "brotli",
    installed=brotli is not None,
)
_ZSTD = Method(
    "application/zstd",
    lambda body: bytes(zstd.compress(body)),
    lambda: zstd.ZstdDecompressor(),  # noqa: PLW0108 (it may not be installed)
    "zstandard",
    installed=zstd is not None,
)
_GZIP_FILE = Method("gzip", zlib.compress, lambda: zlib.decompressobj(16 + zlib.MAX_WBITS))

_NAMES = {
    "gzip": _ZLIB, "zlib": _ZLIB, "bzip2": _BZIP2, "bzip": _BZIP2, "lzma": _LZMA, "xz": _LZMA,
    "brotli": _BROTLI, "zstd": _ZSTD, "zstandard": _ZSTD,
}  # fmt: skip
_METHODS = {**_NAMES, **{method.content_type: method for method in _NAMES.values()}}
_CONTENT_ENCODINGS = {
    "gzip": _GZIP_FILE, "x-gzip": _GZIP_FILE, "deflate": _ZLIB, "br": _BROTLI, "zstd": _ZSTD,
}  # fmt: skip


def names() -> tuple[str, ...]:
    """Return the names that callers may use."""
    return tuple(sorted(_NAMES))


def method(name: object) -> Method:
    """Return the method with this name or kombu content type.

    Raises:
        LookupError: there is none, or its package is not installed.
    """
    found = _METHODS.get(name) if isinstance(name, str) else None
    if found is None:
        raise LookupError(f"unknown compression {name!r}: use one of {', '.join(names())}")
    if not found.installed:
        raise LookupError(
            f"compression {name!r} needs a package: install rmq-publisher[{found.extra}]"
        )
    return found


def content_encoding_method(name: str) -> Method | None:
    """Return the method that a ``content_encoding`` names; None if it names none.

    Raises:
        LookupError: its package is not installed.
    """
    found = _CONTENT_ENCODINGS.get(name.lower())
    return found if found is None or found.installed else method(found.content_type)


def decompress(how: Method, body: bytes, limit: int) -> bytes:
    """Return the decompressed body.

    Args:
        how: the method.
        body: one complete compressed stream.
        limit: maximum size of the result in bytes.

    Raises:
        CompressionError: it is not such a stream, is truncated, has trailing data, or is too large.
    """
    decompressor = how.decompressor()
    try:
        data: bytes = decompressor.decompress(body, limit + 1)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (each library has its own errors, with no useful text)
        raise CompressionError(
            f"the body is not compressed as {how.content_type} ({type(error).__name__})"
        ) from None
    if len(data) > limit:
        raise CompressionError(f"the body has more than {limit} bytes when it is decompressed")
    if not decompressor.eof or decompressor.unused_data:
        raise CompressionError(f"the body is cut short or is not one {how.content_type} stream")
    return data
