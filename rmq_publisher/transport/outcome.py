"""What callers get from a broker: the one outcome of a message, the answer to a declaration."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from rmq_publisher.exceptions import BrokerUnavailable, ConfirmTimeout, Nacked, PublishError
from rmq_publisher.messages.envelope import Envelope


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
        # so that a message reported as not sent is never written.
        self.claimed = True
        kind = ConfirmTimeout if self.written else BrokerUnavailable
        self._finish(kind(reason, **self.envelope.names))
        return True

    def _finish(self, error: PublishError | None) -> None:
        self.error = error
        self.done = True
        self._on_done()


def nacked(envelope: Envelope) -> Nacked:
    """Return the outcome of a message that a queue refused."""
    return Nacked("refused by a queue", **envelope.names)


@dataclass(frozen=True, slots=True)
class Declared:
    """The broker's answer to a declaration; the counts are None for an exchange or binding."""

    entity: str
    messages: int | None = None
    consumers: int | None = None
