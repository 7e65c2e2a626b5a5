"""Rows and people for the tests of the admin's pages."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from rmq_publisher import QueueConfig
from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox.row import encoded
from rmq_publisher.testing import MemoryBroker, memory_broker

QUEUE = "orders"
PERMISSIONS = (
    "view_publishfailure", "retry_publishfailure", "discard_publishfailure", "export_publishfailure",
    "view_payload",
)  # fmt: skip


def failure(database: str = "default", *, ago: float = 60.0, **columns: Any) -> PublishFailure:
    """A message to the queue `QUEUE` that failed ``ago`` seconds ago, as the database counts."""
    values: dict[str, Any] = {
        "message_id": uuid.uuid4().hex,
        "state": "failed",
        "using": "default",
        "routing_key": QUEUE,
        "body": b'{"id": 1}',
        "properties": {"content_type": "application/json", "headers": {"h": "value-of-a-header"}},
        "error": ("Unroutable", 312, "NO_ROUTE"),
        "attempts": 1,
        "topology": encoded((QueueConfig(QUEUE),)),
        **columns,
    }
    kind, code, text = values.pop("error")
    properties = {"message_id": values["message_id"], **values.pop("properties")}
    values.setdefault("header", basic_properties(properties))
    then = DatabaseNow(-ago)
    if values["state"] == "failed":
        values.setdefault("available_at", DatabaseNow(3600))
    elif values["state"] != "dead":
        values.setdefault("finished_at", DatabaseNow())
    first = {"first_error_type": kind, "first_error_code": code, "first_error_text": text}
    last = {"last_error_type": kind, "last_error_code": code, "last_error_text": text}
    row = PublishFailure(
        size=len(values["body"]),
        created_at=then,
        failed_at=then,
        last_failed_at=then,
        **first,
        **last,
        **values,
    )
    row.history = [{"at": "2026-01-02T03:04:05+00:00", "type": kind, "code": code, "text": text}]
    row.save(using=database)
    row.refresh_from_db()
    return row


def client(*permissions: str, csrf: bool = False, staff: bool = True) -> Client:
    """A browser of somebody with these permissions."""
    user = User.objects.create_user(f"user{uuid.uuid4().hex}", password="x", is_staff=staff)
    user.user_permissions.add(
        *Permission.objects.filter(
            content_type__app_label="rmq_publisher", codename__in=permissions
        )
    )
    browser = Client(enforce_csrf_checks=csrf)
    browser.force_login(user)
    return browser


def fresh_broker() -> MemoryBroker:
    """The memory broker, with an empty queue."""
    broker = memory_broker()
    broker.reset()
    broker.declare(QueueConfig(QUEUE))
    return broker


def operator() -> Client:
    """A browser of somebody who may do everything here."""
    return client(*PERMISSIONS)


def url(what: str, *args: Any) -> str:
    return reverse(f"admin:rmq_publisher_publishfailure_{what}", args=args)


def act(browser: Client, action: str, *rows: PublishFailure, query: str = "?state=all") -> Any:
    """Run an action of the list and follow to the page that tells the outcome."""
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0"}
    if action == "discard_selected":
        data["confirmed"] = "1"
    return browser.post(url("changelist") + query, data, follow=action != "export_json")


def told(response: Any) -> list[str]:
    """The messages to the person."""
    return [str(message) for message in get_messages(response.wsgi_request)] or [
        str(message) for message in response.context["messages"]
    ]


def hidden(page: Any) -> dict[str, list[str]]:
    """What a page's form sends along, by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', text(page)):
        found.setdefault(name, []).append(value)
    return found


def text(response: Any) -> str:
    return response.content.decode()
