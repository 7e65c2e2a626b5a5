"""Serializers by name and by content type, in both directions. Nothing ever unpickles.

A name may include a compression: ``"json+gzip"``. ``content_encoding`` names it for consumers; ``zlib``
also sets the header that kombu and Celery consumers read (they call the zlib format
``application/x-gzip``).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder

from rmq_publisher.amqp import compression as compressions
from rmq_publisher.amqp.compression import CompressionError, optional_module

msgpack = optional_module("msgpack")
yaml = optional_module("yaml")


class DecodeError(ValueError):
    """A received body is not accepted, or does not match its properties.

    The message names content type, sizes and classes of errors, never a value.
    """


class Encoded(NamedTuple):
    """A body and the properties that describe its format."""

    body: bytes
    content_type: str
    content_encoding: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Serializer:
    """Writes and reads values of one content type; without ``decode`` it only writes."""

    encode: Callable[[Any], bytes]
    content_type: str
    content_encoding: str | None = None
    decode: Callable[[bytes], Any] | None = None


_serializers: dict[str, Serializer] = {}
_compressions: dict[str, tuple[Callable[[bytes], bytes], str, Mapping[str, str]]] = {
    # mtime=0: equal bodies give equal bytes.
    "gzip": (lambda body: gzip.compress(body, mtime=0), "gzip", {}),
    "zlib": (zlib.compress, "deflate", {compressions.HEADER: "application/x-gzip"}),
}
# Serializers that need an extra of this package.
_EXTRAS = ("msgpack", "yaml")
# Charsets of bodies, with Python's names. Some others (idna, unicode_escape) do more than decode.
_CHARSETS = {
    "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1", "latin-1": "latin-1",
    "latin1": "latin-1", "windows-1252": "cp1252", "cp1252": "cp1252", "utf-16": "utf-16",
    "utf-16le": "utf-16-le", "utf-16be": "utf-16-be", "utf-32": "utf-32",
}  # fmt: skip
_AS_THEY_ARE = ("", "utf-8", "utf8", "binary", "identity", "8bit", "ascii-8bit")


def register_serializer(
    name: str,
    encode: Callable[[Any], bytes],
    content_type: str,
    content_encoding: str | None = None,
    decode: Callable[[bytes], Any] | None = None,
) -> None:
    """Make ``serializer=name`` known, and messages of its content type readable by consumers.

    Args:
        name: the name for callers, without ``+``, which separates a compression.
        encode: turns a value into bytes; raises TypeError or ValueError if it cannot.
        content_type: set as the property of its messages.
        content_encoding: the property of that name; None leaves it out.
        decode: turns bytes into a value; raises if it cannot. Without it, consumers get bytes.

    Raises:
        ValueError: the name is empty or holds ``+``.
    """
    if not name or "+" in name:
        raise ValueError(f"a serializer's name must not be empty or hold '+': {name!r}")
    _serializers[name] = Serializer(encode, content_type, content_encoding, decode)


def names() -> tuple[str, ...]:
    """Return the names of all serializers, without compressions."""
    return tuple(sorted(_serializers))


def is_known(name: object) -> bool:
    """Return whether ``name``, with its compression if it has one, can be used."""
    if not isinstance(name, str):
        return False
    base, plus, compression = name.partition("+")
    return base in _serializers and (not plus or compression in _compressions)


def check(name: object) -> None:
    """Raise if ``name``, with its compression if it has one, cannot be used.

    Raises:
        LookupError: no such serializer or compression.
    """
    if is_known(name):
        return
    extra = name.partition("+")[0] if isinstance(name, str) else ""
    if extra in _EXTRAS and extra not in _serializers:
        raise LookupError(f"serializer {name!r} needs a package: install rmq-publisher[{extra}]")
    known = ", ".join(names())
    raise LookupError(
        f"unknown serializer {name!r}: use one of {known} (with +gzip or +zlib to compress) "
        "or register_serializer()"
    )


def encode(name: str, value: Any) -> Encoded:
    """Encode ``value`` with the serializer ``name``.

    Raises:
        LookupError: no such serializer or compression.
        TypeError, ValueError: from the serializer, for a value that it cannot encode.
        RuntimeError: the serializer returned something other than bytes.
    """
    __traceback_hide__ = True  # as in compose()
    check(name)
    base, _, compression = name.partition("+")
    serializer = _serializers[base]
    body: object = serializer.encode(value)
    if not isinstance(body, bytes):  # fail here, not when it is sent
        raise RuntimeError(f"serializer {base!r} must return bytes, not {type(body).__name__}")
    encoded = Encoded(body, serializer.content_type, serializer.content_encoding)
    if not compression:
        return encoded
    compress, content_encoding, headers = _compressions[compression]
    return encoded._replace(
        body=compress(encoded.body),
        content_encoding=content_encoding,
        headers=headers,
    )


def encodes_parts(name: str) -> bool:
    """Return whether a serializer encodes every part of a value that it encodes as a whole.

    Ours do; one of another package may want an object of its own kind, whose parts it refuses.
    """
    return _serializers[name.partition("+")[0]].encode.__module__ == __name__


def compress(encoded: Encoded, compression: str) -> Encoded:
    """Return a body compressed as ``compression`` names it, with kombu's header.

    ``content_encoding`` is not changed: kombu reads it as a charset.

    Raises:
        LookupError: no such compression, or its package is not installed.
        ValueError: the serializer's name already includes a compression.
    """
    how = compressions.method(compression)
    if encoded.content_encoding in ("gzip", "deflate"):
        raise ValueError(
            f"compression={compression!r} and a serializer that compresses: give only one"
        )
    headers = {**encoded.headers, compressions.HEADER: how.content_type}
    return encoded._replace(body=how.compress(encoded.body), headers=headers)


# Reading


def accepted(accept: Iterable[str] | None) -> frozenset[str] | None:
    """Return the content types that ``accept`` lists, directly or by serializer.

    None means all types; those of registered serializers are decoded.

    Raises:
        TypeError: it is not a list of names.
        LookupError: a name is neither a content type nor a serializer that can read.
    """
    if accept is None:
        return None
    if isinstance(accept, str | bytes) or not isinstance(accept, Iterable):
        raise TypeError('accept must be a list of serializers or content types, such as ["json"]')
    found = set()
    for name in accept:
        if isinstance(name, str) and "/" in name:
            found.add(name.lower())
            continue
        check(name)
        if "+" in name or _serializers[name].decode is None:
            raise LookupError(
                f"accept: serializer {name!r} cannot read; accept its content type to get bytes"
            )
        found.add(_serializers[name].content_type.lower())
    return frozenset(found)


def decode(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None = None,
    *,
    compression: object = None,
    accept: Collection[str] | None = None,
    limit: int,
) -> Any:
    """Return the value of a received body.

    Args:
        body: as received.
        content_type: the message's property.
        content_encoding: the message's property: a compression or a charset.
        compression: kombu's header, if the message has it.
        accept: content types, as `accepted` returns them.
        limit: maximum size of the decompressed body in bytes.

    Returns:
        The value that the content type's serializer reads, or bytes if there is no such serializer.

    Raises:
        DecodeError: the body is not accepted or cannot be read.
    """
    __traceback_hide__ = True  # as in compose()
    kind = (content_type or "").partition(";")[0].strip().lower()
    if accept is not None and kind not in accept:
        raise DecodeError(f"content type {kind!r} is not accepted (accept: {sorted(accept)})")
    reader = next(
        (one.decode for one in _serializers.values() if one.content_type.lower() == kind), None
    )
    try:
        data = _decompressed(body, content_encoding or "", compression, limit)
        return data if reader is None else reader(_as_utf8(data, content_encoding or ""))
    except (CompressionError, DecodeError) as error:
        raise DecodeError(str(error)) from None
    except LookupError as error:
        raise DecodeError(str(error.args[0])) from None
    except Exception as error:  # noqa: BLE001 (a reader may raise anything; its message quotes the body)
        raise DecodeError(f"the body is not valid {kind} ({type(error).__name__})") from None


def _decompressed(body: bytes, content_encoding: str, compression: object, limit: int) -> bytes:
    if compression:
        return compressions.decompress(compressions.method(compression), body, limit)
    if how := compressions.content_encoding_method(content_encoding):
        return compressions.decompress(how, body, limit)
    return body


def _as_utf8(data: bytes, content_encoding: str) -> bytes:
    name = content_encoding.lower()
    if name in _AS_THEY_ARE or compressions.content_encoding_method(name):
        return data
    if name not in _CHARSETS:
        raise DecodeError(f"unknown content_encoding {content_encoding[:50]!r}")
    return data.decode(_CHARSETS[name]).encode()


def _json(value: Any) -> bytes:
    __traceback_hide__ = True  # as in compose()
    # NaN and Infinity are not JSON: consumers in other languages refuse them.
    return json.dumps(
        value, cls=DjangoJSONEncoder, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


register_serializer("json", _json, "application/json", decode=json.loads)

if msgpack is not None:

    def _msgpack(value: Any) -> bytes:
        return bytes(msgpack.packb(value, use_bin_type=True))

    def _from_msgpack(data: bytes) -> Any:
        return msgpack.unpackb(data, raw=False)

    register_serializer(
        "msgpack", _msgpack, "application/x-msgpack", "binary", decode=_from_msgpack
    )

if yaml is not None:

    def _yaml(value: Any) -> bytes:
        try:
            return bytes(yaml.safe_dump(value, encoding="utf-8"))
        except yaml.YAMLError:
            raise TypeError(f"YAML cannot hold this {type(value).__name__}") from None

    def _from_yaml(data: bytes) -> Any:
        return yaml.safe_load(data)

    register_serializer("yaml", _yaml, "application/x-yaml", "utf-8", decode=_from_yaml)
