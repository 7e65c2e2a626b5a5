"""The retry queues of the project's handlers, and what a worker needs before it starts."""

import logging
from collections.abc import Iterator

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError

from rmq_publisher.amqp.entities import Entity, ExchangeName, QueueName
from rmq_publisher.amqp.reply_codes import NOT_FOUND
from rmq_publisher.conf import loader
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.handlers import registered_handlers
from rmq_publisher.consumer.retry_levels import levels_of
from rmq_publisher.db.errors import is_table_missing
from rmq_publisher.db.support import how_to_migrate, unfit
from rmq_publisher.exceptions import Rejected
from rmq_publisher.topology.declare import NOT_ALLOWED, probe
from rmq_publisher.topology.registry import Declaration
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.consumer")


def declarations(alias: str) -> tuple[Declaration, ...]:
    """Return the retry queues that the handlers of a RabbitMQ connection need.

    Raises:
        ImproperlyConfigured, InvalidMessage: a handler's connection is not known.
    """
    return tuple(
        Declaration(config, alias, (handler.place,))
        for handler in registered_handlers()
        if handler.alias == alias
        for config in levels_of(handler).configs()
    )


class NotReady(Exception):
    """Something that the retries of a handler need does not exist, or is not permitted."""


def require(options: HandlerOptions) -> None:
    """Check that everything that the retries of a handler need exists.

    Raises:
        NotReady: lists everything that is missing.
        Rejected: the broker refused to answer.
        BrokerUnavailable: it cannot be asked.
    """
    if found := [*missing(options), *_without_table(options)]:
        raise NotReady("\n".join(found))
    if reason := unfit(_database(options)):
        logger.warning("%s: crashes of the worker are not counted: %s", options, reason)


def missing(options: HandlerOptions) -> list[str]:
    """Ask the broker for what the retries of a handler need; return what to do about what is missing.

    On the memory broker it is declared, because no other process could declare it.

    Raises:
        Rejected: the broker refused to answer.
        BrokerUnavailable: it cannot be asked.
    """
    levels = levels_of(options)
    if loader.connection(options.alias).memory:
        connections[options.alias].declare(levels.configs(), _seconds(options.alias))
        return []
    found = list(_missing_levels(options, levels.names))
    if levels.delays and not found:
        found += _forbidden(options.alias)
    return found + list(_missing_dead_letters(options))


def _missing_levels(options: HandlerOptions, names: tuple[str, ...]) -> Iterator[str]:
    lacking = [name for name in names if _is_missing(options.alias, QueueName(name))]
    if lacking:
        yield (
            f"{options}: its retries need {', '.join(map(repr, lacking))}, which RabbitMQ does not have: "
            "run manage.py rmq_declare"
        )


def _forbidden(alias: str) -> Iterator[str]:
    state, detail = probe(alias)
    if state == NOT_ALLOWED:
        yield (
            "retries are published to the default exchange: give the user of RabbitMQ connection "
            f"{alias!r} write permission on amq.default ({detail})"
        )


def _missing_dead_letters(options: HandlerOptions) -> Iterator[str]:
    """Yield the dead-letter exchange if it is missing; AMQP cannot list bindings."""
    arguments = {} if options.config is None else options.config.x_arguments
    exchange = arguments.get("x-dead-letter-exchange")
    if exchange is None:
        return
    key = arguments.get("x-dead-letter-routing-key")
    entity = QueueName(key) if not exchange and key else ExchangeName(exchange)
    if _is_missing(options.alias, entity):
        yield (
            f"{options}: its dead letters go to {entity}, which does not exist, and would be lost: run "
            "manage.py rmq_declare"
        )


def _is_missing(alias: str, entity: Entity) -> bool:
    try:
        connections[alias].declare((entity,), _seconds(alias))
    except Rejected as error:
        if error.reply_code != NOT_FOUND:
            raise
        return True
    return False


def _seconds(alias: str) -> float:
    settings = loader.connection(alias)
    return settings.publish_timeout + settings.connect_timeout * len(settings.nodes)


def _without_table(options: HandlerOptions) -> Iterator[str]:
    database = _database(options)
    if unfit(database):
        return
    table = apps.get_model("rmq_publisher", "HandlerStart")
    try:
        table._default_manager.using(database).order_by().values("pk")[:1].exists()
    except (DatabaseError, InterfaceError) as error:
        if is_table_missing(error):
            yield f"{options}: database {database!r}: {how_to_migrate(database)}"
    # The worker waits for a database that is down.


def _database(options: HandlerOptions) -> str:
    return options.database or DEFAULT_DB_ALIAS
