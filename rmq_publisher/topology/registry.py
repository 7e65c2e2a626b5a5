"""The queues and exchanges of a project, from the settings and each app's ``queues.py``.

They are collected on first use, never at import or in ``ready()``. Errors are kept as problems for the
system checks and the commands, which can then show all of them at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

from django.apps import apps
from django.core.signals import setting_changed
from django.utils.module_loading import import_string, module_has_submodule

from rmq_publisher.amqp.entities import Bare, Bound, ExchangeConfig, QueueConfig
from rmq_publisher.amqp.validation import TopologyError
from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import DEFAULT_ALIAS, PREFIX, Problem
from rmq_publisher.topology.dependency_order import in_order

MODULE = "queues"
BAD_ITEM = "rmq_publisher.E009"
CONTRADICTION = "rmq_publisher.E010"
BAD_ALIAS = "rmq_publisher.E011"

Config: TypeAlias = QueueConfig | ExchangeConfig

_sources: dict[str, Callable[[], Iterable[Config]]] = {}


@dataclass(frozen=True)
class Declaration:
    """A queue or exchange and where it was found.

    Attributes:
        alias: RabbitMQ connection that it belongs to.
        sources: each place that holds it, such as ``shop.queues`` or ``RMQ_QUEUES``.
    """

    config: Config
    alias: str
    sources: tuple[str, ...]


@dataclass
class _Collected:
    declarations: dict[tuple[str, str], Declaration] = field(default_factory=dict)
    problems: dict[Problem, None] = field(default_factory=dict)  # in order, each once

    def note(self, source: str, text: str, hint: str, id: str) -> None:
        self.problems[Problem(source, text, hint, id)] = None

    def add(self, source: str, config: Config, alias: str) -> None:
        """Add a declaration, and the exchanges of its bindings."""
        for binding in config.bindings:
            if isinstance(binding.exchange, ExchangeConfig):
                self._add_embedded(source, config, binding.exchange, alias)
        key = (alias, str(config))
        known = self.declarations.setdefault(key, Declaration(config, alias, (source,)))
        if _by_name(known.config) != _by_name(config):
            first = known.sources[0]
            self.note(
                source,
                f"declares {config} "
                + ("twice, differently" if source == first else f"differently from {first}"),
                "A broker can have only one of that name: define it once and import it where it is used.",
                CONTRADICTION,
            )
        elif source not in known.sources:
            self.declarations[key] = replace(known, sources=(*known.sources, source))

    def _add_embedded(
        self, source: str, holder: Config, exchange: ExchangeConfig, alias: str
    ) -> None:
        if exchange.using not in (None, alias):
            self.note(
                source,
                f"binds {holder} of connection {alias!r} to {exchange} of {exchange.using!r}",
                "A binding cannot join two brokers: give both the same using=.",
                BAD_ALIAS,
            )
            return
        self.add(source, exchange, alias)


def _by_name(config: Config) -> Config:
    """Return it with the names of its bindings' sources, whose configs are compared separately."""
    bindings = [replace(binding, exchange=binding.source) for binding in config.bindings]
    return replace(config, bindings=bindings)


@cache
def _collected() -> _Collected:
    collected = _Collected()
    for source, item in _found(collected):
        alias = _alias(collected, source, item)
        if alias is not None:
            collected.add(source, item, alias)
    return collected


def add_source(name: str, configs: Callable[[], Iterable[Config]]) -> None:
    """Add queues and exchanges that are neither in the settings nor in an app's module.

    Args:
        name: of the source, as reports show it; the name of a setting.
        configs: called at each collection.
    """
    _sources[name] = configs
    _collected.cache_clear()


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX) or setting == "INSTALLED_APPS" or setting in _sources:
        _collected.cache_clear()


setting_changed.connect(_forget, dispatch_uid="rmq_publisher.registry")


def _alias(collected: _Collected, source: str, config: Config) -> str | None:
    """Return the alias that it belongs to, or note a problem and return None."""
    known = loader.aliases()
    if not known:
        return config.using or DEFAULT_ALIAS  # without RMQ_URL there is nothing to compare with
    if config.using in known:
        return config.using
    if config.using is None and len(known) == 1:
        return known[0]
    there = ", ".join(map(repr, known))
    if config.using is None:
        text = f"does not say which RabbitMQ connection {config} belongs to"
    else:
        text = f"declares {config} for the unknown RabbitMQ connection {config.using!r}"
    collected.note(source, text, f"Give it using=, one of {there}.", BAD_ALIAS)
    return None


