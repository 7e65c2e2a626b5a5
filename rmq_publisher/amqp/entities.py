"""Exchanges, queues and bindings as frozen values, and the AMQP steps that declare or verify them.

They compare by value, including the types of argument values (``True`` is not ``1`` in AMQP), so that a
connection recognises what it has verified, whichever object describes it.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeAlias

from rmq_publisher.amqp.arguments import check_exchange_type, queue_arguments
from rmq_publisher.amqp.validation import (
    Arguments,
    Seconds,
    Step,
    TopologyError,
    Value,
    check_flags,
    check_name,
    merge_arguments,
    plain_arguments,
)


@dataclass(frozen=True, eq=False)
class Binding(Value):
    """A binding from ``exchange`` to the queue or exchange that lists it.

    Args:
        exchange: source exchange; an `ExchangeConfig` is declared first, a name must exist.
        routing_key: binding key, as the exchange's type defines it.
        arguments: binding arguments (headers exchanges).
    """

    __module__ = "rmq_publisher"

    exchange: "str | ExchangeConfig"
    routing_key: str = ""
    arguments: Arguments | None = None

    def __post_init__(self) -> None:
        source = check_name("Binding(exchange)", self.source)
        if not isinstance(self.exchange, ExchangeConfig):
            self.keep(exchange=source)
        key = check_name("Binding(routing_key)", self.routing_key, empty=True)
        arguments = plain_arguments("Binding", self.arguments)
        self.keep(routing_key=key, arguments=None if self.arguments is None else arguments)
        # A source given as a config is declared too, so it is not equal to its name.
        config = self.exchange if isinstance(self.exchange, ExchangeConfig) else None
        self.seal(self.source, config and config._key, self.routing_key, arguments)

    @property
    def source(self) -> str:
        """Name of the source exchange."""
        return self.exchange.name if isinstance(self.exchange, ExchangeConfig) else self.exchange


def _binding_steps(
    target: "QueueConfig | ExchangeConfig", bindings: Iterable[Binding]
) -> Iterable[Step]:
    is_queue = isinstance(target, QueueConfig)
    for binding in bindings:
        if isinstance(binding.exchange, ExchangeConfig):
            yield from binding.exchange.steps()
        ends = ("queue", "exchange") if is_queue else ("destination", "source")
        names = dict(zip(ends, (target.name, binding.source), strict=True))
        yield Step(
            "queue_bind" if is_queue else "exchange_bind",
            {
                **names,
                "routing_key": binding.routing_key,
                "arguments": plain_arguments("Binding", binding.arguments),
            },
            f"binding of {target} to exchange {binding.source!r}",
        )


def _checked_bindings(what: str, bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    if not isinstance(bindings, Iterable):
        raise TopologyError(
            f"{what} must be a list of Binding objects, not {type(bindings).__name__}"
        )
    bindings = tuple(bindings)
    for binding in bindings:
        if not isinstance(binding, Binding):
            raise TopologyError(f"{what} must hold Binding objects, not {binding!r}")
    return bindings


@dataclass(frozen=True, eq=False)
class ExchangeConfig(Value):
    """An exchange, declared with exactly these arguments and bound to its ``bindings``.

    Args:
        name: its name; the default exchange cannot be declared.
        type: direct, topic, fanout, headers, or a plugin's ``x-...``.
        durable: whether it survives a restart of the broker.
        auto_delete: whether it is deleted with its last binding.
        internal: whether it accepts messages from exchanges only.
        alternate_exchange: exchange for messages that it cannot route.
        arguments: further x-arguments.
        bindings: exchanges that it receives messages from.
        using: RabbitMQ alias it belongs to; may be left out when there is one.

    Raises:
        TopologyError: an argument that every broker rejects.
    """

    __module__ = "rmq_publisher"

    name: str
    type: str = "direct"
    durable: bool = True
    _: KW_ONLY
    auto_delete: bool = False
    internal: bool = False
    alternate_exchange: str | None = None
    arguments: Arguments | None = None
    bindings: Iterable[Binding] = ()
    using: str | None = None
    x_arguments: Arguments = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.keep_plain()
        self.keep(name=check_name("ExchangeConfig(name)", self.name))
        what = f"ExchangeConfig({self.name!r})"
        check_flags(
            what, durable=self.durable, auto_delete=self.auto_delete, internal=self.internal
        )
        self.keep(type=check_exchange_type(what, self.type))
        if self.alternate_exchange is not None:
            check_name(f"{what}: alternate_exchange", self.alternate_exchange)
        own, merged = merge_arguments(
            what, self.arguments, {"alternate-exchange": self.alternate_exchange}
        )
        bindings = _checked_bindings(f"{what}: bindings", self.bindings)
        self.keep(arguments=own, x_arguments=merged, bindings=bindings)
        self.seal(
            self.name, self.type, self.durable, self.auto_delete, self.internal, merged,
            [binding._key for binding in bindings],
        )  # fmt: skip

    def __str__(self) -> str:
        return f"exchange {self.name!r}"

    def declaration(self) -> Step:
        """Return the step that declares it, without its bindings."""
        arguments = {
            "exchange": self.name,
            "exchange_type": self.type,
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            "internal": self.internal,
            "arguments": dict(self.x_arguments),
        }
        return Step("exchange_declare", arguments, str(self))

    def steps(self) -> Iterable[Step]:
        """Yield the steps that declare and bind it."""
        yield self.declaration()
        yield from _binding_steps(self, self.bindings)


@dataclass(frozen=True, eq=False)
class QueueConfig(Value):
    """A queue, declared with exactly these arguments and bound to its ``bindings``.

    Args:
        name: its name; not empty, because nobody could publish to a name that the broker generates.
        durable: whether it survives a restart of the broker.
        dead_letter_exchange: where rejected and expired messages go; ``""`` is the default exchange.
        dead_letter_routing_key: their routing key there; without it they keep their own.
        queue_type: classic, quorum or stream (``x-queue-type``); the vhost's default when None.
        message_ttl: seconds or timedelta after which a message expires.
        max_length: maximum number of messages.
        max_length_bytes: maximum size of all bodies in bytes.
        overflow: what happens when it is full: drop-head, reject-publish or reject-publish-dlx.
        max_priority: highest priority of a classic queue, 1 to 255.
        delivery_limit: deliveries of a message after which a quorum queue dead-letters it.
        single_active_consumer: whether only one consumer at a time receives messages.
        expires: seconds or timedelta after which an unused queue is deleted.
        arguments: further x-arguments.
        bindings: exchanges that it receives messages from.
        using: RabbitMQ alias it belongs to; may be left out when there is one.

    Raises:
        TopologyError: an argument, or a combination of arguments, that every broker rejects.
    """

    __module__ = "rmq_publisher"

    name: str
    durable: bool = True
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    _: KW_ONLY
    queue_type: str | None = None
    message_ttl: Seconds | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str | None = None
    max_priority: int | None = None
    delivery_limit: int | None = None
    single_active_consumer: bool = False
    expires: Seconds | None = None
    arguments: Arguments | None = None
    bindings: Iterable[Binding] = ()
    using: str | None = None
    x_arguments: Arguments = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.keep_plain()
        self.keep(name=check_name("QueueConfig(name)", self.name))
        what = f"QueueConfig({self.name!r})"
        check_flags(what, durable=self.durable, single_active_consumer=self.single_active_consumer)
        own, merged = queue_arguments(what, vars(self))
        bindings = _checked_bindings(f"{what}: bindings", self.bindings)
        self.keep(arguments=own, x_arguments=merged, bindings=bindings)
        self.seal(self.name, self.durable, merged, [binding._key for binding in bindings])

    def __str__(self) -> str:
        return f"queue {self.name!r}"

    def declaration(self) -> Step:
        """Return the step that declares it, without its bindings."""
        arguments = {
            "queue": self.name,
            "durable": self.durable,
            "arguments": dict(self.x_arguments),
        }
        return Step("queue_declare", arguments, str(self))

    def steps(self) -> Iterable[Step]:
        """Yield the steps that declare and bind it."""
        yield self.declaration()
        yield from _binding_steps(self, self.bindings)


@dataclass(frozen=True, slots=True)
class QueueName:
    """A queue that must exist, whatever its arguments: verified passively."""

    name: str

    def __str__(self) -> str:
        return f"queue {self.name!r}"

    def steps(self) -> Iterable[Step]:
        """Yield the passive declare, which needs no configure permission."""
        yield Step("queue_declare", {"queue": self.name, "passive": True}, str(self))


@dataclass(frozen=True, slots=True)
class ExchangeName:
    """An exchange that must exist, whatever its type: verified passively."""

    name: str

    def __str__(self) -> str:
        return f"exchange {self.name!r}"

    def steps(self) -> Iterable[Step]:
        """Yield the passive declare; none for the default exchange, which answers 403."""
        if self.name:
            yield Step("exchange_declare", {"exchange": self.name, "passive": True}, str(self))


@dataclass(frozen=True, slots=True)
class Bare:
    """A queue or exchange without its bindings, so that each of them is reported by itself."""

    config: "QueueConfig | ExchangeConfig"

    def __str__(self) -> str:
        return str(self.config)

    def steps(self) -> Iterable[Step]:
        """Yield the step that declares it."""
        yield self.config.declaration()


@dataclass(frozen=True, slots=True)
class Bound:
    """One binding of a queue or exchange; both must exist."""

    target: "QueueConfig | ExchangeConfig"
    binding: Binding

    def __str__(self) -> str:
        binding = self.binding
        key = f" by {binding.routing_key!r}" if binding.routing_key else ""
        return f"binding of {self.target} to exchange {binding.source!r}{key}"

    def steps(self) -> Iterable[Step]:
        """Yield the step that binds, without the declaration of a source given as a config."""
        yield [*_binding_steps(self.target, (self.binding,))][-1]


Entity: TypeAlias = QueueConfig | ExchangeConfig | QueueName | ExchangeName | Bare | Bound
Topology: TypeAlias = tuple[Entity, ...]
