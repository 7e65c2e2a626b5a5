"""What the publishing and the consuming channel share: how they are opened, within a time limit."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from pika.channel import Channel

from rmq_publisher.transport.rabbitmq.event_loop import Loop, Timer
from rmq_publisher.transport.rabbitmq.topology_channels import guarded


class CrashOwner(Protocol):
    """What a channel reports to when a callback raised."""

    def on_crashed(self, error: Exception) -> None: ...  # noqa: D102


OwnerT = TypeVar("OwnerT", bound=CrashOwner)


class OpeningChannel(Generic[OwnerT]):
    """A channel that can be opened again after the broker closed it.

    Args:
        loop: the I/O thread's.
        timeout: seconds in which the broker must have opened it.
        owner: gets what the broker sends on the channel.
        on_ready: called each time that the channel may be used.
        on_late: called when the broker does not open it in time.

    Attributes:
        silent: whether the connection is over: nothing more is reported to the owner.
    """

    number: int  # of the channel

    def __init__(
        self,
        loop: Loop,
        timeout: float,
        owner: OwnerT,
        on_ready: Callable[[], None],
        on_late: Callable[[], None],
    ) -> None:
        self.silent = False
        self._loop = loop
        self._timeout = timeout
        self._owner = owner
        self._on_ready = on_ready
        self._on_late = on_late
        self._connection: Any = None
        self._channel: Channel | None = None
        self._timer: Timer | None = None

    def crashed(self, error: Exception) -> None:
        """A callback raised."""
        self._owner.on_crashed(error)

    def open(self, connection: Any) -> None:
        """Open it on pika's connection."""
        self._connection = connection
        self._open()

    @guarded
    def _open(self) -> None:
        if self.silent or not self._connection.is_open:
            return
        self._start_timer()
        self._connection.channel(self.number, self._on_open)

    def _on_open(self, channel: Channel) -> None:
        raise NotImplementedError

    def _start_timer(self) -> None:
        if self._timer is None:
            # pika's own time limit has ended; a broker that freezes now must not be waited for.
            self._timer = self._loop.call_later(self._timeout, self._on_timeout)

    @guarded
    def _on_timeout(self) -> None:
        self._timer = None
        self._on_late()

    def stop_timer(self) -> None:
        """Cancel the time limit."""
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
            self._timer = None
