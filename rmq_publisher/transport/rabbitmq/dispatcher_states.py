"""The states of the dispatcher: what it may write on the channel that it has, if it has one."""

from enum import Enum, auto

from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage


class State(Enum):
    """What may be written now; of several reasons to hold back, the first one here counts."""

    CLOSED = auto()  # nothing: there is no channel
    BLOCKED = auto()  # nothing: the broker has an alarm
    VERIFYING = auto()  # nothing yet: a topology that waits may make the broker end the connection
    SEARCHING = auto()  # one message at a time, to find the one over which the channel was closed
    PROBING = auto()  # one message: none was answered on this connection yet
    OPEN = auto()  # as many as the window has places


class _Pace(Enum):
    """How a connection begins: each is followed by the next, on this connection."""

    NOTHING = auto()  # until all topology that waits is verified
    ONE_MESSAGE = auto()  # until it is answered, or its caller gives up
    FULL = auto()


class Flow:
    """How much may be written on a channel.

    Args:
        max_in_flight: places in the window.

    Attributes:
        ready: whether there is a channel with confirms on.
        blocked: the alarm's words; empty while there is none.
        suspects: one of them made the broker close the channel or the connection.
    """

    def __init__(self, max_in_flight: int) -> None:
        self.ready = False
        self.blocked = ""
        self.suspects: set[OutgoingMessage] = set()
        self._max_in_flight = max_in_flight
        self._pace = _Pace.FULL

    @property
    def state(self) -> State:
        """What may be written now."""
        if not self.ready:
            return State.CLOSED
        if self.blocked:
            return State.BLOCKED
        if self._pace is _Pace.NOTHING:
            return State.VERIFYING
        if self.suspects:
            return State.SEARCHING
        return State.OPEN if self._pace is _Pace.FULL else State.PROBING

    @property
    def window(self) -> int:
        """Places: one until something was answered, and while a culprit is looked for."""
        return self._max_in_flight if self._pace is _Pace.FULL and not self.suspects else 1

    def opened(self, *, cautious: bool) -> None:
        """There is a channel on a new connection; ``cautious``: topology is verified first."""
        self.ready = True
        self.blocked = ""
        self._pace = _Pace.NOTHING if cautious else _Pace.ONE_MESSAGE

    def verified(self) -> None:
        """All topology that waits is verified."""
        self._pace = _Pace.ONE_MESSAGE

    def open_window(self) -> None:
        """The first message on a connection was answered, or its caller gave up."""
        if self._pace is _Pace.ONE_MESSAGE:
            self._pace = _Pace.FULL

    def lost(self) -> None:
        """The connection is gone."""
        self.ready = False
        self.blocked = ""
        self._pace = _Pace.FULL

    def forget_suspects(self) -> None:
        """Do not look for a culprit among messages whose callers have an outcome."""
        if self.suspects:
            self.suspects = {item for item in self.suspects if not item.delivery.claimed}
