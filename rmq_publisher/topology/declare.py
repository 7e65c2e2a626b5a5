"""What ``rmq_declare`` and ``rmq_check`` do; the commands only print it."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rmq_publisher.amqp.entities import (
    Bare,
    Bound,
    Entity,
    ExchangeConfig,
    ExchangeName,
    QueueConfig,
    QueueName,
)
from rmq_publisher.amqp.reply_codes import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
)
from rmq_publisher.conf import loader
from rmq_publisher.exceptions import BrokerUnavailable, PublishError, Rejected, Unroutable
from rmq_publisher.messages.compose import compose
from rmq_publisher.topology import registry
from rmq_publisher.transport.delivery import send_and_wait
from rmq_publisher.transport.handler import connections

CREATED, PRESENT, BOUND = "created", "present", "bound"
DIFFERS, MISSING, REFUSED, FAILED = "differs", "missing", "refused", "failed"
NOT_COMPARABLE, NOT_CHECKED = "not comparable", "not checked"
WOULD_DECLARE, WOULD_BIND = "would declare", "would bind"
BAD_STATES = (DIFFERS, MISSING, REFUSED, FAILED)

ALLOWED, NOT_ALLOWED, BLOCKED, UNKNOWN = "allowed", "not allowed", "blocked", "unknown"


@dataclass(frozen=True)
class Row:
    """The result for one queue, exchange or binding.

    Attributes:
        kind: exchange, queue or binding.
        name: as it is shown, such as "queue 'orders'".
        detail: the broker's error message; in a plan, how it would be declared.
        sources: where it is declared.
    """

    kind: str
    name: str
    state: str
    detail: str = ""
    sources: tuple[str, ...] = ()

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to do something."""
        return self.state in BAD_STATES


