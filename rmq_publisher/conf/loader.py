"""The only module that reads Django's settings.

They are read on first use, all at once, and again after ``override_settings``; never at import.
"""

from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections as databases

from rmq_publisher.amqp.validation import plain
from rmq_publisher.conf.broker_url import Node
from rmq_publisher.conf.reading import SET_URL, Reading
from rmq_publisher.conf.schema import (
    PREFIX,
    CelerySettings,
    ConnectionSettings,
    OutboxSettings,
    Problem,
    TLSSettings,
)
from rmq_publisher.exceptions import InvalidMessage

__all__ = [
    "CelerySettings", "ConnectionSettings", "Node", "OutboxSettings", "Problem", "TLSSettings",
    "alias_for", "aliases", "connection", "exchanges", "outbox", "place", "problems", "queues",
    "urls_with_password", "usable",
]  # fmt: skip


@cache
def _reading() -> Reading:
    names = [name for name in dir(settings) if name.startswith(PREFIX)]
    return Reading({name: getattr(settings, name) for name in names})


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX):
        _reading.cache_clear()


setting_changed.connect(_forget, dispatch_uid="rmq_publisher.conf")


def aliases() -> tuple[str, ...]:
    """Return the aliases of all RabbitMQ connections, usable or not, ``default`` first."""
    return tuple(_reading().connections)


def connection(alias: str) -> ConnectionSettings:
    """Return the settings of a connection.

    Raises:
        ImproperlyConfigured: there is no such alias, or one of its settings is wrong; the message
            names the setting and the fix.
    """
    found = _reading().connections.get(alias)
    if found is None:
        raise ImproperlyConfigured(_no_such(alias))
    if isinstance(found, Problem):
        raise ImproperlyConfigured(str(found))
    return found


def usable() -> tuple[ConnectionSettings, ...]:
    """Return the settings of the connections without mistakes."""
    found = _reading().connections.values()
    return tuple(read for read in found if isinstance(read, ConnectionSettings))


def alias_for(using: str | None) -> str:
    """Return the alias that ``using`` names; None means the only one.

    Raises:
        InvalidMessage: ``using`` is None and several are configured, or there is no such alias.
        ImproperlyConfigured: none is configured.
    """
    known = _reading().connections
    using = plain(using)
    if isinstance(using, str) and using in known:
        return using
    if not known:
        raise ImproperlyConfigured(_no_such(using))
    if using is None:
        if len(known) == 1:
            return next(iter(known))
        raise InvalidMessage(f"using= must name one of the RabbitMQ connections: {_listed(known)}")
    raise InvalidMessage(f"using={using!r} is not a RabbitMQ connection. {_advice(using)}")


def _no_such(alias: str | None) -> str:
    known, alias = _reading().connections, plain(alias)
    if not known:
        return f"RMQ_URL is not set, and there is no RabbitMQ connection. {SET_URL}"
    return f"There is no RabbitMQ connection {alias!r}. {_advice(alias)}"


def _advice(alias: object) -> str:
    if alias in list(databases):
        return f"It is a database: to name the transaction's database, write database={alias!r}."
    known = _reading().connections
    return f"There are: {_listed(known)}; add others to RMQ_CONNECTIONS."


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def outbox() -> OutboxSettings:
    """Return the settings of the table of stored messages.

    Raises:
        ImproperlyConfigured: one of them is wrong.
    """
    found = _reading().outbox
    if isinstance(found, Problem):
        raise ImproperlyConfigured(str(found))
    return found


def celery() -> CelerySettings:
    """Return the settings of tasks for Celery workers.

    Raises:
        ImproperlyConfigured: one of them is wrong.
    """
    found = _reading().celery
    if isinstance(found, Problem):
        raise ImproperlyConfigured(str(found))
    return found


def queues() -> tuple[object, ...]:
    """Return the items of ``RMQ_QUEUES``, not validated; empty if it is not a list (a problem)."""
    return _reading().queues


def exchanges() -> tuple[object, ...]:
    """Return the items of ``RMQ_EXCHANGES``, not validated; empty if it is not a list (a problem)."""
    return _reading().exchanges


def problems() -> list[Problem]:
    """Return all errors and warnings about the settings."""
    return list(_reading().problems)


def place(alias: str, name: str) -> str:
    """Return the place of a connection's setting, such as ``RMQ_CONNECTIONS['a']['TLS']``.

    Args:
        alias: the connection's alias.
        name: the setting's name without prefix; if it is not set, its flat name is returned.
    """
    return _reading().places.get((alias, name), PREFIX + name)


def urls_with_password() -> tuple[str, ...]:
    """Return the places of URLs that contain a password, such as ``RMQ_URL``."""
    return tuple(_reading().urls_with_password)
