"""Django system checks of `RMQ_CELERY_...`, and of the Celery apps that send through `AMQP`.

| id | says |
|---|---|
| `rmq_publisher.E014` | `RMQ_CELERY_USING` names no connection, or names none of several |
| `rmq_publisher.E015` | the `broker_url` of a Celery app means another broker than the RabbitMQ alias |
| `rmq_publisher.W016` | tasks wait in the table, and are sent at once |
"""

import sys
from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import CelerySettings

TAG = "rmq_publisher"
_AMQP = "rmq_publisher.contrib.celery"


def register_checks() -> None:
    """Register the checks with Django, without importing Celery."""
    checks.register(check_celery, TAG)


def check_celery(**_: Any) -> list[checks.CheckMessage]:
    """Return the settings of tasks, and of Celery apps, that cannot work."""
    try:
        settings = loader.celery()
    except ImproperlyConfigured:
        return []  # reported as a problem of the setting
    if not (known := loader.aliases()):
        return []  # RMQ_URL is not set, which is reported too
    apps = _apps()
    alias = settings.celery_using
    if alias not in known and (alias is not None or (apps and len(known) > 1)):
        return [_unknown(alias, known)]
    if alias is None and len(known) > 1:
        return []  # each CeleryTask may name its own
    alias = known[0] if alias is None else alias
    return [*_never_waiting(settings, alias), *_other_brokers(apps, alias)]


def _apps() -> list[Any]:
    """Return the Celery apps of this process that send through `AMQP`, if any."""
    state = sys.modules.get("celery._state")
    apps = state._get_active_apps() if state is not None else ()
    return [app for app in apps if _is_ours(app.amqp_cls)]


def _is_ours(amqp: Any) -> bool:
    if isinstance(amqp, str):
        return amqp.replace(":", ".").startswith(f"{_AMQP}.")
    return any(base.__module__ == f"{_AMQP}.amqp" for base in amqp.__mro__)


def _unknown(alias: str | None, known: tuple[str, ...]) -> checks.Error:
    text = "names none of several connections" if alias is None else f"names {alias!r}"
    listed = ", ".join(map(repr, known))
    return checks.Error(
        f"RMQ_CELERY_USING {text}: no task of a Celery app could be sent.",
        hint=f"Name one of the RabbitMQ connections: {listed}.",
        id=f"{TAG}.E014",
    )


def _never_waiting(settings: CelerySettings, alias: str) -> Iterator[checks.CheckMessage]:
    """Yield settings with which every task with a countdown would be refused."""
    connection = next((read for read in loader.usable() if read.alias == alias), None)
    delivery = settings.celery_delivery or (connection.delivery if connection else None)
    if settings.celery_schedule == "table" and delivery == "now":
        place = (
            "RMQ_CELERY_DELIVERY" if settings.celery_delivery else loader.place(alias, "DELIVERY")
        )
        yield checks.Warning(
            f'RMQ_CELERY_SCHEDULE is "table" and {place} is "now": a task with a countdown or eta is '
            "refused, for it cannot both wait in the table and be sent at once.",
            hint='Set RMQ_CELERY_SCHEDULE to "worker", or the delivery to "on_commit" or "outbox".',
            id=f"{TAG}.W016",
        )


def _other_brokers(apps: list[Any], alias: str) -> Iterator[checks.CheckMessage]:
    """Yield apps whose workers would not receive their tasks."""
    try:
        settings = loader.connection(alias)
    except ImproperlyConfigured:
        return  # reported as a problem of the setting
    for app in apps:
        if problem := app.amqp.mismatch(settings):
            yield checks.Error(
                f"Celery app {app.main or app!r}: {problem}.",
                hint="Set both to the same broker and vhost, or name another alias by RMQ_CELERY_USING.",
                id=f"{TAG}.E015",
            )