def _found(collected: _Collected) -> Iterator[tuple[str, Config]]:
    """Yield every config with its source; anything else is noted as a problem."""
    wanted: tuple[tuple[str, tuple[object, ...], type[Config]], ...] = (
        ("RMQ_EXCHANGES", loader.exchanges(), ExchangeConfig),
        ("RMQ_QUEUES", loader.queues(), QueueConfig),
    )
    for source, listed, kind in wanted:
        for place, item in enumerate(listed):
            for config in _of_item(collected, f"{source}[{place}]", item, kind):
                yield source, config
    for name, configs in _sources.items():
        yield from ((name, config) for config in configs())
    for app in apps.get_app_configs():
        # As autodiscover_modules does: an ImportError inside an app's module must not be hidden.
        if app.module is not None and module_has_submodule(app.module, MODULE):
            yield from _of_module(collected, f"{app.name}.{MODULE}")


def _of_item(
    collected: _Collected, label: str, item: object, kind: type[Config]
) -> Iterator[Config]:
    """Yield the configs of one item of a setting: a config, or the dotted path of one or more."""
    found = item
    if isinstance(item, str):
        try:
            found = import_string(item)
        except (ImportError, TopologyError) as error:
            hint = f"List {kind.__name__} objects, or dotted paths of them or of lists of them."
            collected.note(label, f"cannot be imported: {error}", hint, BAD_ITEM)
            return
    for config in _items(found):
        if isinstance(config, kind):
            yield config
        else:
            is_other = isinstance(config, QueueConfig | ExchangeConfig)
            other = "RMQ_QUEUES" if kind is ExchangeConfig else "RMQ_EXCHANGES"
            collected.note(
                label,
                f"must be {kind.__name__}, not {type(config).__name__}",
                f"Move it to {other}." if is_other else f"Write {kind.__name__}(...).",
                BAD_ITEM,
            )


def _of_module(collected: _Collected, name: str) -> Iterator[tuple[str, Config]]:
    """Yield the configs of a module, alone or in lists, tuples and dicts."""
    try:
        module = import_module(name)
    except TopologyError as error:
        hint = "Correct the argument."
        collected.note(name, f"contains an invalid declaration: {error}", hint, BAD_ITEM)
        return
    for variable, value in list(vars(module).items()):
        found = list(_items(value))
        configs = [item for item in found if isinstance(item, QueueConfig | ExchangeConfig)]
        for config in configs:
            yield name, config
        # A list without any config has another purpose; a mixed list is a mistake.
        if configs and len(configs) < len(found):
            collected.note(
                f"{name}.{variable}",
                "contains something other than QueueConfig and ExchangeConfig",
                "Keep only these in it: a name alone declares nothing.",
                BAD_ITEM,
            )


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list | tuple) else [value]


def declarations(alias: str) -> tuple[Declaration, ...]:
    """Return what is declared for a RabbitMQ connection, in the order found."""
    found = _collected().declarations.values()
    return tuple(declaration for declaration in found if declaration.alias == alias)


def queues(alias: str) -> tuple[QueueConfig, ...]:
    """Return the queues of a RabbitMQ connection, in the order found."""
    configs = (declaration.config for declaration in declarations(alias))
    return tuple(config for config in configs if isinstance(config, QueueConfig))


def exchanges(alias: str) -> tuple[ExchangeConfig, ...]:
    """Return the exchanges of a RabbitMQ connection, in the order found."""
    configs = (declaration.config for declaration in declarations(alias))
    return tuple(config for config in configs if isinstance(config, ExchangeConfig))


def sources(alias: str, config: Config) -> tuple[str, ...]:
    """Return where a queue or exchange is declared: ``shop.queues``, ``RMQ_QUEUES``."""
    declaration = _collected().declarations.get((alias, str(config)))
    return declaration.sources if declaration is not None else ()


def declaration_order(alias: str) -> tuple[Bare | Bound, ...]:
    """Return the separate declarations of a connection's topology, in order.

    All exchanges, then all queues, then all bindings, so that exchanges may be bound in a cycle.
    """
    exchanges_first, then_queues = in_order(exchanges(alias), queues(alias))
    configs: tuple[Config, ...] = (*exchanges_first, *then_queues)
    bound = (Bound(config, binding) for config in configs for binding in config.bindings)
    return (*map(Bare, configs), *bound)


def problems() -> list[Problem]:
    """Return the problems: contradictions, invalid items, unknown aliases."""
    return list(_collected().problems)
