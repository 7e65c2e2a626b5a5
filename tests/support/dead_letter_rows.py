"""Rows and people for the tests of the pages of dead letters and of the inbox."""

from __future__ import annotations

import uuid
from typing import Any

from django.test import Client
from django.urls import reverse

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.keys import key_of
from rmq_publisher.models import DeadLetter, InboxMessage
from tests.support.admin_rows import QUEUE, client

PERMISSIONS = (
    "view_deadletter", "send_back_deadletter", "discard_deadletter", "export_deadletter",
    "view_payload",
)  # fmt: skip
DEATH = {
    "queue": QUEUE, "reason": "rejected", "exchange": "events", "routing_keys": ["order.new"],
    "count": 2, "time": "2026-01-02T03:04:05+00:00",
}  # fmt: skip


def dead_letter(database: str = "default", *, ago: float = 60.0, **columns: Any) -> DeadLetter:
    """A message that died ``ago`` seconds ago in the queue `QUEUE`."""
    message_id = columns.get("message_id", uuid.uuid4().hex)
    headers = {"h": "value-of-a-header", "x-death": [{"queue": QUEUE, "reason": "rejected"}]}
    properties = {"message_id": message_id, "content_type": "application/json", "headers": headers}
    then = DatabaseNow(-ago)
    values: dict[str, Any] = {
        "digest": uuid.uuid4(),
        "message_id": message_id,
        "using": "default",
        "queue": QUEUE,
        "dead_letter_queue": "dead",
        "exchange": "events",
        "routing_key": "order.new",
        "reason": "rejected",
        "error": "",
        "attempts": 1,
        "deaths": [DEATH],
        "header": basic_properties(properties),
        "body": b'{"id": 1}',
        "died_at": then,
        "stored_at": then,
        **columns,
    }
    if values.get("state", "waiting") != "waiting":
        values.setdefault("finished_at", then)
    row = DeadLetter(size=len(values["body"]), **values)
    row.save(using=database)
    row.refresh_from_db()
    return row


def handled(message_id: str, name: str = "book", *, ago: float = 60.0) -> InboxMessage:
    """A message that a handler has handled ``ago`` seconds ago."""
    row = InboxMessage(
        id=key_of(name, message_id), name=name, message_id=message_id, digest="0" * 64,
        handled_at=DatabaseNow(-ago),
    )  # fmt: skip
    row.save(force_insert=True)
    return row


def letters_url(what: str, *args: Any) -> str:
    return reverse(f"admin:rmq_publisher_deadletter_{what}", args=args)


def inbox_url(what: str, *args: Any) -> str:
    return reverse(f"admin:rmq_publisher_inboxmessage_{what}", args=args)


def undertaker() -> Client:
    """A browser of somebody who may do everything on the page of dead letters."""
    return client(*PERMISSIONS)


def act_on(
    browser: Client, action: str, *rows: DeadLetter, query: str = "?state=all", **data: str
) -> Any:
    """Run an action of the list and follow to the page that tells the outcome."""
    fields = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0", **data}
    return browser.post(letters_url("changelist") + query, fields, follow=action != "export_json")
