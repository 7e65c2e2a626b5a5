"""The order in which topology is declared: what others depend on comes first. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rmq_publisher.amqp.entities import ExchangeConfig, QueueConfig

Config = TypeVar("Config", ExchangeConfig, QueueConfig)


def dead_letter_exchange(queue: QueueConfig) -> str | None:
    """Return the exchange of its dead letters, if any; ``""`` is the default exchange."""
    return queue.x_arguments.get("x-dead-letter-exchange")


def alternate_exchange(exchange: ExchangeConfig) -> str | None:
    """Return the exchange for messages that it cannot route, if any."""
    return exchange.x_arguments.get("alternate-exchange")


def in_order(
    exchanges: Sequence[ExchangeConfig], queues: Sequence[QueueConfig]
) -> tuple[tuple[ExchangeConfig, ...], tuple[QueueConfig, ...]]:
    """Sort so that nothing is used before it exists, except where there is a cycle.

    Dead-letter and alternate exchanges and the sources of bindings come before what uses them. So do
    the queues for dead letters: otherwise a message that expires meanwhile would be lost.
    """
    dead_letter_names = {dead_letter_exchange(queue) for queue in queues}
    dead_letters_first = sorted(exchanges, key=lambda e: e.name not in dead_letter_names)
    catching = {
        queue.name
        for queue in queues
        if any(binding.source in dead_letter_names for binding in queue.bindings)
    }
    catching_first = sorted(queues, key=lambda queue: queue.name not in catching)
    return (
        _needed_first(dead_letters_first, _exchange_needs),
        _needed_first(catching_first, _queue_needs),
    )


def _exchange_needs(exchange: ExchangeConfig) -> Iterable[str | None]:
    return (alternate_exchange(exchange), *(binding.source for binding in exchange.bindings))


def _queue_needs(queue: QueueConfig) -> Iterable[str | None]:
    if dead_letter_exchange(queue) == "":
        return (queue.x_arguments.get("x-dead-letter-routing-key"),)
    return ()


def _needed_first(
    configs: Sequence[Config], needs: Callable[[Config], Iterable[str | None]]
) -> tuple[Config, ...]:
    """Sort depth-first; in a cycle, the config that is reached first comes last."""
    by_name = {config.name: config for config in configs}
    done: dict[str, Config] = {}
    visiting: set[str] = set()

    def visit(config: Config) -> None:
        if config.name in visiting:
            return
        visiting.add(config.name)
        for name in needs(config):
            if name in by_name:
                visit(by_name[name])
        done[config.name] = config

    for config in configs:
        visit(config)
    return tuple(done.values())
