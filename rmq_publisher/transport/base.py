"""What a transport does: send messages, declare topology, report its status, close.

Nothing here does I/O.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.conf.schema import ConnectionSettings
from rmq_publisher.exceptions import PublishError
from rmq_publisher.transport.consuming import Source
from rmq_publisher.transport.outcome import Declared, Delivery


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


class Transport(Protocol):
    """The way to one broker from one process."""

    settings: ConnectionSettings

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries, in order; each gets its outcome from here or from its caller."""

    def abandoned(self) -> None:
        """Note that a caller has given up, so that its place in the window is freed."""

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


def submit(transport: Transport, deliveries: Sequence[Delivery]) -> None:
    """Hand deliveries to a transport; if it cannot take them any more, each of them fails."""
    try:
        transport.submit(deliveries)
    except PublishError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (a message must have an outcome, whatever happens)
        reason = f"not handed to the I/O thread ({type(error).__name__})"
    else:
        return
    for delivery in deliveries:
        delivery.fail(reason)


def give_up(transport: Transport, deliveries: Sequence[Delivery], reason: str) -> bool:
    """End deliveries whose deadline has passed, and have the transport take their places back.

    Returns:
        Whether any of them had no outcome yet.
    """
    # The last first: the places of those on the wire must not be taken by those behind them.
    ended = [delivery.fail(reason) for delivery in reversed(deliveries)]
    if any(ended):
        transport.abandoned()
    return any(ended)


def late(transport: Transport, timeout: float) -> str:
    """Return the error text of a message whose deadline has passed."""
    status = transport.status()
    state = f"blocked: {status.blocked}" if status.blocked else status.state
    if status.state != "open" and status.last_error:
        state += f": {status.last_error}"
    return f"no confirm from RabbitMQ at {status.node} within {timeout:g} s ({state})"
