"""Task arguments as JSON with kombu's type marks, so that a task receives what was passed.

kombu writes a datetime as ``{"__type__": "datetime", "__value__": "..."}`` and turns it back into one
when a worker reads the message (`kombu.utils.json`).
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils.functional import Promise

from rmq_publisher.exceptions import InvalidMessage

_MARK = {"__type__", "__value__"}
# In this order: a datetime is a date too.
_MARKS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    Decimal: ("decimal", str),
    UUID: ("uuid", lambda value: {"hex": value.hex}),
}


def dumps(named: Mapping[str, Any]) -> str:
    """Return the values of ``named`` as a JSON array.

    Args:
        named: what the array holds, in order; the names are used in errors only.

    Raises:
        InvalidMessage: a value, or the key of a dict, is of a type that JSON and kombu's marks
            cannot carry, or a dict looks like one of kombu's marks. Names the type and the place,
            never the value.
    """
    __traceback_hide__ = True  # Django's debug page would show the arguments
    encoder = _Encoder()
    try:
        text = encoder.encode(list(named.values()))
    except RecursionError as error:
        raise InvalidMessage(
            "the arguments are nested too deeply, or contain themselves"
        ) from error
    except (TypeError, ValueError) as error:
        problem = next(_problems(named), str(error))
        raise InvalidMessage(f"cannot be written as JSON: {problem}") from None
    if text.count('"__type__"') > encoder.marks and (problem := next(_problems(named), "")):
        raise InvalidMessage(problem)
    return text


class _Encoder(json.JSONEncoder):
    """Counts the marks that it writes; if the text has more, they came from the caller."""

    def __init__(self) -> None:
        super().__init__(check_circular=False)
        self.marks = 0

    def default(self, o: Any) -> Any:
        if isinstance(o, Promise):  # a lazy translation
            return str(o)
        self.marks += 1
        for kind, (mark, encode) in _MARKS.items():
            if isinstance(o, kind):
                return {"__type__": mark, "__value__": encode(o)}
        if isinstance(o, bytes):
            return _bytes(o)
        return super().default(o)


def _bytes(value: bytes) -> dict[str, str]:
    try:
        return {"__type__": "bytes", "__value__": value.decode()}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": base64.b64encode(value).decode()}


def _problems(named: Mapping[str, Any]) -> Iterator[str]:
    for name, value in named.items():
        yield from _problems_of(name, value, 0)


def _problems_of(where: str, value: Any, depth: int) -> Iterator[str]:
    """Yield values that cannot be sent, and where they are."""
    if isinstance(value, Mapping):
        if value.keys() == _MARK:
            yield f"{where} is a dict with the keys __type__ and __value__, which workers take for a mark"
        for key, item in value.items():
            if not isinstance(key, str | int | float | None):
                yield f"a key of {where} is of type {type(key).__name__}"
            yield from _problems_of(f"{where}[{key!r}]", item, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _problems_of(f"{where}[{index}]", item, depth + 1)
    elif not isinstance(value, (str, int, float, bytes, Promise, type(None), *_MARKS)):
        yield f"{where} is of type {type(value).__name__}"
