"""Variants that are broken on purpose: each must be reported, or the harness sees nothing.

Run as ``python -m tests.chaos.liars rmq_relay ...``: manage.py with the lie that ``CHAOS_LIAR`` names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import django


def publishes_before_commit() -> None:
    """The message is sent when publish() is called, even if the transaction is rolled back."""
    from rmq_publisher.publisher import api  # noqa: PLC0415 (after django.setup(), in all of these)
    from rmq_publisher.transport.delivery import deliver  # noqa: PLC0415

    def store(using: str, envelopes: Any, _: Any, timeout: float, __: str) -> None:
        for envelope in envelopes:
            deliver(using, envelope, timeout)

    vars(api)["store"] = store


def remembers_the_last_id() -> None:
    """The relay asks only for rows behind the last one that it saw."""
    from rmq_publisher.outbox import claims  # noqa: PLC0415
    from rmq_publisher.outbox.sql_dialect import Dialect  # noqa: PLC0415

    seen = 0
    due, claim = Dialect.due, claims.claim

    def due_behind(self: Any, aliases: Sequence[str]) -> tuple[str, list[Any]]:
        condition, values = due(self, aliases)
        return f"{condition} AND id > {seen:d}", values

    def claim_and_remember(*args: Any, **options: Any) -> Any:
        nonlocal seen
        rows = claim(*args, **options)
        seen = max([seen, *(row.id for row in rows)])
        return rows

    Dialect.due = due_behind  # type: ignore[method-assign]
    claims.claim = claim_and_remember


def marks_before_the_confirm() -> None:
    """What was handed over counts as delivered."""
    from rmq_publisher.outbox import transitions  # noqa: PLC0415
    from rmq_publisher.outbox.in_flight import InFlight  # noqa: PLC0415

    add = InFlight.add

    def mark_and_add(self: Any, rows: Any) -> None:
        rows = list(rows)
        transitions.complete_confirmed("default", rows)
        add(self, rows)

    InFlight.add = mark_and_add  # type: ignore[method-assign]


def completes_without_the_lease() -> None:
    """Changes go by the row's id; whose it is by now is not asked."""
    from rmq_publisher.db.clock import DatabaseNow  # noqa: PLC0415
    from rmq_publisher.outbox import transitions  # noqa: PLC0415

    def complete_confirmed(database: str, rows: Any) -> int:
        ids = [row.id for row in rows]
        return int(transitions.messages(database).filter(id__in=ids).delete()[0])

    def complete_failed(database: str, items: Any) -> list[str | None]:
        rows = transitions.messages(database).filter(id__in=[row.id for row, _ in items])
        rows.update(state="failed", token=0, available_at=DatabaseNow(1), failed_at=DatabaseNow())
        return ["failed"] * len(items)

    transitions.complete_confirmed = complete_confirmed
    transitions.complete_failed = complete_failed


def retries_with_a_new_id() -> None:
    """What the relay sends in the writer's place bears an id of its own."""
    from pika import BasicProperties  # noqa: PLC0415

    from rmq_publisher.messages.properties import new_id  # noqa: PLC0415
    from rmq_publisher.outbox import claims  # noqa: PLC0415
    from rmq_publisher.outbox.row import from_row  # noqa: PLC0415

    def renamed(*args: Any, **options: Any) -> Any:
        stored = from_row(*args, **options)
        properties = BasicProperties()
        properties.decode(stored.envelope.header)
        properties.message_id = new_id()
        header = b"".join(properties.encode())
        stored.envelope = stored.envelope._replace(message_id=properties.message_id, header=header)
        return stored

    vars(claims)["from_row"] = renamed


def sends_past_the_grace() -> None:
    """The writer takes its rows for its own for ever."""
    from rmq_publisher.outbox import transitions  # noqa: PLC0415

    insert = transitions.insert

    def insert_for_ever(*args: Any, **options: Any) -> Any:
        rows = insert(*args, **options)
        for row in rows:
            row.own_until = float("inf")
        return rows

    transitions.insert = insert_for_ever


def sends_two_of_a_key() -> None:
    """The relay does not wait for a confirm before it sends the next of a key."""
    from rmq_publisher.outbox.in_flight import InFlight  # noqa: PLC0415

    add = InFlight.add

    def add_at_once(self: Any, rows: Any) -> None:
        rows = list(rows)
        for row in rows:
            row.ordering_key = ""
        add(self, rows)

    InFlight.add = add_at_once  # type: ignore[method-assign]


LIARS: dict[str, Callable[[], None]] = {
    lie.__name__: lie
    for lie in (
        publishes_before_commit,
        remembers_the_last_id,
        marks_before_the_confirm,
        completes_without_the_lease,
        retries_with_a_new_id,
        sends_past_the_grace,
        sends_two_of_a_key,
    )
}


def activate(name: str) -> None:
    """Break the package in this process; an empty name leaves it as it is."""
    if name:
        LIARS[name]()


def main() -> None:
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    django.setup()
    activate(os.environ.get("CHAOS_LIAR", ""))
    execute_from_command_line(["manage.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
