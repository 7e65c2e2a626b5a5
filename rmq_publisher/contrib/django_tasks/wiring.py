"""Registers task queues, cancelling and pruning with the rest of the package."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.core import checks as django_checks
from django.db import connections as databases

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.amqp.validation import TopologyError
from rmq_publisher.contrib.django_tasks import checks, records
from rmq_publisher.contrib.django_tasks.configured import backends
from rmq_publisher.contrib.django_tasks.options import TAG
from rmq_publisher.contrib.django_tasks.topology import all_queues
from rmq_publisher.outbox.maintenance import extra_pruners
from rmq_publisher.publisher.scheduling import cancellers
from rmq_publisher.topology import registry


def queues() -> Iterator[QueueConfig]:
    """Yield the broker's queues of all backends, as far as their names are known."""
    for backend in backends():
        for name in sorted(backend.queues):
            try:
                yield from all_queues(backend.usable_options, name)
            except TopologyError:
                continue  # the check E005 reports it


def check_sharing(**_: Any) -> list[django_checks.CheckMessage]:
    """Return the backends that share queues."""
    known = [(one.alias, one.queues, one.usable_options) for one in backends()]
    return checks.messages(checks.sharing(known))


def cancel(message_id: str, database: str) -> bool:
    """Cancel a task that has not started, for `rmq_publisher.cancel`."""
    kept_there = any(one.usable_options.database == database for one in backends())
    return kept_there and database in databases and records.cancel(database, message_id)


def prune(database: str, older_than: timedelta | None, *, batch: int, dry_run: bool) -> int:
    """Delete finished tasks of a database that are old enough; return how many."""
    total = 0
    for backend in backends():
        options = backend.usable_options
        if options.database != database:
            continue
        days = older_than / timedelta(days=1) if older_than else options.result_retention_days
        while pruned := records.prune(
            database, [backend.alias], days, most=batch, dry_run=dry_run
        ):
            total += pruned
            if dry_run:
                break
    return total


def connect() -> None:
    """Register tasks with `rmq_declare`, the checks, `rmq_prune` and `cancel`."""
    registry.add_source("TASKS", queues)
    extra_pruners["tasks"] = prune
    if cancel not in cancellers:
        cancellers.append(cancel)
    django_checks.register(check_sharing, TAG)
