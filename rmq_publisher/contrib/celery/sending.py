"""Publishes a task: its message, its destination, and where it waits until it is due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.conf import loader
from rmq_publisher.contrib.celery.message import (
    DELAY_EXCHANGE,
    check_arguments,
    delayed_routing_key,
    moment,
    task_body,
    task_headers,
)
from rmq_publisher.exceptions import InvalidMessage

DEFAULT_QUEUE = "celery"  # Celery's task_default_queue
SCHEDULES = ("table", "worker", "broker")


@dataclass(frozen=True, slots=True, repr=False)
class Outgoing:
    """A task that is ready to be published.

    Attributes:
        task_id: of the task, and of its message.
        body: JSON.
        options: keyword arguments of `publish`.
    """

    task_id: str
    body: str
    options: dict[str, Any]


def outgoing(
    name: str,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
    *,
    task_id: str,
    links: Sequence[Mapping[str, Any]] = (),
    error_links: Sequence[Mapping[str, Any]] = (),
    chain: Sequence[Mapping[str, Any]] = (),
    group: tuple[str, int] | None = None,
) -> Outgoing:
    """Make the message of a task.

    Args:
        name: the task's, as the worker knows it.
        args, kwargs: what it is called with.
        options: see `TaskOptions`; their names have been checked.
        task_id: of the task.
        links, error_links, chain: signatures that the worker sends afterwards.
        group: id of the group that the task belongs to, and its place in it.

    Raises:
        TypeError, InvalidMessage: bad arguments or options.
    """
    __traceback_hide__ = True
    check_arguments(args, kwargs)
    settings = loader.celery()
    expires = moment("expires", options.get("expires"))
    eta, when = _times(options, options.get("schedule") or settings.celery_schedule or "table")
    headers = task_headers(
        name,
        task_id,
        args,
        kwargs,
        eta=eta,
        expires=expires,
        time_limit=options.get("time_limit"),
        soft_time_limit=options.get("soft_time_limit"),
        ignore_result=bool(options.get("ignore_result", False)),
        shadow=options.get("shadow"),
        group=group[0] if group else None,
        group_index=group[1] if group else None,
    )
    # As kombu does: a quorum queue of RabbitMQ 4.3 treats a message without a priority as a 4.
    priority = options.get("priority")
    publishing: dict[str, Any] = {
        **_destination(options, when.pop("delayed", None)),
        **when,
        "headers": {**(options.get("headers") or {}), **headers},
        "message_id": task_id,
        "correlation_id": task_id,
        "reply_to": options.get("reply_to") or None,
        "priority": 0 if priority is None else priority,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "using": options.get("using") or settings.celery_using,
        "database": options.get("database"),
        "delivery": options.get("delivery") or settings.celery_delivery,
        "ordering_key": options.get("ordering_key"),
    }
    if expires is not None:
        publishing["expiration"] = max(expires - timezone.now(), timedelta(0))
    body = task_body(args, kwargs, link=links, link_error=error_links, chain=chain)
    return Outgoing(task_id, body, publishing)


def _times(options: Mapping[str, Any], schedule: str) -> tuple[datetime | None, dict[str, Any]]:
    """Return the eta for the worker, and the options of `publish` that delay the message."""
    if schedule not in SCHEDULES:
        raise InvalidMessage(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
    countdown, asked = options.get("countdown"), options.get("eta")
    if countdown is not None and asked is not None:
        raise InvalidMessage("countdown and eta are two ways to say when: give one of them")
    if asked is not None and not isinstance(asked, datetime):
        raise InvalidMessage(f"eta must be an aware datetime, not {type(asked).__name__}")
    eta = moment("countdown" if asked is None else "eta", countdown if asked is None else asked)
    if eta is None or (seconds := (eta - timezone.now()).total_seconds()) <= 0:
        return asked, {}
    if schedule == "table":
        # The message needs no eta, because the worker receives it when it is due.
        return asked, {"countdown": countdown} if asked is None else {"eta": asked}
    if schedule == "broker" and seconds >= 1:
        return eta, {"delayed": seconds}
    return eta, {}


def _destination(options: Mapping[str, Any], delayed: float | None) -> dict[str, Any]:
    queue, exchange = options.get("queue") or "", options.get("exchange") or ""
    routing_key = options.get("routing_key")
    if not queue and not exchange and routing_key is None:
        queue = DEFAULT_QUEUE
    if delayed is None:
        return {"queue": queue, "exchange": exchange, "routing_key": routing_key}
    if routing_key is None:
        routing_key = queue.name if isinstance(queue, QueueConfig) else queue
    return {
        "queue": queue,
        "exchange": DELAY_EXCHANGE,
        "routing_key": delayed_routing_key(delayed, routing_key),
    }
