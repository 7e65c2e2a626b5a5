"""Turns the arguments of a call into a message and its destination; refuses invalid ones."""

import functools
import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

from rmq_publisher.amqp.entities import (
    ExchangeConfig,
    ExchangeName,
    QueueConfig,
    QueueName,
    Topology,
)
from rmq_publisher.amqp.validation import TopologyError, check_name
from rmq_publisher.conf import loader
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.messages.envelope import (
    Envelope,
    Message,
    MessageOptions,
    PropertyOptions,
    seal,
)

Queue = str | QueueConfig
Exchange = str | ExchangeConfig


_CONFIGS = (QueueConfig, ExchangeConfig)
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to."


class PlaceOptions(TypedDict, total=False):
    """The options of a message's destination.

    ``queue`` and ``exchange`` are names or configs, ``using`` is the RabbitMQ alias, ``declare`` a list
    of configs to declare first, ``timeout`` the limit of the whole call in seconds.
    """

    queue: Queue
    exchange: Exchange
    using: str | None
    declare: Iterable[QueueConfig | ExchangeConfig]
    timeout: float | timedelta | None


class ProducerOptions(PropertyOptions, PlaceOptions, total=False):
    """The options of `Producer.publish` besides body, routing key and properties."""


class NowOptions(MessageOptions, PlaceOptions, total=False):
    """The options of `publish` besides the body, except those about transactions."""

    routing_key: str | None


PRODUCER_OPTIONS = frozenset(ProducerOptions.__annotations__)
NOW_OPTIONS = frozenset(NowOptions.__annotations__)


def seconds(name: str, value: float | timedelta | None, default: float) -> float:
    """Return a timeout in seconds.

    Raises:
        InvalidMessage: it is not a positive number.
    """
    if value is None:
        return default
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidMessage(f"{name} must be seconds, not {type(value).__name__}")
    if not 0 < value <= threading.TIMEOUT_MAX:
        most = int(threading.TIMEOUT_MAX)
        raise InvalidMessage(f"{name} must be more than zero and at most {most} seconds")
    return float(value)


def topology_of(
    exchange: Exchange, queue: Queue, declare: tuple[QueueConfig | ExchangeConfig, ...]
) -> Topology:
    """Return what to declare or verify: ``declare``, then the exchange, then the queue."""
    entities: list[Any] = list(declare)
    if isinstance(exchange, ExchangeConfig):
        entities.append(exchange)
    elif exchange:
        entities.append(ExchangeName(exchange))
    if isinstance(queue, QueueConfig):
        entities.append(queue)
    elif queue:
        entities.append(QueueName(queue))
    return tuple(entities)


def configs(declare: Iterable[Any]) -> tuple[QueueConfig | ExchangeConfig, ...]:
    """Return the configs in ``declare=``.

    Raises:
        InvalidMessage: it is not a list of configs.
    """
    items = tuple(declare) if isinstance(declare, Iterable) else (None,)
    if not all(isinstance(item, QueueConfig | ExchangeConfig) for item in items):
        raise InvalidMessage("declare= takes a list of QueueConfig and ExchangeConfig objects")
    return items


def _destination(
    queue: Queue,
    exchange: Exchange,
    routing_key: str | None,
    declare: tuple[QueueConfig | ExchangeConfig, ...],
) -> tuple[str, str, Topology]:
    """Return exchange, routing key and topology of a call's arguments.

    Raises:
        InvalidMessage: there is no destination, or an argument is of the wrong type.
    """
    try:
        return _known_destination(queue, exchange, routing_key, declare)
    except TypeError:  # an argument is not hashable, so it is of the wrong type
        return _checked_destination(queue, exchange, routing_key, declare)


def _checked_destination(
    queue: Queue,
    exchange: Exchange,
    routing_key: str | None,
    declare: tuple[QueueConfig | ExchangeConfig, ...],
) -> tuple[str, str, Topology]:
    try:
        if not isinstance(queue, QueueConfig):
            queue = check_name("queue (unless it is a QueueConfig)", queue, empty=True)
        if not isinstance(exchange, ExchangeConfig):
            exchange = check_name(
                "exchange (unless it is an ExchangeConfig)", exchange, empty=True
            )
        if routing_key is not None:
            routing_key = check_name("routing_key", routing_key, empty=True)
    except TopologyError as error:
        raise InvalidMessage(str(error)) from error
    queue_name = queue.name if isinstance(queue, QueueConfig) else queue
    exchange_name = exchange.name if isinstance(exchange, ExchangeConfig) else exchange
    key = queue_name if routing_key is None else routing_key
    if not exchange_name and not key:
        raise InvalidMessage("nowhere to go: name a queue, an exchange or a routing key")
    if not exchange_name and key.startswith(DIRECT_REPLY_TO):
        # The broker delivers it but also returns it as unroutable; an invalid one ends the connection.
        raise InvalidMessage(
            f"routing_key {key!r} is a direct reply-to: RabbitMQ cannot confirm that such a reply was "
            "routed; let the requester give a queue in reply_to"
        )
    return exchange_name, key, topology_of(exchange, queue, declare)


