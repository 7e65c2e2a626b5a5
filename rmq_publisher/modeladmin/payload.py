"""A message's body, properties and headers as readable text, whatever they hold."""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.modeladmin.formatting import exact, visible

TEXT_MAX = 65_536  # characters of a body that a page shows
HEX_MAX = 4_096  # bytes, where it is shown in hexadecimal
JSON_MAX = 2**20  # bytes of JSON that are indented; longer JSON is shown unchanged
INDENT_MAX = 40  # levels of indentation
NESTED_MAX = 50  # levels of headers, more than any message of ours has
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Shown:
    """A body as a page shows it.

    Attributes:
        kind: "json", "text", "hex" or "empty".
        text: without invisible characters; not yet escaped for HTML.
        cut: whether the body is longer.
    """

    kind: str
    text: str
    cut: bool


def shown(body: bytes) -> Shown:
    """Return a body as indented JSON, as text, or else in hexadecimal."""
    if not body:
        return Shown("empty", "", cut=False)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _hex(body)
    if (indented := _indented(text)) is not None:
        return _text("json", indented)
    # Text may hold a stray control character; data has many.
    beginning = text[:TEXT_MAX]
    if len(_CONTROL.findall(beginning)) * 10 > len(beginning):
        return _hex(body)
    return _text("text", text)


def text(content: str) -> Shown:
    """Return text without invisible characters, as far as a page shows it."""
    return _text("text", content)


def _text(kind: str, text: str) -> Shown:
    return Shown(kind, visible(text[:TEXT_MAX], keep="\n\t"), cut=len(text) > TEXT_MAX)


def _hex(body: bytes) -> Shown:
    lines = []
    for start in range(0, min(len(body), HEX_MAX), 16):
        piece = body[start : min(start + 16, HEX_MAX)]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in piece)
        lines.append(f"{start:08x}  {piece.hex(' '):<47}  {letters}")
    return Shown("hex", "\n".join(lines), cut=len(body) > HEX_MAX)


def _indented(text: str) -> str | None:
    """Return JSON with one value a line, each as it was written; None if it is not JSON.

    json.dumps would change numbers and escapes, and drop duplicate keys.
    """
    if len(text) > JSON_MAX or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    pieces: list[str] = []
    depth = length = 0
    before = ""
    for piece in _TOKEN.findall(text):
        if piece in "}]":
            depth -= 1
        if _breaks(before, piece):
            pieces.append("\n" + "  " * min(depth, INDENT_MAX))
        pieces.append(": " if piece == ":" else piece)
        if piece in "{[":
            depth += 1
        length += len(pieces[-1])
        if length > TEXT_MAX:
            break
        before = piece
    return "".join(pieces)


def _breaks(before: str, piece: str) -> bool:
    """Whether a new line begins between two tokens; an empty object or list stays on one line."""
    if before in ("{", "["):
        return piece not in ("}", "]")
    return before == "," or (before != "" and piece in ("}", "]"))


# ---- properties and headers ------------------------------------------------------------------------


def properties(header: bytes) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return a message's properties and its headers; None if the bytes are damaged."""
    try:
        values = read_properties(header)
    except (ValueError, LookupError, OverflowError, OSError, RecursionError, struct.error):
        return None  # cut short, a time out of range, or nested too deeply
    headers = values.pop("headers", {})
    return None if _nested(headers, NESTED_MAX) else (values, headers)


def _nested(item: Any, most: int) -> bool:
    """Whether a value has more levels than given, which a recursive function might not survive."""
    inner = item.values() if isinstance(item, Mapping) else item
    if isinstance(item, str | bytes) or not isinstance(inner, Iterable):
        return False
    return most == 0 or any(_nested(each, most - 1) for each in inner)


def property_value(name: str, item: Any) -> str:
    """Return a property's value as text; for ``timestamp`` the seconds and the time."""
    if name != "timestamp":
        return value(item)
    try:
        return f"{item} ({exact(datetime.fromtimestamp(item, UTC))})"
    except (ValueError, OverflowError, OSError):
        return str(item)  # out of range


def value(item: Any) -> str:
    """Return a value as text."""
    if isinstance(item, str):
        return visible(item)
    return visible(json.dumps(plain(item), ensure_ascii=False))


def plain(item: Any) -> Any:
    """Return a value in JSON's types."""
    if isinstance(item, Mapping):
        return {key: plain(inner) for key, inner in item.items()}
    if isinstance(item, list | tuple):
        return [plain(inner) for inner in item]
    if isinstance(item, bytes):
        return f"0x{item.hex()}"
    if isinstance(item, datetime):
        return item.isoformat()
    if item is None or isinstance(item, bool | int | float | str):
        return item
    return str(item)  # decimals
