"""What a topology says of the way of a message: whether a queue of its configs should take it. Pure."""

from collections.abc import Iterable, Iterator
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


def expects_route(topology: Topology, exchange: str, key: str) -> bool:
    """Return whether the configs of a topology lead a message to one of their queues.

    Where a type is not known, or decides by more than the key, a binding is taken to match. An exchange
    that returns what it keeps says nothing by a return.
    """
    known = list(_configs(topology))
    if not exchange:
        return any(isinstance(config, QueueConfig) and config.name == key for config in known)
    types = {**_PREDECLARED, **_types(known)}
    if types.get(exchange) in RETURNING_TYPES:
        return False
    reached: set[str] = set()
    found = {exchange}
    while found - reached:
        reached |= found
        for config in known:
            if any(_leads(binding, reached, types, key) for binding in config.bindings):
                if isinstance(config, QueueConfig):
                    return True
                found.add(config.name)
    return False


def declares_exchange(topology: Topology, name: str) -> bool:
    """Return whether a topology declares an exchange, and not only verifies it."""
    return name in _types(_configs(topology))


def names(topology: Topology) -> Topology:
    """Return what verifies that the configs of a topology exist, and declares nothing."""
    return tuple(
        QueueName(config.name) if isinstance(config, QueueConfig) else ExchangeName(config.name)
        for config in _configs(topology)
    )


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
