"""Where a message goes, as RabbitMQ decides it: exchanges, their bindings, and who matches. Pure."""

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rmq_publisher.amqp.encoding import table
from rmq_publisher.amqp.topic_keys import topic_matches

ALTERNATE = "alternate-exchange"


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Return whether a message's headers fit the arguments of a binding.

    ``x-match`` is all (the default), any, all-with-x or any-with-x; the first two pass over what
    begins with ``x-``. An argument of None asks for the header only, whatever its value.
    """
    kind = str(arguments.get("x-match", "all"))
    with_x = kind.endswith("-with-x")
    fits = (
        name in headers and (wanted is None or same_value(wanted, headers[name]))
        for name, wanted in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    )
    return any(fits) if kind.startswith("any") else all(fits)


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values are the same to RabbitMQ: of one kind, and equal.

    Whole numbers are of one kind whatever their size, and text and bytes are; ``True`` is no 1, and
    1.0 is none either. Inside lists and tables text and bytes are two kinds.
    """
    return _bytes(one) == _bytes(other)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    elif isinstance(value, Mapping):
        value = dict(sorted(value.items())) or []  # what is empty is one and the same there
    return table("a value", {"": value})


class Target(NamedTuple):
    """What a binding leads to."""

    name: str
    is_exchange: bool


def to_queue(name: str) -> Target:
    """Lead to a queue."""
    return Target(name, is_exchange=False)


def to_exchange(name: str) -> Target:
    """Lead to an exchange."""
    return Target(name, is_exchange=True)


class _Bound(NamedTuple):
    """A binding by value: the same one made twice is one."""

    target: Target
    key: str
    arguments: bytes


@dataclass(eq=False)
class Exchange:
    """An exchange and the bindings from it."""

    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    _bindings: dict[_Bound, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    def bind(self, target: Target, key: str, arguments: Mapping[str, Any]) -> None:
        """Lead to a target what matches."""
        self._bindings[_Bound(target, key, table("a binding", arguments))] = arguments

    def unbind_all(self, target: Target) -> bool:
        """Drop the bindings to a target; return whether that dropped the last of all."""
        before = len(self._bindings)
        kept = {bound: args for bound, args in self._bindings.items() if bound.target != target}
        self._bindings = kept
        return before > 0 and not kept

    def matching(self, keys: Sequence[str], headers: Mapping[str, Any]) -> Iterator[Target]:
        """Yield the targets of the bindings that match, some more than once."""
        for bound, arguments in self._bindings.items():
            if self._matches(bound.key, arguments, keys, headers):
                yield bound.target

    def _matches(
        self,
        pattern: str,
        arguments: Mapping[str, Any],
        keys: Sequence[str],
        headers: Mapping[str, Any],
    ) -> bool:
        if self.type == "fanout":
            return True
        if self.type == "headers":
            return headers_match(arguments, headers)
        if self.type == "topic":
            return any(topic_matches(pattern, key) for key in keys)
        return pattern in keys


def route(
    exchanges: Mapping[str, Exchange],
    queues: Container[str],
    name: str,
    keys: Sequence[str],
    headers: Mapping[str, Any],
) -> list[str]:
    """Return the queues that a message reaches, each once.

    Args:
        exchanges: all, by name, without the default exchange.
        queues: the names of all queues.
        name: where the message is published to; ``""`` is the default exchange, which routes to the
            queue of the key's name.
        keys: the routing key and those of CC and BCC.
        headers: the message's.
    """
    found: dict[str, None] = {}
    seen = {name}
    waiting = deque([name])
    while waiting:
        current = waiting.popleft()
        if current == "":
            found.update((key, None) for key in keys if key in queues)
            continue
        if current not in exchanges:
            continue  # an alternate or dead-letter exchange may be missing
        for target, is_exchange in _led_to(exchanges[current], keys, headers):
            if not is_exchange:
                found[target] = None
            elif target not in seen:
                seen.add(target)
                waiting.append(target)
    return list(found)


def _led_to(
    exchange: Exchange, keys: Sequence[str], headers: Mapping[str, Any]
) -> Iterable[Target]:
    """Return the targets that match, or the alternate exchange where none does."""
    targets = list(exchange.matching(keys, headers))
    alternate = exchange.arguments.get(ALTERNATE)
    if not targets and alternate is not None:
        return [to_exchange(str(alternate))]
    return targets
