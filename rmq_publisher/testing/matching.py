"""Whether a captured message matches, and how a failed assertion shows the others."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rmq_publisher import serialization
from rmq_publisher.amqp.encoding import FieldError, table
from rmq_publisher.testing import tasks
from rmq_publisher.testing.captured import Published, PublishedMessage

_OF_MESSAGE = ("exchange", "routing_key", "using", "message_id")
_SHOWN = 120  # characters of a body in the text of an assertion


def differences(message: PublishedMessage, criteria: Mapping[str, Any]) -> list[str]:
    """Return the names of the criteria that a message does not match."""
    return [name for name, wanted in criteria.items() if not _fits(message, name, wanted)]


def _fits(message: PublishedMessage, name: str, wanted: Any) -> bool:
    if name == "queue":
        return wanted in (message.queues or (message.queue,))
    if name == "body":
        return _is_body(message, wanted)
    if name == "headers":
        has = message.headers
        return all(key in has and _is_header(has[key], value) for key, value in wanted.items())
    if name == "task":
        return bool(tasks.name_of(message) == wanted)
    if name in ("args", "kwargs"):
        return tasks.is_called_with(message, name, wanted)
    holder = message if name in _OF_MESSAGE else message.properties
    return bool(getattr(holder, name) == wanted)


def _is_header(has: Any, wanted: Any) -> bool:
    # The types must be equal, too: in Python True equals 1, but not for a consumer.
    try:
        return table("a header", {"": _sorted(has)}) == table("a header", {"": _sorted(wanted)})
    except FieldError:
        return False


def _sorted(value: Any) -> Any:
    """Return a value with all mappings in it sorted by their keys."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    return list(map(_sorted, value)) if isinstance(value, list | tuple) else value


def _is_body(message: PublishedMessage, wanted: Any) -> bool:
    if isinstance(wanted, bytes):
        return message.body == wanted
    try:
        if isinstance(wanted, str) and message.text() == wanted:
            return True
        # Through JSON, so that dates and decimals may be given as Python objects.
        made = json.loads(serialization.encode("json", wanted).body)
        # As text, because in Python 1, 1.0 and True are equal.
        return json.dumps(message.json(), sort_keys=True) == json.dumps(made, sort_keys=True)
    except (TypeError, ValueError):
        return False


def report(
    messages: Sequence[PublishedMessage], criteria: Mapping[str, Any], fitting: int, wanted: int
) -> str:
    """Return the text of a failed assertion."""
    asked = ", ".join(f"{name}={_shortened(repr(value))}" for name, value in criteria.items())
    of = f"{fitting} of {len(messages)} messages" if criteria else f"{fitting} messages"
    lines = [f"{of} fit {asked or 'everything'}; there should be {wanted or 'none'}."]
    if not isinstance(messages, Published):
        return "\n".join(lines + _listed("There are", messages, criteria))
    lines += _listed("Published were", messages, criteria)
    lines += _listed("Refused were", messages.refused, criteria)
    lines += _listed("A commit is waited for by", messages.pending, criteria)
    return "\n".join(lines)


def _listed(
    title: str, messages: Sequence[PublishedMessage], criteria: Mapping[str, Any]
) -> list[str]:
    """Return lines about messages, the closest matches first."""
    judged = [(differences(message, criteria), message) for message in messages]
    nearest = sorted(judged, key=lambda item: len(item[0]))
    lines = [f"  {_line(message, unlike)}" for unlike, message in nearest]
    return [f"{title}:", *lines] if lines else []


def _line(message: PublishedMessage, unlike: Sequence[str]) -> str:
    parts = [f"queue {message.queue!r}"] if message.queue else []
    parts += [f"exchange {message.exchange!r}", f"routing key {message.routing_key!r}"]
    if message.queues:
        parts.append(f"taken by {', '.join(map(repr, message.queues))}")
    parts += _task(message) if tasks.name_of(message) else _content(message)
    parts.append(message.message_id)
    if message.error is not None:
        parts.append(f"{type(message.error).__name__}: {message.error}")
    difference = f"differs in {', '.join(unlike)}: " if unlike else "fits: "
    return difference + "; ".join(parts)


def _content(message: PublishedMessage) -> list[str]:
    names = [f"headers {', '.join(map(repr, message.headers))}"] if message.headers else []
    return [*names, f"{len(message.body)} bytes {_shortened(_shown(message))}"]


def _task(message: PublishedMessage) -> list[str]:
    """Return the arguments of a task, to show instead of Celery's headers and body."""
    return [f"task {tasks.name_of(message)!r}"] + [
        f"{name} {_shortened(text)}" for name, text in tasks.shown(message)
    ]


def _shown(message: PublishedMessage) -> str:
    try:
        return repr(message.text())
    except ValueError:
        return repr(message.body)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
