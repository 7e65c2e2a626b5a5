"""The system checks of handlers."""

from collections.abc import Iterator

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import Problem
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.handlers import registered_handlers
from rmq_publisher.consumer.retry_levels import why_no_retries
from rmq_publisher.db import support
from rmq_publisher.db.errors import is_table_missing
from rmq_publisher.topology import registry

TAG = "rmq_publisher"


def handler_problems() -> list[Problem]:
    """Return the problems of the project's handlers that can be found without a broker."""
    handlers = registered_handlers()
    found = list(_same_names(handlers))
    by_queue: dict[tuple[str, str], HandlerOptions] = {}
    for handler in handlers:
        alias, problem = _alias(handler)
        if problem is not None:
            found.append(problem)
            continue
        first = by_queue.setdefault((alias, handler.queue_name), handler)
        if first is not handler:
            found.append(
                Problem(
                    handler.place,
                    f"handles queue {handler.queue_name!r}, as {first.place} does: each message would "
                    "go to one of them by chance",
                    "Bind a separate queue for each.",
                    f"{TAG}.E022",
                )
            )
        found += _of_queue(handler, alias)
        if handler.once:
            found += _of_inbox(handler)
    return found


def _same_names(handlers: tuple[HandlerOptions, ...]) -> Iterator[Problem]:
    first: dict[str, HandlerOptions] = {}
    for handler in handlers:
        known = first.setdefault(handler.name, handler)
        if known is not handler:
            yield Problem(
                handler.place,
                f"has the name {handler.name!r}, as {known.place} has: the inbox could not distinguish "
                "them",
                "Give one of them name=.",
                f"{TAG}.E021",
            )


def _alias(handler: HandlerOptions) -> tuple[str, Problem | None]:
    known = loader.aliases()
    if not known:
        return handler.using or "", None  # the missing RMQ_URL is a problem of its own
    config = handler.queue if isinstance(handler.queue, QueueConfig) else None
    using = handler.using or (config.using if config is not None else None)
    if using in known or (using is None and len(known) == 1):
        return using or known[0], None
    there = ", ".join(map(repr, known))
    text = (
        "does not say which RabbitMQ connection its queue belongs to"
        if using is None
        else f"names the unknown RabbitMQ connection {using!r}"
    )
    return "", Problem(handler.place, text, f"Give it using=, one of {there}.", f"{TAG}.E023")


def _of_queue(handler: HandlerOptions, alias: str) -> Iterator[Problem]:
    """Yield undeclared queues, and queues whose messages cannot be retried."""
    declared = {queue.name for queue in registry.queues(alias)} if alias else set()
    if isinstance(handler.queue, str) and handler.queue not in declared:
        yield Problem(
            handler.place,
            f"handles queue {handler.queue!r}, which the project does not declare: if it does not exist, "
            "the worker exits",
            "Add its QueueConfig to queues.py, or silence this check if somebody else declares it.",
            f"{TAG}.W021",
        )
    if alias and handler.is_stream and handler.max_attempts != 1:
        yield Problem(
            handler.place,
            f"handles the stream {handler.queue_name!r}, whose messages cannot be retried",
            "Set max_attempts=1.",
            f"{TAG}.E024",
        )
    elif alias and (reason := why_no_retries(handler)):
        yield Problem(
            handler.place,
            f"has max_attempts={handler.max_attempts}, and a failed message of queue "
            f"{handler.queue_name!r} cannot wait for another attempt: {reason}",
            "Set max_attempts=1, or use another queue; as it is, the first failure is final.",
            f"{TAG}.W022",
        )


def _of_inbox(handler: HandlerOptions) -> Iterator[Problem]:
    database = handler.database or DEFAULT_DB_ALIAS
    if database not in databases:
        known = ", ".join(map(repr, databases))
        yield Problem(
            handler.place,
            f"has database={database!r}, which is not in DATABASES",
            f"There are: {known}.",
            f"{TAG}.E025",
        )
    elif reason := support.unfit(database):
        yield Problem(
            handler.place,
            f"has once=True, and database {database!r} has no table for its inbox",
            f"{reason[:1].upper()}{reason[1:]}.",
            f"{TAG}.E025",
        )


def without_inbox(handler: HandlerOptions) -> str:
    """Return what to do where the table of a handler's inbox is missing. Asks the database."""
    if not handler.once:
        return ""
    database = handler.database or DEFAULT_DB_ALIAS
    table = apps.get_model("rmq_publisher", "InboxMessage")
    try:
        table._default_manager.using(database).order_by().values("pk")[:1].exists()
    except (DatabaseError, InterfaceError) as error:
        if is_table_missing(error):
            return f"{handler} has once=True; database {database!r}: {support.how_to_migrate(database)}."
    return ""  # the worker waits for a database that is down
