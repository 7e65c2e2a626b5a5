"""`AMQP` for an existing Celery app: all the tasks that it sends go through `publish()`.

Routing, serializing, signals, stamps and results stay Celery's own. Its class for sending is replaced
where it hands a finished message to kombu's producer; nothing connects through kombu for that.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import current_task
from celery.app import amqp as celery_amqp
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.utils import timezone
from kombu import Exchange
from kombu.common import Broadcast
from kombu.compression import compress
from kombu.entity import maybe_delivery_mode
from kombu.exceptions import OperationalError
from kombu.serialization import dumps

from rmq_publisher.conf import loader
from rmq_publisher.contrib.celery.broker import check_same_broker
from rmq_publisher.contrib.celery.kombu_entities import declared
from rmq_publisher.contrib.celery.message import DELAY_EXCHANGE
from rmq_publisher.exceptions import InvalidMessage, PublishError
from rmq_publisher.publisher.api import publish

# Options of ours that `apply_async` hands on to the producer.
_OWN_OPTIONS = ("database", "delivery", "ordering_key", "schedule")
_PROPERTIES = ("correlation_id", "reply_to", "type", "user_id", "app_id")
_ALWAYS_IN_THE_WORKER = "celery.chord_unlock"  # it waits for a second at a time


class AMQP(celery_amqp.AMQP):  # type: ignore[misc]
    """Sends tasks by `publish()`: after the commit, confirmed, and stored when the broker is away."""

    def __init__(self, app: Any) -> None:
        """Refuse a process that has no settings of Django.

        Raises:
            ImproperlyConfigured: says what to set.
        """
        try:
            installed = {name.partition(".apps")[0] for name in django_settings.INSTALLED_APPS}
        except ImproperlyConfigured as error:
            raise ImproperlyConfigured(
                "rmq_publisher.contrib.celery:AMQP needs Django's settings in every process of the "
                "Celery app, workers and beat too: set DJANGO_SETTINGS_MODULE before Celery(...)"
            ) from error
        if "rmq_publisher" not in installed:
            raise ImproperlyConfigured(
                'rmq_publisher.contrib.celery:AMQP keeps tasks in a table: add "rmq_publisher" to '
                "INSTALLED_APPS and run manage.py migrate"
            )
        super().__init__(app)

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            return send(_Publisher(self.app, producer, name), name, message, **options)

        return send_task_message


class _Publisher:
    """In the place of kombu's producer: its first message is the task, the rest are events."""

    def __init__(self, app: Any, producer: Any, name: str) -> None:
        self._app = app
        self._producer = producer
        self._name = name
        self._sent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish the task; hand on the ``task-sent`` event that may follow it."""
        __traceback_hide__ = True  # Django's debug page would show the arguments
        if self._sent:
            return self._producer.publish(body, **options)
        using = loader.alias_for(loader.celery().celery_using)
        check_same_broker(self._producer.connection, loader.connection(using))
        given = {name: options[name] for name in _OWN_OPTIONS if options.get(name) is not None}
        payload, arguments = _message(body, options)
        arguments |= _destination(options) | self._delivery(arguments["headers"], options, given)
        try:
            publish(payload, using=using, **arguments)
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(
                "a task cannot be sent from a running event loop: await sync_to_async(task.delay)(...)"
            ) from error
        except InvalidMessage:
            raise
        except PublishError as error:
            raise OperationalError(str(error)) from error
        self._sent = True
        return None

    def _delivery(self, headers: Any, options: Any, given: dict[str, Any]) -> dict[str, Any]:
        """Return how the task is delivered, and what holds it until its time."""
        if current_task and current_task.request.id == headers.get("id"):
            # A task that retries or replaces itself leaves by an exception, which rolls back the
            # transaction around it: the message must not belong to it.
            return {"delivery": "now"}
        settings = loader.celery()
        schedule = given.pop("schedule", None) or settings.celery_schedule or "worker"
        given.setdefault("delivery", settings.celery_delivery)
        eta = headers.get("eta")
        if eta and schedule == "table" and self._name != _ALWAYS_IN_THE_WORKER:
            when = self._aware(eta)
            if when > timezone.now() and _name(options.get("exchange")) != DELAY_EXCHANGE:
                given["eta"] = when
        return given

    def _aware(self, eta: str) -> datetime:
        when = datetime.fromisoformat(eta)
        return timezone.make_aware(when, self._app.timezone) if timezone.is_naive(when) else when


def _message(body: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the body as kombu would send it, and the options of `publish` that describe it."""
    headers = dict(options.get("headers") or {})
    content_type, content_encoding, payload = dumps(body, serializer=options.get("serializer"))
    if options.get("compression"):
        payload, headers["compression"] = compress(payload, options["compression"])
    arguments = {name: options[name] for name in _PROPERTIES if options.get(name)}
    reply_to = arguments.get("reply_to")
    if reply_to is not None and not isinstance(reply_to, str):
        arguments["reply_to"] = reply_to.name  # a queue
    priority = options.get("priority")
    if isinstance(priority, float) and priority.is_integer():
        priority = int(priority)
    return payload, {
        **arguments,
        "headers": headers,
        "message_id": headers.get("id"),
        "content_type": content_type,
        "content_encoding": content_encoding,
        "delivery_mode": maybe_delivery_mode(options.get("delivery_mode") or _mode(options)),
        "priority": priority,
        "expiration": options.get("expiration"),
    }


def _mode(options: dict[str, Any]) -> Any:
    return getattr(options.get("exchange"), "delivery_mode", None)


def _destination(options: dict[str, Any]) -> dict[str, Any]:
    """Return where the message goes and what is declared or verified before it."""
    configs: list[Any] = []
    verified = ""
    fanout = getattr(options.get("exchange"), "type", None) == "fanout"
    for entity in options.get("declare") or ():
        more, name = declared(entity)
        configs += more
        verified = verified or name
        exchange = getattr(entity, "exchange", entity)
        fanout = (
            fanout or isinstance(entity, Broadcast) or getattr(exchange, "type", "") == "fanout"
        )
    return {
        "exchange": _name(options.get("exchange")),
        "routing_key": options.get("routing_key") or "",
        "queue": verified,
        "declare": configs,
        # Celery sends to a fanout exchange whether a worker listens or not.
        "mandatory": not fanout,
    }


def _name(exchange: Any) -> str:
    return exchange.name if isinstance(exchange, Exchange) else exchange or ""
