"""The parts of a topology: names, durations, arguments, steps, and values that compare by content."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from rmq_publisher.amqp.encoding import FieldError, shortstr, table

Operation = Literal[
    "exchange_declare", "queue_declare", "queue_bind", "exchange_bind", "queue_purge"
]
Arguments: TypeAlias = Mapping[str, Any]
Seconds: TypeAlias = float | timedelta

MILLISECONDS_MAX = 2**32 - 1  # RabbitMQ refuses longer times


class TopologyError(ValueError):
    """A queue, exchange or binding that no broker can declare; names the argument and the fix."""


@dataclass(frozen=True, slots=True)
class Step:
    """A method on a channel: its name as in AMQP and pika, and its arguments."""

    operation: Operation
    arguments: Mapping[str, Any]
    entity: str  # for messages: "queue 'orders'"


def check_name(what: str, name: object, *, empty: bool = False) -> str:
    """Return ``name`` if it can be an AMQP short string.

    Raises:
        TopologyError: it is not a str, too long, contains a surrogate, or is empty but must not be.
    """
    try:
        shortstr(what, name)
    except FieldError as error:
        raise TopologyError(str(error)) from error
    if not name and not empty:
        raise TopologyError(f"{what} must not be empty")
    return plain_str(name)


def plain_str(name: Any) -> str:
    """Return a str without its subclass: members of a str Enum are equal to it but print differently."""
    return str.__str__(name)


def plain(value: Any) -> Any:
    """Return a str without its subclass, and anything else as it is."""
    return plain_str(value) if isinstance(value, str) else value


def milliseconds(what: str, value: Seconds) -> int:
    """Return seconds or a timedelta as AMQP's whole milliseconds, to the nearest one.

    More than zero stays more than zero: a time to live of 0 discards what no consumer waits for.

    Raises:
        TopologyError: it is not a number of seconds, or out of range.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TopologyError(f"{what} must be seconds or a timedelta, not {type(value).__name__}")
    if not 0 <= value * 1000 <= MILLISECONDS_MAX:
        raise TopologyError(f"{what} must be from 0 to {MILLISECONDS_MAX // 1000} seconds")
    return max(1, round(value * 1000)) if value > 0 else 0


def _frozen(value: Any) -> Any:
    """Return a hashable stand-in for ``value`` that keeps the types apart."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return ("list", *(_frozen(item) for item in value))
    return (type(value).__name__, value)


def check_flags(what: str, **flags: object) -> None:
    """Refuse flags that are not bools: ``"no"`` would count as true.

    Raises:
        TopologyError: one of them is not a bool.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TopologyError(f"{what}: {name} must be True or False, not {value!r}")


class Value:
    """Equality and hash by the frozen ``_key``, computed once because publishing compares values often.

    Subclasses are dataclasses. They are copied and pickled as their arguments, because the hash of a
    string differs between processes.
    """

    _key: tuple[Any, ...]
    _hash: int

    def keep(self, **attributes: Any) -> None:
        """Set attributes of the frozen object while it is initialised."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def keep_plain(self) -> None:
        """Make plain strings of those attributes that are members of an enum or of another subclass."""
        for name, value in list(vars(self).items()):
            self.keep(**{name: plain(value)})

    def seal(self, *parts: Any) -> None:
        """Set the parts that decide about equality."""
        key = (type(self).__name__, *(_frozen(part) for part in parts))
        self.keep(_key=key, _hash=hash(key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        known: Any = fields(self)  # type: ignore[arg-type]  # a subclass is a dataclass
        given = {field.name: getattr(self, field.name) for field in known if field.init}
        return partial(type(self), **given), ()


def merge_arguments(
    what: str, given: Arguments | None, named: Mapping[str, Any]
) -> tuple[Arguments | None, Arguments]:
    """Return a copy of ``given`` in plain types, and a read-only mapping merged with ``named``.

    Raises:
        TopologyError: an argument is given twice, or a value cannot be sent.
    """
    own = plain_arguments(what, given)
    merged = {key: _plain(what, value) for key, value in named.items() if value is not None}
    for key, value in own.items():
        if key in merged and merged[key] != value:
            raise TopologyError(f"{what} gives {key!r} both as a keyword and in arguments")
        merged[key] = value
    return None if given is None else own, MappingProxyType(merged)


def plain_arguments(what: str, arguments: Arguments | None) -> dict[str, Any]:
    """Return arguments as pika accepts them: dicts and lists, and no floats, which it cannot send.

    Raises:
        TopologyError: it is not a mapping, or a value cannot be sent.
    """
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise TopologyError(f"{what}: arguments must be a mapping, not {type(arguments).__name__}")
    try:
        table(f"{what}: arguments", arguments)
    except FieldError as error:
        raise TopologyError(str(error)) from error
    return {
        plain_str(key): _plain(f"{what}: arguments[{key!r}]", value)
        for key, value in arguments.items()
    }


def _plain(what: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {plain_str(key): _plain(f"{what}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{what}[{place}]", item) for place, item in enumerate(value)]
    if isinstance(value, float):
        raise TopologyError(
            f"{what} is a float, which pika cannot send in a declaration: use a whole number or a str"
        )
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)
