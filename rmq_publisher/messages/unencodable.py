"""Finds the part of a body that a serializer cannot encode: its place and type, never its value."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rmq_publisher import serialization

DEPTH = 50  # levels that are followed
KEY_LENGTH = 50
INDEX_MAX = 10**6


def culprit(serializer: str, body: Any) -> str:
    """Say which part of a body a serializer cannot encode.

    Args:
        serializer: its name, with or without a compression.
        body: what it has raised an error for.

    Returns:
        For example ``body["items"][3]: set``, or ``this dict`` for a serializer that may encode a
        whole whose parts it refuses.
    """
    __traceback_hide__ = True  # as in compose()
    if not serialization.encodes_parts(serializer):
        return f"this {type(body).__name__}"
    place, value, above = "body", body, [body]
    while found := _bad_part(serializer, value):
        index, value = found
        place += index
        if any(value is one for one in above):
            return f"{place}: a {type(value).__name__} that contains itself"
        if len(above) == DEPTH:
            return f"{place}: nested too deeply"
        above.append(value)
    return f"{place}: {_kind(serializer, value)}"


def _bad_part(serializer: str, value: Any) -> tuple[str, Any] | None:
    """Return the index and the value of the first part that cannot be encoded."""
    __traceback_hide__ = True
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, part in parts:
        if not _encodes(serializer, part):
            return f"[{_index(key)}]", part
    return None


def _encodes(serializer: str, value: Any) -> bool:
    __traceback_hide__ = True
    try:
        serialization.encode(serializer, value)
    except Exception:  # noqa: BLE001 (any error means no; the caller reports the one of the whole)
        return False
    return True


def _index(key: object) -> str:
    """Return a key that looks like a name or an index, and the type of any other: it may be data."""
    if isinstance(key, int) and abs(key) < INDEX_MAX:
        return str(int(key))
    if isinstance(key, str) and key.isidentifier() and len(key) <= KEY_LENGTH:
        return json.dumps(str(key), ensure_ascii=False)
    return f"<{type(key).__name__}>"


def _kind(serializer: str, value: Any) -> str:
    """Return the type of what cannot be encoded, and the reason if the type is not the reason."""
    __traceback_hide__ = True
    kind = type(value).__name__
    if isinstance(value, float):
        return f"{kind} that is not finite"
    if isinstance(value, str):
        return f"{kind} with a surrogate"
    if isinstance(value, Mapping):  # all its values can be encoded
        for key in value:
            if not _encodes(serializer, {key: None}):
                return f"{kind} with a key that is a {_kind(serializer, key)}"
    return kind
