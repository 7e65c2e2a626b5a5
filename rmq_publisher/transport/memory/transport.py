"""The transport of ``memory://``: what RabbitMQ would answer, from a broker inside this process.

Each RabbitMQ alias has a broker of its own. It outlives the closing of its connection and ends with
the process; another process (a worker, xdist's, ``test --parallel``'s) has others. So no command can
declare the project's topology there: each process does so itself, on first use.
"""

from collections.abc import Sequence
from contextlib import suppress

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.reply_codes import NO_ROUTE, NOT_FOUND
from rmq_publisher.amqp.routes import contradicts, lacks_named_exchange, with_route
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.exceptions import (
    BrokerUnavailable,
    PublishError,
    Rejected,
    Unroutable,
)
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.transport import project
from rmq_publisher.transport.base import Status, closing_seconds
from rmq_publisher.transport.consuming import Source
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.message_flow import Routed
from rmq_publisher.transport.memory.source import MemorySource
from rmq_publisher.transport.outcome import Declared, Delivery, nacked

_brokers: dict[str, MemoryBroker] = {}


def broker_of(alias: str) -> MemoryBroker:
    """Return this process's memory broker of a RabbitMQ alias."""
    return _brokers.setdefault(alias, MemoryBroker(alias))


class MemoryTransport:
    """The way to a memory broker; every message has its outcome when `submit` returns.

    Args:
        settings: of the alias.
        broker: the broker; that of the alias when left out.
    """

    def __init__(self, settings: ConnectionSettings, broker: MemoryBroker | None = None) -> None:
        self.settings = settings
        self.broker = broker or broker_of(settings.alias)
        self._open = False
        self._verified: set[tuple[int, Topology]] = set()
        # A broker of somebody else's, such as a test's own, has what its owner declared.
        self._is_foreign = broker is not None
        self._declared = self.broker.epoch if self._is_foreign else -1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.alias}>"

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Give every delivery its outcome, in order."""
        self._open = True
        for delivery in deliveries:
            if not delivery.claimed:
                delivery.resolve(self._outcome(delivery.envelope))

    def _outcome(self, envelope: Envelope) -> PublishError | None:
        try:
            self.take(envelope)
        except PublishError as error:
            return error.with_traceback(None)  # its frames hold the message
        return None

    def take(self, envelope: Envelope) -> tuple[str, ...]:
        """Verify the topology of a message, once per connection, and route it.

        If its configs have a route that does not exist, they are declared again, once.

        Returns:
            The queues that took it.

        Raises:
            Rejected, Unroutable, Nacked: as over AMQP.
            BrokerUnavailable: another thread, or what this call interrupted, does not let go.
        """
        timeout = self.settings.publish_timeout  # nobody tells a transport the call's own
        try:
            self._declare_project(timeout)
            known = self._verify_or_declare(envelope, timeout)
            routed = self._routed(envelope, timeout, known=known)
        except BrokerUnavailable as busy:
            raise BrokerUnavailable(busy.reason, **envelope.names) from None
        except Rejected as error:
            # The next message may declare what is missing.
            self._verified.discard((self.broker.epoch, envelope.topology))
            raise Rejected(error.reply_code, error.reply_text, **envelope.names) from None
        if routed.refused:
            raise nacked(envelope)
        if not routed.queues and envelope.mandatory:
            raise Unroutable(NO_ROUTE, "NO_ROUTE", **envelope.names)
        return routed.queues

    def _routed(self, envelope: Envelope, timeout: float, *, known: bool) -> Routed:
        """Route a message; ``known``: its topology was verified before, and may be gone by now.

        Raises:
            Rejected: as over AMQP.
        """
        user = self.settings.username
        try:
            routed = self.broker.publish(envelope, user, timeout)
        except Rejected as refusal:
            is_missing = refusal.reply_code == NOT_FOUND
            if not (
                is_missing and (topology := self._gone(envelope, known=known, no_exchange=True))
            ):
                raise
        else:
            lost = not routed.queues and envelope.mandatory
            if not (lost and (topology := self._gone(envelope, known=known, no_exchange=False))):
                return routed
        self._verified.discard((self.broker.epoch, topology))
        with suppress(Rejected):  # then the answer stays what it was
            self._verify(topology, timeout)
        return self.broker.publish(envelope, user, timeout)

    def _verify_or_declare(self, envelope: Envelope, timeout: float) -> bool:
        """Verify the topology of a message; declare an exchange that it has by name if the project does.

        Returns:
            Whether all was verified before.

        Raises:
            Rejected: as over AMQP.
        """
        try:
            return self._verify(envelope.topology, timeout)
        except Rejected as refusal:
            by_name = lacks_named_exchange(
                envelope.topology, envelope.exchange, refusal.reply_text
            )
            if not (by_name and (topology := self._gone(envelope, known=False, no_exchange=True))):
                raise
            with suppress(Rejected):
                self._verified.discard((self.broker.epoch, topology))
                self._verify(topology, timeout)
                return False
            raise

    def _gone(self, envelope: Envelope, *, known: bool, no_exchange: bool) -> Topology:
        """Return the topology to declare again: the message's, with the project's."""
        configs = () if self._is_foreign else project.configs(self.settings.alias)
        topology = with_route(envelope.topology, configs, *envelope.destination)
        is_gone = contradicts(topology, *envelope.destination, no_exchange=no_exchange)
        return topology if is_gone and (known or topology != envelope.topology) else ()

    def _declare_project(self, timeout: float) -> None:
        """Declare the project's topology, once, and again after the broker was emptied."""
        epoch = self.broker.epoch
        if self._declared == epoch:
            return
        for entity in project.entities(self.settings.alias):
            # What RabbitMQ would refuse, `rmq_declare` tells.
            with suppress(Rejected):
                self.broker.run([*entity.steps()], timeout)
        self._declared = epoch

    def _verify(self, topology: Topology, timeout: float) -> bool:
        """Declare or verify what was not yet; return whether all was."""
        known = (self.broker.epoch, topology)
        if not topology or known in self._verified:
            return True
        self.broker.run([step for entity in topology for step in entity.steps()], timeout)
        self._verified.add(known)
        return False

    def abandoned(self) -> None:
        """Nothing is in flight: nobody can give up."""

    def declare(self, topology: Topology, timeout: float) -> list[Declared]:
        """Declare or verify, in order; stop at the first refusal.

        Raises:
            Rejected: the broker refused; ``reply_code`` and ``reply_text`` are RabbitMQ's words.
            BrokerUnavailable: as in `take`.
        """
        self._open = True
        self._declare_project(timeout)
        return self.broker.declare(*topology, timeout=timeout)

    def open_source(self) -> Source:
        """Return a consumer's side of the broker."""
        self._declare_project(self.settings.publish_timeout)
        return MemorySource(self.broker)

    def status(self) -> Status:
        """Return what is known now."""
        return Status(
            self.settings.alias,
            "open" if self._open else "closed",
            node="memory://",
            vhost="/",
            product="memory",
            connects=int(self._open),
        )

    def close(self, timeout: float | None = None) -> None:
        """Close the connection; the broker keeps what it has."""
        closing_seconds(self.settings, timeout)
        self._open = False
        self._verified.clear()

    def leave_behind(self) -> None:
        """In a forked child: there is nothing that the parent shares."""
