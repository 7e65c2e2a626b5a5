"""Retry queues that no handler needs any more. AMQP cannot list queues, so each declared one is noted."""

from collections.abc import Collection
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, router
from django.db.models import QuerySet

from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.amqp.reply_codes import NOT_FOUND
from rmq_publisher.conf import loader
from rmq_publisher.db.keys import key_of
from rmq_publisher.exceptions import Rejected
from rmq_publisher.transport.handler import connections

# A project whose database is away, or has no such table, declares its queues all the same.
UNUSABLE = (DatabaseError, InterfaceError, ImproperlyConfigured)


class OldLevel(NamedTuple):
    """A retry queue that is left over, and how many messages wait in it."""

    name: str
    messages: int


def note(alias: str, names: Collection[str]) -> None:
    """Note that these were declared; forget those that are needed no more and are gone.

    Raises:
        DatabaseError, InterfaceError, ImproperlyConfigured: Django's.
    """
    rows = _rows()
    for name in names:
        rows.get_or_create(pk=key_of(alias, name), defaults={"using": alias, "name": name})
    there = {level.name for level in old_levels(alias, names)}
    gone = [row.pk for row in rows.filter(using=alias) if row.name not in {*there, *names}]
    rows.filter(pk__in=gone).delete()


def old_levels(alias: str, needed: Collection[str]) -> list[OldLevel]:
    """Return the noted queues that are needed no more and still exist.

    Args:
        alias: RabbitMQ alias.
        needed: the names of the retry queues of now.

    Raises:
        DatabaseError, InterfaceError, ImproperlyConfigured: Django's.
        BrokerUnavailable: the broker cannot be asked.
    """
    noted = _rows().filter(using=alias).order_by("name").values_list("name", flat=True)
    return [
        OldLevel(name, messages)
        for name in noted
        if name not in needed and (messages := _messages(alias, name)) is not None
    ]


def _messages(alias: str, name: str) -> int | None:
    """Return how many messages wait in a queue; None where there is no such queue."""
    try:
        declared = connections[alias].declare(
            (QueueName(name),), loader.connection(alias).publish_timeout
        )
    except Rejected as error:
        return None if error.reply_code == NOT_FOUND else 0
    return declared[0].messages or 0


def _rows() -> QuerySet[Any]:
    # The model is not imported: apps may not be ready yet.
    model = apps.get_model("rmq_publisher", "RetryQueue")
    return model._default_manager.using(router.db_for_write(model))