@dataclass(frozen=True)
class Report:
    """The state of one connection.

    Attributes:
        product: the broker's name and version.
        missing: declared queues and exchanges that the broker does not have, has with other arguments,
            or does not let us see.
        publishing: allowed, not allowed, blocked or unknown.
        detail: the broker's error message if publishing is not allowed.
    """

    alias: str
    node: str
    vhost: str
    product: str
    tls: bool
    missing: tuple[Row, ...]
    publishing: str
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to do something."""
        return bool(self.missing) or self.publishing != ALLOWED


# Queues without bindings that are not in the registry.
Further = Iterable[registry.Declaration]


def plan(alias: str, further: Further = ()) -> Iterator[Row]:
    """Yield what `declare` would do, in the same order, without a connection."""
    for entity in registry.declaration_order(alias):
        if isinstance(entity, Bound):
            yield _row(alias, entity, WOULD_BIND)
        else:
            yield _row(alias, entity, WOULD_DECLARE, _summary(entity.config))
    for one in further:
        row = _row(alias, Bare(one.config), WOULD_DECLARE, _summary(one.config))
        yield replace(row, sources=one.sources)


def declare(alias: str, further: Further = ()) -> Iterator[Row]:
    """Declare the topology of a connection, one declaration at a time, and yield each result.

    Args:
        further: declared in addition, at the end.

    Raises:
        BrokerUnavailable: no connection, or no answer in time.
    """
    for entity in registry.declaration_order(alias):
        if isinstance(entity, Bound):
            refusal = _ask(alias, entity)
            yield _refused(alias, entity, refusal) if refusal else _row(alias, entity, BOUND)
        else:
            yield _declared(alias, entity)
    for one in further:
        yield replace(_declared(alias, Bare(one.config)), sources=one.sources)


def compare(alias: str, further: Further = ()) -> Iterator[Row]:
    """Compare the broker with the declared topology, and yield each result; changes nothing.

    Raises:
        BrokerUnavailable: no connection, or no answer in time.
    """
    for entity in registry.declaration_order(alias):
        if isinstance(entity, Bound):
            yield _row(alias, entity, NOT_CHECKED, "AMQP cannot list bindings")
        else:
            yield _compared(alias, entity)
    for one in further:
        yield replace(_compared(alias, Bare(one.config)), sources=one.sources)


def inspect(alias: str, further: Further = ()) -> Report:
    """Connect, compare and probe.

    Raises:
        BrokerUnavailable: no connection, or no answer in time.
    """
    # Before the probe, because an alarm blocks a connection completely once it has published.
    missing = tuple(row for row in compare(alias, further) if row.is_bad)
    publishing, detail = probe(alias)
    status = connections[alias].status()
    return Report(
        alias=alias,
        node=status.node,
        vhost=status.vhost,
        product=status.product,
        tls=status.tls,
        missing=missing,
        publishing=publishing,
        detail=detail,
    )


def _declared(alias: str, entity: Bare) -> Row:
    absent = _ask(alias, _passive(entity))
    if absent is not None and absent.reply_code != NOT_FOUND:
        return _refused(alias, entity, absent)
    refusal = _ask(alias, entity)
    if refusal is None:
        return _row(alias, entity, PRESENT if absent is None else CREATED)
    if absent is None and refusal.reply_code == PRECONDITION_FAILED:
        return _refused(alias, entity, refusal, DIFFERS)
    return _refused(alias, entity, refusal)


def _compared(alias: str, entity: Bare) -> Row:
    absent = _ask(alias, _passive(entity))
    if absent is not None:
        state = MISSING if absent.reply_code == NOT_FOUND else None
        return _refused(alias, entity, absent, state)
    # Declaring something that exists changes nothing: the broker accepts it if all is equal, and
    # answers 406 if not. Only if it is deleted between the two requests would the second create it.
    refusal = _ask(alias, entity)
    if refusal is None:
        return _row(alias, entity, PRESENT)
    states = {
        PRECONDITION_FAILED: DIFFERS,
        ACCESS_REFUSED: NOT_COMPARABLE,
        RESOURCE_LOCKED: NOT_COMPARABLE,
    }
    return _refused(alias, entity, refusal, states.get(refusal.reply_code))


def probe(alias: str) -> tuple[str, str]:
    """Publish to a queue that cannot exist; being returned shows that publishing works.

    It is published to the default exchange, the only one that certainly has no route for a random key.

    Returns:
        "allowed", "not allowed", "blocked" or "unknown", and the broker's error message.

    Raises:
        BrokerUnavailable: no connection, or no answer in time.
    """
    settings = loader.connection(alias)
    envelope = compose(settings, b"", routing_key=f"rmq-check-{uuid.uuid4()}")
    transport = connections[alias]
    seconds = settings.publish_timeout
    # Not by a Producer, which would send the signal publish_failed.
    error = send_and_wait(transport, envelope, seconds, lambda: f"no answer within {seconds:g} s")
    return _judged(error, transport.status().blocked)


def _judged(error: PublishError | None, blocked: str) -> tuple[str, str]:
    if isinstance(error, Rejected):
        return NOT_ALLOWED, f"{error.reply_code} {error.reply_text}"
    if blocked:
        return BLOCKED, blocked
    if isinstance(error, BrokerUnavailable):
        raise error
    if error is None or isinstance(error, Unroutable):
        return ALLOWED, ""
    return UNKNOWN, error.reason


def _ask(alias: str, entity: Entity) -> Rejected | None:
    """Declare or verify one thing; return the broker's refusal, or None."""
    settings = loader.connection(alias)
    # The first question may have to try every node before one answers.
    timeout = settings.publish_timeout + settings.connect_timeout * len(settings.nodes)
    try:
        connections[alias].declare((entity,), timeout)
    except Rejected as refusal:
        return refusal
    return None


def _passive(entity: Bare) -> QueueName | ExchangeName:
    name = entity.config.name
    return QueueName(name) if isinstance(entity.config, QueueConfig) else ExchangeName(name)


def _refused(alias: str, entity: Bare | Bound, refusal: Rejected, state: str | None = None) -> Row:
    code = refusal.reply_code
    state = state or (REFUSED if code == ACCESS_REFUSED else FAILED)
    [step] = entity.steps()
    words = refusal.reply_text.removeprefix(f"{step.entity}: ")  # the row has the name already
    return _row(alias, entity, state, f"{code} {words}")


def _summary(config: QueueConfig | ExchangeConfig) -> str:
    """Describe how it is declared, so that a plan can be compared with an existing broker."""
    words = [config.type] if isinstance(config, ExchangeConfig) else []
    words.append("durable" if config.durable else "transient")
    if isinstance(config, ExchangeConfig):
        words += [flag for flag in ("auto_delete", "internal") if getattr(config, flag)]
    words += [f"{key}={value!r}" for key, value in config.x_arguments.items()]
    return ", ".join(words)


def _row(alias: str, entity: Bare | Bound, state: str, detail: str = "") -> Row:
    config = entity.config if isinstance(entity, Bare) else entity.target
    kind = "exchange" if isinstance(config, ExchangeConfig) else "queue"
    return Row(
        kind="binding" if isinstance(entity, Bound) else kind,
        name=str(entity),
        state=state,
        detail=detail,
        sources=registry.sources(alias, config),
    )
