"""What a transport is: it takes deliveries, declares topology, tells its status, closes.

A `Delivery` is a message and the outcome that its caller waits for. Nothing here does I/O.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.conf.schema import ConnectionSettings
from rmq_publisher.exceptions import BrokerUnavailable, ConfirmTimeout, Nacked, PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.transport.consuming import Source


class Delivery:
    """One message on its way to the broker, and its one outcome.

    The outcome is set exactly once, by whoever claims it first: the I/O thread with the broker's
    answer, or the caller at its deadline. The claim is a lock that is taken and never given back, an
    atomic test-and-set.
    """

    __slots__ = ("_claim", "_on_done", "batch", "claimed", "done", "envelope", "error", "written")

    def __init__(
        self, envelope: Envelope, on_done: Callable[[], object], batch: object | None = None
    ) -> None:
        self.envelope = envelope
        self.batch = batch
        self.claimed = False  # the outcome is being set: do not write it any more
        self.done = False  # the outcome is set: `error` may be read
        self.error: PublishError | None = None
        self.written = False  # whether the broker may have it
        self._claim = threading.Lock()
        self._on_done = on_done

    def resolve(self, error: PublishError | None = None) -> bool:
        """Set the outcome, None for a confirm; return False where it had one already."""
        if not self._claim.acquire(blocking=False):
            return False
        self.claimed = True
        self._finish(error)
        return True

    def fail(self, reason: str) -> bool:
        """End it with what is known: unknown outcome where it was written, else not sent."""
        if not self._claim.acquire(blocking=False):
            return False
        # Marked before `written` is read: the I/O thread sets `written` and then looks at `claimed`,
        # so that a message that was told "not sent" is never written.
        self.claimed = True
        kind = ConfirmTimeout if self.written else BrokerUnavailable
        envelope = self.envelope
        self._finish(kind(f"{reason} (message {envelope.message_id})", **envelope.names))
        return True

    def _finish(self, error: PublishError | None) -> None:
        self.error = error
        self.done = True
        self._on_done()


@dataclass(frozen=True, slots=True)
class Status:
    """What a connection looks like from here; made without asking the broker."""

    alias: str
    state: str  # "closed", "connecting", "open", "reconnecting", "down"
    node: str = ""  # host:port
    vhost: str = ""
    tls: bool = False
    product: str = ""  # "RabbitMQ 3.10.8"
    blocked: str = ""  # the alarm's words, empty when not blocked
    in_flight: int = 0
    waiting: int = 0
    connects: int = 0
    last_error: str = ""
    set_aside: tuple[tuple[str, str], ...] = field(default=())  # (exchange, routing key)


@dataclass(frozen=True, slots=True)
class Declared:
    """The broker's answer to a declaration; the counts are None for an exchange or binding."""

    entity: str
    messages: int | None = None
    consumers: int | None = None


class Transport(Protocol):
    """The way to one broker from one process."""

    settings: ConnectionSettings

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries, in order; each gets its outcome from here or from its caller."""

    def abandoned(self) -> None:
        """Be told that a caller took an outcome of its own, so that places are given back."""

    def declare(self, topology: Topology, timeout: float) -> list[Declared]:
        """Declare or verify, in order; raise `PublishError` at the first that fails.

        ``timeout`` is in seconds.
        """

    def open_source(self) -> Source:
        """Return where a consumer's messages come from, with a connection of its own."""

    def status(self) -> Status:
        """Return what is known now."""

    def close(self, timeout: float | None = None) -> None:
        """Drain what is in flight for at most ``timeout`` seconds, then close.

        ``timeout`` defaults to RMQ_PUBLISH_TIMEOUT.
        """

    def leave_behind(self) -> None:
        """In a forked child: let go of what is the parent's."""


def nacked(envelope: Envelope) -> Nacked:
    """Return the outcome of a message that a queue refused."""
    where = f"exchange {envelope.exchange!r}, routing key {envelope.routing_key!r}"
    return Nacked(f"refused by a queue ({where}, message {envelope.message_id})", **envelope.names)


def closing_seconds(settings: ConnectionSettings, timeout: float | None) -> float:
    """Return how long a close may drain: ``timeout``, RMQ_PUBLISH_TIMEOUT where it is None.

    Raises:
        TypeError, ValueError: it is no number of seconds.
    """
    if timeout is None:
        return settings.publish_timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be seconds, not {type(timeout).__name__}")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be from 0 to {int(threading.TIMEOUT_MAX)} seconds")
    return timeout
