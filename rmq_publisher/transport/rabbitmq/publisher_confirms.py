"""What is on the wire of one confirming channel: tags, ids, places of the window. No I/O.

Tags count from 1 on each channel (RabbitMQ, "Publisher Confirms"). Acks come out of order and may
speak of all tags up to theirs; a return carries no tag, only the message, and its ack still follows.
"""

from collections.abc import Iterator

from rmq_publisher.messages.envelope import Destination
from rmq_publisher.transport.base import Delivery


class PublisherConfirms:
    """The unanswered messages of a channel, by tag and by message id.

    Attributes:
        in_flight: places of the window that are taken.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._next_tag = 1
        self._by_tag: dict[int, Delivery] = {}  # ascending, for dicts keep the order of insertion
        self._by_id: dict[str, Delivery] = {}

    def __len__(self) -> int:
        return len(self._by_tag)

    def __iter__(self) -> Iterator[Delivery]:
        """Yield the unanswered deliveries, oldest first."""
        return iter(self._by_tag.values())

    def reserve(self, delivery: Delivery) -> None:
        """Note its id before it is handed over: the same id is not sent twice in one piece."""
        self._by_id[delivery.envelope.message_id] = delivery

    def sent(self, delivery: Delivery) -> int:
        """Count the next tag for a message that was handed over; return the tag."""
        tag = self._next_tag
        self._next_tag = tag + 1
        self._by_tag[tag] = delivery
        return tag

    def answered(self, tag: int, *, multiple: bool) -> list[Delivery]:
        """Take out what an ack or nack speaks of, in order of the tags.

        A tag that is not known is answered already: nothing comes back. Tag 0 with ``multiple`` is
        everything (AMQP 0-9-1, basic.ack).
        """
        if not multiple:
            delivery = self._by_tag.pop(tag, None)
            taken = [] if delivery is None else [delivery]
        else:
            tags = []
            for known in self._by_tag:
                if tag and known > tag:
                    break
                tags.append(known)
            taken = [self._by_tag.pop(known) for known in tags]
        for delivery in taken:
            self._by_id.pop(delivery.envelope.message_id, None)
            self.free(delivery)
        return taken

    def place(self, delivery: Delivery) -> None:
        """Give a message a place in the window."""
        delivery.placed = True
        self.in_flight += 1

    def free(self, delivery: Delivery) -> None:
        """Take its place back, if it has one."""
        if delivery.placed:
            delivery.placed = False
            self.in_flight -= 1

    def reap(self) -> list[Delivery]:
        """Free the places of messages whose callers gave up, and the memory that they take.

        Their tags stay tracked. Returns those that were not reaped before.
        """
        reaped = [
            delivery
            for delivery in self._by_tag.values()
            if delivery.claimed and delivery.data is not None
        ]
        for delivery in reaped:
            delivery.data = None
            delivery.envelope = delivery.envelope.without_content()
            self.free(delivery)
        return reaped

    def by_destination(self) -> dict[Destination, list[Delivery]]:
        """Return the unanswered messages, those given up included, by where they went."""
        groups: dict[Destination, list[Delivery]] = {}
        for delivery in self._by_tag.values():
            groups.setdefault(delivery.envelope.destination, []).append(delivery)
        return groups

    def find(self, message_id: str) -> Delivery | None:
        """Return the unanswered message with this id: the one that a return speaks of."""
        return self._by_id.get(message_id)

    def clear(self) -> list[Delivery]:
        """Take out everything, oldest first, and count from 1 again, as a new channel does."""
        everything = list(self._by_tag.values())
        for delivery in everything:
            self.free(delivery)
        self.in_flight = 0
        self._by_tag.clear()
        self._by_id.clear()
        self._next_tag = 1
        return everything
