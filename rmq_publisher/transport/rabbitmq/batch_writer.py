"""The last step before the wire: messages are made fit, handed over in one piece, and counted. No I/O."""

from collections.abc import Callable, Sequence

from rmq_publisher.amqp.reply_codes import FRAME_ERROR
from rmq_publisher.exceptions import Rejected
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.rabbitmq.frames import header_fits, marshal
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.parking import SameIdParking
from rmq_publisher.transport.rabbitmq.publisher_confirms import PublisherConfirms


class BatchWriter:
    """Collects messages, and writes them.

    Args:
        write: hands the frames of messages over to the channel, all or none.
        confirms: counts what was handed over.
        same_ids: takes what must wait, because its id is in flight.

    Attributes:
        frame_max: the connection's, in bytes.
        last: the clock's time of the last piece.
    """

    def __init__(
        self,
        write: Callable[[Sequence[OutgoingMessage]], None],
        confirms: PublisherConfirms,
        same_ids: SameIdParking,
    ) -> None:
        self.frame_max = FRAME_MAX
        self.last = 0.0
        self._write = write
        self._confirms = confirms
        self._same_ids = same_ids
        self._piece: list[OutgoingMessage] = []

    def take(self, message: OutgoingMessage) -> bool:
        """Return whether it will be written; else it has its outcome or waits for its id."""
        envelope = message.envelope
        if self._confirms.find(envelope.message_id) is not None:
            self._same_ids.hold(message)
            return False
        if self.frame_max != FRAME_MAX and not self._fits(message):
            return False
        message.returned = None  # what was returned on a lost connection may be routable by now
        # Marked before `claimed` is read: see Delivery.fail().
        message.delivery.written = True
        if message.delivery.claimed:
            return False
        self._confirms.reserve(message)
        self._piece.append(message)
        return True

    def _fits(self, message: OutgoingMessage) -> bool:
        """Split the body into frames of this connection's limit; reject a header that is too large."""
        envelope = message.envelope
        if not header_fits(envelope, self.frame_max):
            text = f"FRAME_ERROR - headers exceed the negotiated {self.frame_max} bytes"
            message.delivery.resolve(Rejected(FRAME_ERROR, text, **envelope.names))
            return False
        message.frames = marshal(envelope, self.frame_max)
        return True

    def hand_over(self, now: float) -> None:
        """Write what was taken, and count it."""
        piece, self._piece = self._piece, []
        if not piece:
            return
        self._write(piece)
        # Counted only now: what raises has consumed no tag.
        self.last = now
        for message in piece:
            message.written_at = now
            self._confirms.sent(message)
