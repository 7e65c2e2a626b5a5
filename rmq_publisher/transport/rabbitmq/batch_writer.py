"""The last step before the wire: messages are made fit, handed over in one piece, and counted. No I/O."""

from collections.abc import Callable, Sequence

from rmq_publisher.amqp.reply_codes import FRAME_ERROR
from rmq_publisher.exceptions import Rejected
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.base import Delivery
from rmq_publisher.transport.rabbitmq.frames import header_fits, marshal
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
        write: Callable[[Sequence[Delivery]], None],
        confirms: PublisherConfirms,
        same_ids: SameIdParking,
    ) -> None:
        self.frame_max = FRAME_MAX
        self.last = 0.0
        self._write = write
        self._confirms = confirms
        self._same_ids = same_ids
        self._piece: list[Delivery] = []

    def take(self, delivery: Delivery) -> bool:
        """Return whether it will be written; else it has its outcome or waits for its id."""
        envelope = delivery.envelope
        if self._confirms.find(envelope.message_id) is not None:
            self._same_ids.hold(delivery)
            return False
        if self.frame_max != FRAME_MAX and not self._fits(delivery):
            return False
        delivery.returned = None  # what came back on a lost connection may be routable by now
        # Marked before `claimed` is read: see Delivery.fail().
        delivery.written = True
        if delivery.claimed:
            return False
        self._confirms.reserve(delivery)
        self._piece.append(delivery)
        return True

    def _fits(self, delivery: Delivery) -> bool:
        """Frame it anew, by the limit of this connection; reject what cannot be."""
        envelope = delivery.envelope
        if not header_fits(envelope, self.frame_max):
            text = f"FRAME_ERROR - headers exceed the negotiated {self.frame_max} bytes"
            delivery.resolve(Rejected(FRAME_ERROR, text, **envelope.names))
            return False
        delivery.data = marshal(envelope, self.frame_max)
        return True

    def hand_over(self, now: float) -> None:
        """Write what was taken, and count it."""
        piece, self._piece = self._piece, []
        if not piece:
            return
        self._write(piece)
        # Counted only now: what raises has consumed no tag.
        self.last = now
        for delivery in piece:
            delivery.sent_at = now
            self._confirms.sent(delivery)
