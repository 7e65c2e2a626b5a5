"""What is on the wire of one confirming channel: tags, ids, places of the window. No I/O.

Tags count from 1 on each channel (RabbitMQ, "Publisher Confirms"). Acks come out of order and may
speak of all tags up to theirs; a return carries no tag, only the message, and its ack still follows.
"""

from collections.abc import Iterator

from rmq_publisher.messages.envelope import Destination
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage


class PublisherConfirms:
    """The unanswered messages of a channel, by tag and by message id.

    Attributes:
        in_flight: places of the window that are taken.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._next_tag = 1
        self._by_tag: dict[
            int, OutgoingMessage
        ] = {}  # ascending, for dicts keep the order of insertion
        self._by_id: dict[str, OutgoingMessage] = {}

    def __len__(self) -> int:
        return len(self._by_tag)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        """Yield the unanswered messages, oldest first."""
        return iter(self._by_tag.values())

    def reserve(self, message: OutgoingMessage) -> None:
        """Note its id before it is handed over: the same id is not sent twice in one piece."""
        self._by_id[message.envelope.message_id] = message

    def sent(self, message: OutgoingMessage) -> int:
        """Count the next tag for a message that was handed over; return the tag."""
        tag = self._next_tag
        self._next_tag = tag + 1
        self._by_tag[tag] = message
        return tag

    def answered(self, tag: int, *, multiple: bool) -> list[OutgoingMessage]:
        """Take out what an ack or nack speaks of, in order of the tags.

        A tag that is not known is answered already: nothing comes back. Tag 0 with ``multiple`` is
        everything (AMQP 0-9-1, basic.ack).
        """
        if not multiple:
            message = self._by_tag.pop(tag, None)
            taken = [] if message is None else [message]
        else:
            tags = []
            for known in self._by_tag:
                if tag and known > tag:
                    break
                tags.append(known)
            taken = [self._by_tag.pop(known) for known in tags]
        for message in taken:
            self._by_id.pop(message.envelope.message_id, None)
            self.free(message)
        return taken

    def place(self, message: OutgoingMessage) -> None:
        """Give a message a place in the window."""
        message.placed = True
        self.in_flight += 1

    def free(self, message: OutgoingMessage) -> None:
        """Take its place back, if it has one."""
        if message.placed:
            message.placed = False
            self.in_flight -= 1

    def reap(self) -> list[OutgoingMessage]:
        """Free the places of messages whose callers gave up, and the memory that they take.

        Their tags stay tracked. Returns those that were not reaped before.
        """
        reaped = [
            message
            for message in self._by_tag.values()
            if message.delivery.claimed and message.frames
        ]
        for message in reaped:
            message.let_go()
            self.free(message)
        return reaped

    def by_destination(self) -> dict[Destination, list[OutgoingMessage]]:
        """Return the unanswered messages, those given up included, by where they went."""
        groups: dict[Destination, list[OutgoingMessage]] = {}
        for message in self._by_tag.values():
            groups.setdefault(message.envelope.destination, []).append(message)
        return groups

    def destinations(self) -> set[Destination]:
        """Return where messages are in flight, or about to be, whose callers have not given up."""
        return {item.envelope.destination for item in self._by_id.values() if item.frames}

    def find(self, message_id: str) -> OutgoingMessage | None:
        """Return the unanswered message with this id: the one that a return speaks of."""
        return self._by_id.get(message_id)

    def clear(self) -> list[OutgoingMessage]:
        """Take out everything, oldest first, and count from 1 again, as a new channel does."""
        everything = list(self._by_tag.values())
        for message in everything:
            self.free(message)
        self._by_tag.clear()
        self._by_id.clear()
        self._next_tag = 1
        return everything
