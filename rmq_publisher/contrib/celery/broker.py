"""Whether Celery's ``broker_url`` and a RabbitMQ alias of ours mean the same broker."""

from functools import lru_cache
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from kombu.utils.url import parse_url

from rmq_publisher.conf.loader import ConnectionSettings

_PORT, _TLS_PORT = 5672, 5671
_LOCAL = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}


class Address(NamedTuple):
    """The address of a broker. With TLS, the same broker has another port."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def check_same_broker(connection: Any, settings: ConnectionSettings) -> None:
    """Raise an error if a task would not be sent to the broker that its caller named.

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
    """Return how kombu's connection and a RabbitMQ alias differ; empty if they are the same broker."""
    if settings.memory:
        return ""  # tests: nothing is sent
    if (driver := connection.transport.driver_type) != "amqp":
        return f"Celery's broker_url names a broker of the type {driver!r}, which is not RabbitMQ"
    urls = tuple(connection.alt or ())
    main = _address(connection.hostname, connection.port, tls=bool(connection.ssl))
    return _mismatch(urls, main, connection.virtual_host, settings)


@lru_cache(maxsize=64)
def _mismatch(
    urls: tuple[str, ...], main: Address, vhost: str, settings: ConnectionSettings
) -> str:
    ours = {_address(node.host, node.port, tls=node.tls) for node in settings.nodes}
    theirs = {main, *(_of_url(url) for url in urls if "://" in url)}
    if not any(_is_one(own, other) for own in ours for other in theirs):
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


def _is_one(own: Address, other: Address) -> bool:
    return own.host == other.host and (own.port == other.port or own.tls != other.tls)


def _of_url(url: str) -> Address:
    parts = parse_url(url)
    return _address(parts["hostname"], parts["port"], tls=url.startswith("amqps://"))


def _address(host: str | None, port: int | None, *, tls: bool) -> Address:
    name = (host or "localhost").lower()
    return Address(_LOCAL.get(name, name), port or (_TLS_PORT if tls else _PORT), tls)


def _listed(addresses: set[Address]) -> str:
    return ", ".join(sorted(map(str, addresses)))
