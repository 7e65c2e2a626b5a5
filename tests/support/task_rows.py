"""Rows and people for the tests of the page of tasks."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from rmq_publisher.contrib.django_tasks.models import TaskRecord, TaskWorker
from rmq_publisher.db.clock import DatabaseNow

TASK_PERMISSIONS = (
    "view_taskrecord", "retry_taskrecord", "cancel_taskrecord", "delete_taskrecord", "view_payload",
)  # fmt: skip
BACKEND = "rmq_publisher.contrib.django_tasks.RabbitMQBackend"
TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": ["default"]}}
FINISHED = ("FAILED", "SUCCESSFUL")


def task(status: str = "READY", *, ago: float = 60.0, **columns: Any) -> TaskRecord:
    """A task that was enqueued ``ago`` seconds ago, as the worker leaves it."""
    begun = status != "READY"
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "backend": "default",
        "task_path": "shop.tasks.send_invoice",
        "queue_name": "default",
        "args": json.dumps(["value-of-an-argument"]),
        "kwargs": json.dumps({"card": 4111}),
        "enqueued_at": DatabaseNow(-ago),
        "started_at": DatabaseNow(-ago + 1) if begun else None,
        "last_attempted_at": DatabaseNow(-ago + 1) if begun else None,
        "finished_at": DatabaseNow(-ago + 1.25) if status in FINISHED else None,
        "attempts": int(begun),
        "worker_ids": '["worker-1"]' if begun else "[]",
    }
    if status == "SUCCESSFUL":
        values["return_value"] = json.dumps({"sent": "value-of-a-result"})
    if status == "FAILED":
        error = {
            "exception_class_path": "shop.errors.NoAddressError",
            "traceback": "Traceback: value-of-a-traceback",
        }
        values |= {"failures": 1, "errors": json.dumps([error])}
    row = TaskRecord.objects.create(status=status, **{**values, **columns})
    row.refresh_from_db()
    return row


def worker() -> None:
    """One that is alive."""
    TaskWorker.objects.create(id="worker-1", started_at=DatabaseNow(-90), seen_at=DatabaseNow())


def task_url(what: str, *args: Any) -> str:
    return reverse(f"admin:rmq_publisher_tasks_taskrecord_{what}", args=args)


def task_client(*permissions: str, csrf: bool = False) -> Client:
    """A browser of somebody with these permissions."""
    user = User.objects.create_user(f"user{uuid.uuid4().hex}", password="x", is_staff=True)
    found = Permission.objects.filter(
        content_type__app_label="rmq_publisher_tasks", codename__in=permissions
    )
    user.user_permissions.add(*found)
    browser = Client(enforce_csrf_checks=csrf)
    browser.force_login(user)
    return browser


def task_operator() -> Client:
    """A browser of somebody who may do everything on the page."""
    return task_client(*TASK_PERMISSIONS)


def act_on_tasks(browser: Client, action: str, *rows: TaskRecord, **data: str) -> Any:
    """Run an action of the list and follow to the page that tells the outcome."""
    fields = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0", **data}
    return browser.post(task_url("changelist"), fields, follow=True)
