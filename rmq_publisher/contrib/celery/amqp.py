"""`AMQP` for an existing Celery app, which sends all its tasks through `publish()`.

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
from kombu.compression import compress
from kombu.entity import maybe_delivery_mode
from kombu.exceptions import OperationalError
from kombu.serialization import dumps

from rmq_publisher.conf import loader
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.contrib.celery.broker import check_same_broker, mismatch
from rmq_publisher.contrib.celery.kombu_entities import declared
from rmq_publisher.contrib.celery.message import DELAY_EXCHANGE
from rmq_publisher.exceptions import InvalidMessage, PublishError
from rmq_publisher.publisher.api import publish

# Options of this package that `apply_async` passes on to the producer.
_OWN_OPTIONS = ("database", "delivery", "ordering_key", "schedule")
_PROPERTIES = ("correlation_id", "reply_to", "type", "user_id", "app_id")
_CHORD_UNLOCK = "celery.chord_unlock"  # it waits for a second at a time, always in the worker


class AMQP(celery_amqp.AMQP):  # type: ignore[misc]
    """Sends tasks by `publish()`: after the commit, confirmed, and stored if the broker is down."""

    def __init__(self, app: Any) -> None:
        """Raise an error in a process without Django's settings.

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

    def mismatch(self, settings: ConnectionSettings) -> str:
        """Return how the app's broker and a RabbitMQ alias differ; empty if they are the same broker."""
        return mismatch(self.app.connection_for_write(), settings)

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            publisher = _Publisher(self.app, producer, name, fanout=self._is_fanout(options))
            return send(publisher, name, message, **options)

        return send_task_message

    def _is_fanout(self, options: Any) -> bool:
        """Return whether the task is broadcast to all workers."""
        queue, exchange = options.get("queue"), options.get("exchange")
        if isinstance(queue, str):
            queue = self.queues[queue]
        types = (
            getattr(where, "type", None) for where in (exchange, getattr(queue, "exchange", 0))
        )
        return options.get("exchange_type") == "fanout" or "fanout" in types


class _Publisher:
    """Replaces kombu's producer: the first message is the task, all others are events."""

    def __init__(self, app: Any, producer: Any, name: str, *, fanout: bool) -> None:
        self._app = app
        self._producer = producer
        self._name = name
        self._fanout = fanout
        self._sent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish the task; pass on the ``task-sent`` event that may follow it."""
        __traceback_hide__ = True  # Django's debug page would show the arguments
        if self._sent:
            return self._producer.publish(body, **options)
        using = loader.alias_for(loader.celery().celery_using)
        check_same_broker(self._producer.connection, loader.connection(using))
        given = {name: options[name] for name in _OWN_OPTIONS if options.get(name) is not None}
        # Protocol 1 has these values in the body, protocol 2 in the headers.
        about = body if isinstance(body, dict) else options.get("headers") or {}
        payload, arguments = _message(body, options, about.get("id"))
        # Celery sends to a fanout exchange even if no worker listens.
        arguments["mandatory"] = not self._fanout
        arguments |= _destination(options) | self._delivery(body, about, options, given)
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

    def _delivery(
        self, body: Any, about: Any, options: Any, given: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the delivery of a task, and where it waits until it is due."""
        if current_task and _goes_on_with(current_task.request, self._name, body, about):
            # A task that retries or replaces itself ends with an exception, which rolls back the
            # transaction around it. The message must not be part of that transaction.
            return {"delivery": "now"}
        settings = loader.celery()
        schedule = given.pop("schedule", None) or settings.celery_schedule or "worker"
        given.setdefault("delivery", settings.celery_delivery)
        eta = about.get("eta")
        if eta and schedule == "table" and self._name != _CHORD_UNLOCK:
            when = self._aware(eta)
            if when > timezone.now() and _name(options.get("exchange")) != DELAY_EXCHANGE:
                given["eta"] = when
        return given

    def _aware(self, eta: str) -> datetime:
        when = datetime.fromisoformat(eta)
        return timezone.make_aware(when, self._app.timezone) if timezone.is_naive(when) else when


def _goes_on_with(running: Any, name: str, body: Any, about: Any) -> bool:
    """Return whether a message retries the running task, or is part of what replaces it.

    The parts of a chain or a chord have ids of their own, but are nested deeper.
    """
    nesting, task_id = about.get("replaced_task_nesting"), about.get("id")
    if name == _CHORD_UNLOCK:  # belongs to the task that it will send
        sends = (body["args"] if isinstance(body, dict) else body[0])[1].get("options", {})
        nesting, task_id = sends.get("replaced_task_nesting"), sends.get("task_id")
    deeper = (nesting or 0) > (running.get("replaced_task_nesting") or 0)
    return deeper or bool(task_id == running.id)


def _message(
    body: Any, options: dict[str, Any], task_id: str | None
) -> tuple[Any, dict[str, Any]]:
    """Return the body as kombu would send it, and the options of `publish` that describe it."""
    headers = dict(options.get("headers") or {})
    content_type, content_encoding, payload = dumps(body, serializer=options.get("serializer"))
    if options.get("compression"):
        payload, headers["compression"] = compress(payload, options["compression"])
    arguments = {name: options[name] for name in _PROPERTIES if options.get(name)}
    reply_to = arguments.get("reply_to")
    if reply_to is not None and not isinstance(reply_to, str):
        arguments["reply_to"] = reply_to.name  # a queue
    # 0 is kombu's default. Without any, a quorum queue of RabbitMQ 4.3 takes it for a 4: what unlocks
    # chords would keep the tasks that they wait for from ever running.
    priority = options.get("priority") or 0
    if isinstance(priority, float) and priority.is_integer():
        priority = int(priority)
    return payload, {
        **arguments,
        "headers": headers,
        "message_id": task_id,
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
    for entity in options.get("declare") or ():
        more, name = declared(entity)
        configs += more
        verified = verified or name
    return {
        "exchange": _name(options.get("exchange")),
        "routing_key": options.get("routing_key") or "",
        "queue": verified,
        "declare": configs,
    }


def _name(exchange: Any) -> str:
    return exchange.name if isinstance(exchange, Exchange) else exchange or ""
