"""Exchanges, queues and bindings as frozen values, and the AMQP steps that declare or verify them.

Equality is by value, with the types of argument values (``True`` is not ``1`` on the wire), so that
what was verified on a connection is remembered whoever made the object.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, TypeAlias

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
        routing_key: binding key, in the words of the exchange's type.
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
        # A source given as a config is declared too: another value than its name alone.
        config = self.exchange if isinstance(self.exchange, ExchangeConfig) else None
        self.seal(self.source, config and config._key, self.routing_key, arguments)

    @property
    def source(self) -> str:
        """Name of the source exchange."""
        return self.exchange.name if isinstance(self.exchange, ExchangeConfig) else self.exchange


def _binding_steps(
    operation: Literal["queue_bind", "exchange_bind"],
    target: str,
    entity: str,
    bindings: tuple[Binding, ...],
) -> Iterable[Step]:
    for binding in bindings:
        if isinstance(binding.exchange, ExchangeConfig):
            yield from binding.exchange.steps()
        names = (
            {"queue": target, "exchange": binding.source}
            if operation == "queue_bind"
            else {"destination": target, "source": binding.source}
        )
        yield Step(
            operation,
            {
                **names,
                "routing_key": binding.routing_key,
                "arguments": plain_arguments("Binding", binding.arguments),
            },
            f"binding of {entity} to exchange {binding.source!r}",
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
        durable: whether it outlives a restart of the broker.
        auto_delete: deleted when the last binding from it goes.
        internal: takes messages from other exchanges only.
        alternate_exchange: where messages go that it cannot route.
        arguments: further x-arguments.
        bindings: sources that it takes messages from (exchange-to-exchange).
        using: RabbitMQ alias it belongs to; may be left out when there is one.

    Raises:
        TopologyError: an argument that no broker can take.
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
        yield from _binding_steps("exchange_bind", self.name, str(self), tuple(self.bindings))


@dataclass(frozen=True, eq=False)
class QueueConfig(Value):
    """A queue, declared with exactly these arguments and bound to its ``bindings``.

    Args:
        name: its name; names made by the broker (an empty one) cannot be published to by name.
        durable: whether it outlives a restart of the broker.
        dead_letter_exchange: where rejected and expired messages go; ``""`` is the default exchange.
        dead_letter_routing_key: their routing key there; without it they keep their own.
        queue_type: classic, quorum or stream (``x-queue-type``); the vhost's default when None.
        message_ttl: seconds or timedelta that a message may wait.
        max_length: most messages that it holds.
        max_length_bytes: most bytes of bodies that it holds.
        overflow: drop-head, reject-publish or reject-publish-dlx, when it is full.
        max_priority: levels of priority of a classic queue, 1 to 255.
        delivery_limit: deliveries of a message after which a quorum queue dead-letters it.
        single_active_consumer: one consumer at a time.
        expires: seconds or timedelta without use after which the queue is deleted.
        arguments: further x-arguments.
        bindings: exchanges that it takes messages from.
        using: RabbitMQ alias it belongs to; may be left out when there is one.

    Raises:
        TopologyError: an argument, or a combination, that no broker can take.
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
        yield from _binding_steps("queue_bind", self.name, str(self), tuple(self.bindings))


@dataclass(frozen=True, slots=True)
class QueueName:
    """A queue that must exist, whatever its arguments: verified passively."""

    name: str

    def __str__(self) -> str:
        return f"queue {self.name!r}"

    def steps(self) -> Iterable[Step]:
        """Yield the passive declare; it needs no configure permission."""
        yield Step("queue_declare", {"queue": self.name, "passive": True}, str(self))


@dataclass(frozen=True, slots=True)
class ExchangeName:
    """An exchange that must exist, whatever its type: verified passively."""

    name: str

    def __str__(self) -> str:
        return f"exchange {self.name!r}"

    def steps(self) -> Iterable[Step]:
        """Yield the passive declare; the default exchange, where it is a 403, has none."""
        if self.name:
            yield Step("exchange_declare", {"exchange": self.name, "passive": True}, str(self))


@dataclass(frozen=True, slots=True)
class Bare:
    """A queue or exchange declared without its bindings, so that each can be judged by itself."""

    config: "QueueConfig | ExchangeConfig"

    def __str__(self) -> str:
        return str(self.config)

    def steps(self) -> Iterable[Step]:
        """Yield the one step that declares it."""
        yield self.config.declaration()


@dataclass(frozen=True, slots=True)
class Bound:
    """One binding of a queue or exchange; both of its ends must exist."""

    target: "QueueConfig | ExchangeConfig"
    binding: Binding

    def __str__(self) -> str:
        binding = self.binding
        key = f" by {binding.routing_key!r}" if binding.routing_key else ""
        return f"binding of {self.target} to exchange {binding.source!r}{key}"

    def steps(self) -> Iterable[Step]:
        """Yield the one step that binds, without the declaration of a source given as a config."""
        operation: Literal["queue_bind", "exchange_bind"] = (
            "queue_bind" if isinstance(self.target, QueueConfig) else "exchange_bind"
        )
        target = self.target
        *_, bind = _binding_steps(operation, target.name, str(target), (self.binding,))
        yield bind


Entity: TypeAlias = QueueConfig | ExchangeConfig | QueueName | ExchangeName | Bare | Bound
Topology: TypeAlias = tuple[Entity, ...]
