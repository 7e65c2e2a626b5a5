"""The engine's own record of a message on its way; only the I/O thread changes it."""

from rmq_publisher.exceptions import PublishError
from rmq_publisher.transport.outcome import Delivery


class OutgoingMessage:
    """A message as the engine keeps it, beside the `Delivery` whose outcome its caller waits for.

    Attributes:
        delivery: the outcome, shared with the caller.
        envelope: the message; without its content once nobody waits for it.
        frames: its frames in AMQP's bytes; empty once nobody waits for it.
        sequence: its place in the order of arrival.
        placed: whether it takes a place in the window.
        written_at: the clock's time when it was last written.
        losses: connections lost while it was unconfirmed.
        returned: the broker's basic.return, until the ack that follows.
        contradicted: the answer that made its topology be verified again.
    """

    __slots__ = (
        "contradicted", "delivery", "envelope", "frames", "losses", "placed", "returned", "sequence",
        "written_at",
    )  # fmt: skip

    def __init__(self, delivery: Delivery, frames: bytes) -> None:
        self.delivery = delivery
        self.envelope = delivery.envelope
        self.frames = frames
        self.sequence = 0
        self.placed = False
        self.written_at = 0.0
        self.losses = 0
        self.returned: PublishError | None = None
        self.contradicted: PublishError | None = None

    def let_go(self) -> None:
        """Free the memory that its content takes: its caller has an outcome."""
        self.frames = b""
        self.envelope = self.delivery.envelope = self.envelope.without_content()
