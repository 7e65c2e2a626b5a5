"""Alias to transport, once per process: made on first use, renewed after a fork, closed at exit."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from rmq_publisher.conf import loader
from rmq_publisher.exceptions import BrokerUnavailable
from rmq_publisher.process.lifecycle import AtExit, InChild, register
from rmq_publisher.transport.base import Transport
from rmq_publisher.transport.broker_guard import check_allowed
from rmq_publisher.transport.environment import obstacle

MakeTransport: TypeAlias = Callable[[loader.ConnectionSettings], Transport]

# Dotted paths, as Django's backends have: code that publishes does not import what it sends with.
MEMORY = "rmq_publisher.transport.memory.transport.MemoryTransport"
RABBITMQ = "rmq_publisher.transport.rabbitmq.transport.AmqpTransport"


class ConnectionHandler:
    """The RabbitMQ connections of this process: ``connections["default"]``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a destructor may publish while a transport is made
        self._transports: dict[str, Transport] = {}
        self._stand_ins: tuple[MakeTransport, ...] = ()  # the last one counts
        # Kept for ever: their destructors must not run in a child, where pika must not be called.
        self._left_behind: list[dict[str, Transport]] = []

    def __getitem__(self, alias: str) -> Transport:
        """Return the transport of an alias; it connects when something is published.

        Raises:
            ImproperlyConfigured: no such alias, its settings are wrong, or no I/O thread can live
                in this process; the text says what to set.
            BrokerUnavailable: its code cannot be read.
        """
        settings = loader.connection(alias)
        if self._stand_ins:
            return self._stand_ins[-1](settings)
        transport = self._transports.get(alias)
        if transport is not None and transport.settings is settings:
            return transport
        return self._renew(alias, settings)

    @contextmanager
    def replaced(self, make: MakeTransport) -> Iterator[None]:
        """For tests: hand out what ``make`` returns, in all threads, until the end of the block.

        The connections that are open stay as they are and come back with the end of the block.

        Args:
            make: called on each access with the settings of the alias.
        """
        with self._lock:
            self._stand_ins = (*self._stand_ins, make)
        try:
            yield
        finally:
            with self._lock:
                self._stand_ins = tuple(item for item in self._stand_ins if item is not make)

    def _renew(self, alias: str, settings: loader.ConnectionSettings) -> Transport:
        """Make the transport, or another one where its settings have changed."""
        # Outside the lock: an import may wait for another thread, which may be waiting for the lock.
        try:
            make: MakeTransport = import_string(MEMORY if settings.memory else RABBITMQ)
        except OSError as error:  # there is no descriptor left to read the module with
            raise BrokerUnavailable(f"no connection {alias!r}: {error.strerror}") from error
        with self._lock:
            old = self._transports.get(alias)
            if old is not None and old.settings == settings:
                old.settings = settings  # only what is not the connection's has changed
                return old
            _check_environment(settings)
            made = make(settings)
            if self._transports.get(alias) is old:  # else a destructor has made one meanwhile
                self._transports[alias] = made
            transport = self._transports[alias]
        if old is not None:
            old.close()
        return transport

    def check_allowed(self, alias: str) -> None:
        """Raise where a test would use the broker of an alias by accident.

        Raises:
            RealBrokerInTestError: see `broker_guard.check_allowed`.
        """
        if not self._stand_ins:
            check_allowed(loader.connection(alias))

    def __iter__(self) -> Iterator[str]:
        """Yield the configured aliases."""
        return iter(loader.aliases())

    def close(self) -> None:
        """Drain and close the connections of this process; the next publish opens one again."""
        for transport in list(self._transports.values()):
            transport.close()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it
        for transport in self._transports.values():
            transport.leave_behind()
        self._left_behind.append(self._transports)
        self._transports = {}


def _check_environment(settings: loader.ConnectionSettings) -> None:
    if not settings.memory and (reason := obstacle()):
        raise ImproperlyConfigured(f"RabbitMQ alias {settings.alias!r}: {reason}.")


connections = ConnectionHandler()

register(AtExit.CONNECTIONS, connections.close)
register(InChild.CONNECTIONS, connections._after_fork)
