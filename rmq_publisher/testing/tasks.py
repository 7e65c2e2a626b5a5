"""Captured messages that are tasks for Celery workers."""

import json
from collections.abc import Iterator
from typing import Any

from rmq_publisher.contrib.celery import encoding
from rmq_publisher.testing.captured import PublishedMessage

_PLACES = {"args": 0, "kwargs": 1}  # in the body of protocol 2
_PARTS = 3  # of that body: arguments, keyword arguments, and tasks that follow


def name_of(message: PublishedMessage) -> str:
    """Return the name of the task in a message; empty if it is not a task."""
    headers = message.headers
    if "task" in headers and "id" in headers:
        return str(headers["task"])
    body = _body(message)
    return str(body["task"]) if isinstance(body, dict) else ""


def is_called_with(message: PublishedMessage, name: str, wanted: Any) -> bool:
    """Return whether ``args`` or ``kwargs`` of a task have these values.

    They are compared as JSON with kombu's type marks, so that dates and decimals may be given as they
    are in Python; a body of another kind (pickle) equals nothing.

    Raises:
        InvalidMessage: ``wanted`` cannot be written as JSON.
    """
    [made] = json.loads(encoding.dumps({name: wanted}))
    body = _body(message)
    return body is not None and _text(_part(body, name)) == _text(made)


def shown(message: PublishedMessage) -> Iterator[tuple[str, str]]:
    """Yield ``args`` and ``kwargs`` of a task as text."""
    body = _body(message)
    for name in _PLACES:
        yield name, f"in {len(message.body)} bytes" if body is None else _text(_part(body, name))


def _body(message: PublishedMessage) -> Any:
    """Return the body of a task: a list in protocol 2, a dict in protocol 1; else None."""
    try:
        body = message.json()
    except ValueError:
        return None
    if isinstance(body, dict):
        return body if {"task", "id", *_PLACES} <= body.keys() else None
    return body if isinstance(body, list) and len(body) == _PARTS else None


def _part(body: Any, name: str) -> Any:
    return body[name] if isinstance(body, dict) else body[_PLACES[name]]


def _text(value: Any) -> str:
    # As text, because in Python 1, 1.0 and True are equal.
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
