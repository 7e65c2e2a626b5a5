"""Whether Celery's ``broker_url`` and a RabbitMQ alias of ours mean the same broker."""

from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from kombu.utils.url import parse_url

from rmq_publisher.conf.loader import ConnectionSettings

_PORTS = {"amqps": 5671}
_LOCAL = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}

Address = tuple[str, int]


def check_same_broker(connection: Any, settings: ConnectionSettings) -> None:
    """Refuse to send a task to another broker than the one that its caller named.

    Args:
        connection: kombu's; it is not opened.
        settings: of the RabbitMQ alias.

    Raises:
        ImproperlyConfigured: says how they differ.
    """
    if problem := mismatch(connection, settings):
        raise ImproperlyConfigured(
            f"{problem}: set both to the same broker, or name another alias by RMQ_CELERY_USING. "
            "A task is always sent by the alias: connection= cannot choose another broker"
        )


def mismatch(connection: Any, settings: ConnectionSettings) -> str:
    """Return how kombu's connection and a RabbitMQ alias differ; empty where they mean one broker."""
    urls = tuple(connection.alt or ())
    return _mismatch(urls, connection.hostname, connection.port, connection.virtual_host, settings)


@lru_cache(maxsize=64)
def _mismatch(
    urls: tuple[str, ...],
    host: str | None,
    port: int | None,
    vhost: str,
    settings: ConnectionSettings,
) -> str:
    if settings.memory:
        return ""  # tests: nothing leaves the process
    ours = {_address(node.host, node.port) for node in settings.nodes}
    theirs = {_address(host, port), *(_of_url(url) for url in urls if "://" in url)}
    if not ours & theirs:
        return (
            f"Celery's broker_url names {_listed(theirs)}, and the RabbitMQ alias "
            f"{settings.alias!r} {_listed(ours)}"
        )
    if (vhost or "/") != (own := settings.nodes[0].vhost):
        return (
            f"Celery's broker_url names the vhost {vhost or '/'!r}, and the RabbitMQ alias "
            f"{settings.alias!r} {own!r}"
        )
    return ""


def _of_url(url: str) -> Address:
    parts = parse_url(url)
    return _address(parts["hostname"], parts["port"] or _PORTS.get(url.partition("://")[0]))


def _address(host: str | None, port: int | None) -> Address:
    name = (host or "localhost").lower()
    return _LOCAL.get(name, name), port or 5672


def _listed(addresses: set[Address]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in sorted(addresses))
