"""Rows of stored messages, made without sending anything."""

import itertools
from datetime import timedelta
from typing import Any

from django.db import connections as databases

from rmq_publisher.db.clock import database_now
from rmq_publisher.outbox.row import new_token
from rmq_publisher.outbox.transitions import messages

_numbers = itertools.count(1)


def stored(
    database: str,
    state: str,
    *,
    age: float = 0.0,
    held: bool = False,
    **columns: Any,
) -> Any:
    """Make a row as `rmq_publisher.outbox` leaves it.

    Args:
        database: alias.
        state: of it.
        age: seconds since it was written, failed and finished.
        held: whether somebody is sending it at this moment.
        columns: others.
    """
    then = database_now(databases[database]) - timedelta(seconds=age)
    later = database_now(databases[database]) + timedelta(hours=1)
    available = None
    if state in ("pending", "failed") or held:
        available = later if held or state == "failed" else then
    values: dict[str, Any] = {
        "message_id": f"m{next(_numbers)}",
        "state": state,
        "using": "default",
        "routing_key": "orders",
        "header": b"\0\0",
        "body": b"{}",
        "size": 2,
        "available_at": available,
        "token": new_token() if held else 0,
        "created_at": then,
    }
    if state != "pending":
        values |= {
            "failed_at": then,
            "last_failed_at": then,
            "attempts": 3,
            "unanswered": 2,
            "first_error_type": "Unroutable",
            "last_error_type": "Unroutable",
        }
    if state in ("delivered", "discarded"):
        values["finished_at"] = then
    rows = messages(database)
    row = rows.model(**{**values, **columns})
    rows.bulk_create([row])
    return row