_known_destination = functools.lru_cache(maxsize=1024)(_checked_destination)


def compose(
    settings: loader.ConnectionSettings,
    body: Any,
    *,
    queue: Queue = "",
    exchange: Exchange = "",
    routing_key: str | None = None,
    declare: Iterable[QueueConfig | ExchangeConfig] = (),
    serializer: str | None = None,
    **options: Any,
) -> Envelope:
    """Return the envelope of a call: its destination, its topology and its content.

    Raises:
        TypeError, InvalidMessage: an argument is not valid.
    """
    # Django's debug page and error mails would show the body and the headers.
    __traceback_hide__ = True
    declared = configs(declare) if declare != () else ()
    if declared:
        _check_alias(settings.alias, declared)
    exchange_name, key, topology = _destination(queue, exchange, routing_key, declared)
    if settings.app_id is not None and options.get("app_id") is None:
        own = getattr(options.get("properties"), "app_id", None)
        options["app_id"] = own or settings.app_id
    return seal(
        body,
        exchange=exchange_name,
        routing_key=key,
        topology=topology,
        max_body_size=settings.max_body_size,
        serializer=settings.serializer if serializer is None else serializer,
        **options,
    )


class Plan(NamedTuple):
    """A composed message, its RabbitMQ alias and the timeout of the call in seconds."""

    using: str
    envelope: Envelope
    timeout: float


def alias_of(using: str | None, *entities: object) -> str:
    """Return the RabbitMQ alias of a call: ``using``, or that of its queue or exchange config.

    Raises:
        InvalidMessage: none or more than one is named, or the alias does not exist.
    """
    known = [entity for entity in entities if isinstance(entity, _CONFIGS)]
    if using is None and known:
        named = {config.using for config in known if config.using is not None}
        if len(named) > 1:
            raise InvalidMessage(
                f"{' and '.join(map(str, known))} belong to different RabbitMQ connections"
            )
        using = next(iter(named), None)
    alias = loader.alias_for(using)
    if known:
        _check_alias(alias, known)
    return alias


def _check_alias(alias: str, known: Iterable[QueueConfig | ExchangeConfig]) -> None:
    """Refuse configs of another RabbitMQ connection than the call's."""
    for config in known:
        if config.using not in (None, alias):
            raise InvalidMessage(
                f"{config} belongs to the RabbitMQ connection {config.using!r}, "
                f"and the call is for {alias!r}: leave using= out, or give both the same"
            )


def prepare(
    body: Any,
    *,
    using: str | None = None,
    timeout: float | timedelta | None = None,
    queue: Queue = "",
    exchange: Exchange = "",
    **options: Any,
) -> Plan:
    """Compose a message with the settings of its alias.

    Raises:
        TypeError, InvalidMessage: an argument is not valid.
        ImproperlyConfigured: the settings are wrong.
    """
    __traceback_hide__ = True  # as in compose()
    alias = alias_of(using, queue, exchange)
    settings = loader.connection(alias)
    limit = seconds("timeout", timeout, settings.publish_timeout)
    return Plan(alias, compose(settings, body, queue=queue, exchange=exchange, **options), limit)


def check_many(bodies: object, call: Mapping[str, Any]) -> None:
    """Refuse what would make other messages than were meant.

    Raises:
        TypeError: one body in the place of many.
        InvalidMessage: one id for all.
    """
    __traceback_hide__ = True  # as in compose()
    one = isinstance(bodies, str | bytes | bytearray | Mapping | Message)
    if one or not isinstance(bodies, Iterable):
        raise TypeError(f"bodies must be an iterable of bodies, not {type(bodies).__name__}")
    if getattr(call.get("properties"), "message_id", None):
        raise InvalidMessage(
            "properties.message_id would be that of every message: give each Message its own"
        )
