"""Rows and people for the tests of the page of pending and scheduled messages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connections as databases
from django.test import Client
from django.urls import reverse

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.db.clock import database_now
from rmq_publisher.models import PendingMessage
from tests.support.admin_rows import QUEUE, client
from tests.support.stored_rows import stored

PENDING_PERMISSIONS = (
    "view_pendingmessage",
    "send_pendingmessage",
    "cancel_pendingmessage",
    "view_payload",
)


def pending(
    database: str = "default", *, ahead: float | None = None, **columns: Any
) -> PendingMessage:
    """A message to the queue `QUEUE` that nobody has taken; scheduled ``ahead`` seconds from now."""
    if ahead is not None:
        then = database_now(databases[database]) + timedelta(seconds=ahead)
        columns = {"available_at": then, "scheduled_at": then, **columns}
    headers = {"content_type": "application/json", "headers": {"h": "value-of-a-header"}}
    row = stored(database, "pending", **{"routing_key": QUEUE, "body": b'{"id": 1}', **columns})
    row.header = basic_properties({"message_id": row.message_id, **headers})
    row.save(using=database)
    return PendingMessage.objects.using(database).get(pk=row.pk)


def pending_url(what: str, *args: Any) -> str:
    return reverse(f"admin:rmq_publisher_pendingmessage_{what}", args=args)


def scheduler() -> Client:
    """A browser of somebody who may do everything on the page."""
    return client(*PENDING_PERMISSIONS, "view_publishfailure")


def act_on(
    browser: Client, action: str, *rows: PendingMessage, query: str = "", **data: str
) -> Any:
    """Run an action of the list and follow to the page that tells the outcome."""
    fields = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0", **data}
    return browser.post(pending_url("changelist") + query, fields, follow=True)
