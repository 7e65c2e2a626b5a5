"""Serializers by name. Nothing here reads a message, and nothing ever unpickles.

A name may carry a compression: ``"json+gzip"``. Compressed bodies say so in ``content_encoding``;
``zlib`` also carries the header by which kombu and Celery consumers recognise it (their name for the
zlib format is ``application/x-gzip``).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body and the properties that say how to read it."""

    body: bytes
    content_type: str
    content_encoding: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_serializers: dict[str, tuple[Callable[[Any], bytes], str, str | None]] = {}
_compressions: dict[str, tuple[Callable[[bytes], bytes], str, Mapping[str, str]]] = {
    # mtime=0: the same body gives the same bytes.
    "gzip": (lambda body: gzip.compress(body, mtime=0), "gzip", {}),
    "zlib": (zlib.compress, "deflate", {"compression": "application/x-gzip"}),
}


def register_serializer(
    name: str,
    encode: Callable[[Any], bytes],
    content_type: str,
    content_encoding: str | None = None,
) -> None:
    """Make ``serializer=name`` known.

    Args:
        name: what callers write; no ``+``, which separates a compression.
        encode: makes bytes of a value; raises TypeError or ValueError for what it cannot.
        content_type: the property of messages that it made.
        content_encoding: likewise; None leaves it out.

    Raises:
        ValueError: the name is empty or holds ``+``.
    """
    if not name or "+" in name:
        raise ValueError(f"a serializer's name must not be empty or hold '+': {name!r}")
    _serializers[name] = (encode, content_type, content_encoding)


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
    """Raise where ``name``, with its compression if it has one, cannot be used.

    Raises:
        LookupError: no such serializer or compression.
    """
    if not is_known(name):
        known = ", ".join(names())
        raise LookupError(
            f"unknown serializer {name!r}: use one of {known} (with +gzip or +zlib to compress) "
            "or register_serializer()"
        )


def encode(name: str, value: Any) -> Encoded:
    """Encode ``value`` with the serializer ``name``.

    Raises:
        LookupError: no such serializer or compression.
        TypeError, ValueError: what the serializer raises for a value that it cannot encode.
        RuntimeError: it made something else than bytes.
    """
    __traceback_hide__ = True  # as in compose()
    check(name)
    base, _, compression = name.partition("+")
    make, content_type, content_encoding = _serializers[base]
    body: object = make(value)
    if not isinstance(body, bytes):  # found here, not where it is put on the wire
        raise RuntimeError(f"serializer {base!r} must return bytes, not {type(body).__name__}")
    encoded = Encoded(body, content_type, content_encoding)
    if not compression:
        return encoded
    compress, content_encoding, headers = _compressions[compression]
    return replace(
        encoded,
        body=compress(encoded.body),
        content_encoding=content_encoding,
        headers=headers,
    )


def _json(value: Any) -> bytes:
    __traceback_hide__ = True  # as in compose()
    # NaN and Infinity are not JSON: consumers in other languages refuse them.
    return json.dumps(
        value, cls=DjangoJSONEncoder, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


register_serializer("json", _json, "application/json")
