"""What a topology says of the way of a message: whether a queue of its configs should take it. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from rmq_publisher.amqp.arguments import EXCHANGE_TYPES
from rmq_publisher.amqp.entities import (
    Binding,
    ExchangeConfig,
    ExchangeName,
    QueueConfig,
    QueueName,
    Topology,
)
from rmq_publisher.amqp.topic_keys import topic_matches

Config: TypeAlias = QueueConfig | ExchangeConfig

# Exchange types of plugins that keep a message and return it as unroutable.
RETURNING_TYPES = ("x-delayed-message", "x-recent-history", "x-lvc")

_PREDECLARED = {"amq.match": "headers", **{f"amq.{kind}": kind for kind in EXCHANGE_TYPES}}


def expects_route(topology: Iterable[object], exchange: str, key: str) -> bool:
    """Return whether the configs of a topology lead a message to one of their queues.

    Where a type is not known, or decides by more than the key, a binding is taken to match. An exchange
    that returns what it keeps says nothing by a return.
    """
    known = list(_configs(topology))
    if _types(known).get(exchange) in RETURNING_TYPES:
        return False
    return any(isinstance(config, QueueConfig) for config in _reached(known, exchange, key))


def contradicts(topology: Topology, exchange: str, key: str, *, no_exchange: bool) -> bool:
    """Return whether configs say that there is the exchange, or the route, that a broker lacks."""
    if no_exchange:
        return declares_exchange(topology, exchange)
    return expects_route(topology, exchange, key)


def with_route(topology: Topology, project: Sequence[Config], exchange: str, key: str) -> Topology:
    """Return a topology, and those of the project's configs with it that a message passes on its way.

    A config replaces its name: that would be verified, and is missing.

    Args:
        project: in order of declaration. The exchanges that its bindings name come along: they are
            declared, too.
    """
    reached = set(_reached([*_configs(topology), *project], exchange, key))
    sources = {exchange, *(binding.source for config in reached for binding in config.bindings)}
    needed = _needed(
        sources, {one.name: one for one in project if isinstance(one, ExchangeConfig)}
    )
    further = tuple(
        config
        for config in project
        if config in reached or (isinstance(config, ExchangeConfig) and config.name in needed)
    )
    replaced = {*names(further), *further}
    return (*(entity for entity in topology if entity not in replaced), *further)


def declares_exchange(topology: Topology, name: str) -> bool:
    """Return whether a topology declares an exchange, and not only verifies it."""
    return name in _types(_configs(topology))


def lacks_named_exchange(topology: Topology, exchange: str, reply_text: str) -> bool:
    """Return whether a broker says that an exchange is missing which a topology has only by name."""
    return (
        ExchangeName(exchange) in topology and f"no exchange '{exchange}' in vhost" in reply_text
    )


def names(topology: Iterable[object]) -> Topology:
    """Return what verifies that the configs of a topology exist, and declares nothing."""
    return tuple(
        QueueName(config.name) if isinstance(config, QueueConfig) else ExchangeName(config.name)
        for config in _configs(topology)
    )


def _reached(known: Sequence[Config], exchange: str, key: str) -> Iterator[Config]:
    """Yield the queues and the other exchanges that a message gets to."""
    if not exchange:
        yield from (one for one in known if isinstance(one, QueueConfig) and one.name == key)
        return
    types = {**_PREDECLARED, **_types(known)}
    exchanges = (one for one in known if isinstance(one, ExchangeConfig))
    alternates = {one.name: one.x_arguments.get("alternate-exchange") for one in exchanges}
    passed: set[str] = set()
    found = {exchange}
    while found - passed:
        passed |= found
        for config in known:
            if any(_leads(binding, passed, types, key) for binding in config.bindings):
                yield config
                if isinstance(config, ExchangeConfig):
                    found.add(config.name)
        found |= {alternate for name in passed if (alternate := alternates.get(name))}


def _needed(names: set[str], exchanges: Mapping[str, ExchangeConfig]) -> set[str]:
    """Return names of exchanges, and of all those that they are bound to."""
    known = (exchanges[name] for name in names if name in exchanges)
    more = {binding.source for exchange in known for binding in exchange.bindings} - names
    return _needed(names | more, exchanges) if more else names


def _configs(topology: Iterable[object]) -> Iterator[Config]:
    """Yield the configs of a topology and those in their bindings, in the order of declaration."""
    for entity in topology:
        if isinstance(entity, QueueConfig | ExchangeConfig):
            yield entity
            yield from _configs(binding.exchange for binding in entity.bindings)


def _types(configs: Iterable[Config]) -> dict[str, str]:
    return {config.name: config.type for config in configs if isinstance(config, ExchangeConfig)}


def _leads(binding: Binding, reached: set[str], types: dict[str, str], key: str) -> bool:
    if binding.source not in reached:
        return False
    kind = types.get(binding.source)
    if kind == "direct":
        return binding.routing_key == key
    return kind != "topic" or topic_matches(binding.routing_key, key)
