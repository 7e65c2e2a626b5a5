"""Which brokers can take messages now, as far as this process's connections know."""

from collections.abc import Iterator

from rmq_publisher.conf import loader
from rmq_publisher.transport.base import Status, submit
from rmq_publisher.transport.handler import connections

CONNECTING = ("closed", "connecting", "reconnecting")  # states that end in "open" or "down"


class BrokerWatch:
    """The brokers of all RabbitMQ aliases.

    Attributes:
        up: aliases that are connected and not blocked.
        is_connecting: whether any connection attempt is under way.
    """

    def __init__(self) -> None:
        self.up: frozenset[str] = frozenset()
        self.is_connecting = True

    def update(self) -> bool:
        """Ask every connection for its state; return whether another broker has come up."""
        up, self.is_connecting = set(), False
        for status in _statuses():
            if status.state == "open" and not status.blocked:
                up.add(status.alias)
            elif status.state in CONNECTING:
                self.is_connecting = True
        is_more = bool(up - self.up)
        self.up = frozenset(up)
        return is_more

    def unreachable(self) -> list[str]:
        """Say of each broker that cannot take messages why not."""
        return [_why(status) for status in _statuses() if status.state != "open" or status.blocked]


def _statuses() -> Iterator[Status]:
    for settings in loader.usable():
        transport = connections[settings.alias]
        if transport.status().state in ("closed", "down"):
            submit(transport, ())  # without messages: this only makes it connect, and reconnect
        yield transport.status()


def _why(status: Status) -> str:
    why = f"blocked: {status.blocked}" if status.blocked else status.last_error or status.state
    return f"RabbitMQ connection {status.alias!r}: {why}"
