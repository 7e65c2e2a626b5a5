"""A channel for the dispatcher's tests that records what is written to it."""

from collections.abc import Sequence

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.outcome import Delivery
from rmq_publisher.transport.rabbitmq.dispatcher import Dispatcher
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from tests.support.deliveries import Told, ids

WINDOW = 4


class Channel:
    """A channel in confirm mode, whose broker answers when the test asks it to."""

    def __init__(self, window: int = WINDOW) -> None:
        self.now = 100.0
        self.pieces: list[list[str]] = []  # what was written at once
        self.log: list[str] = []  # all ids written, in order
        self.wire: dict[int, Delivery] = {}  # unanswered, by tag
        self.asked: list[Topology] = []
        self.tag = 0
        self.renewals = 0
        self.deciding = False
        self.dispatcher = Dispatcher(
            window, self.write, self.asked.append, self.renew, lambda: self.now,
            lambda: self.deciding,
        )  # fmt: skip

    def write(self, messages: Sequence[OutgoingMessage]) -> None:
        assert self.dispatcher.flow.ready
        assert not self.dispatcher.flow.blocked
        self.pieces.append(ids(messages))
        for message in messages:
            assert message.frames
            self.tag += 1
            self.wire[self.tag] = message.delivery
        self.log += ids(messages)

    def open(self, *, warm: bool = True, frame_max: int = FRAME_MAX) -> "Channel":
        """Connect. ``warm``: the first answer has arrived, so the window is open."""
        self.new_channel()
        self.dispatcher.opened(frame_max)
        if warm:
            self.send(Told("warm"))
            self.ack("warm")
            self.later(0)  # so that the last answer is not recent
        return self

    def send(self, *deliveries: Told) -> list[str]:
        """Add messages and pump; return what was written."""
        self.dispatcher.add([delivery.message for delivery in deliveries])
        return self.pump()

    def pump(self) -> list[str]:
        before = len(self.log)
        self.dispatcher.pump()
        return self.log[before:]

    def tag_of(self, message_id: str) -> int:
        return next(
            tag for tag, item in self.wire.items() if item.envelope.message_id == message_id
        )

    def ack(self, message_id: str, *, multiple: bool = False, nack: bool = False) -> list[str]:
        """Answer, and pump; return what was written after it."""
        tag = self.tag_of(message_id)
        for known in [known for known in self.wire if known == tag or (multiple and known < tag)]:
            del self.wire[known]
        self.dispatcher.answered(tag, multiple=multiple, nack=nack)
        return self.pump()

    def close(self, code: int = 403, text: str = "ACCESS_REFUSED") -> list[str]:
        """The broker closes the channel; another one is opened. Returns what was written on it."""
        self.new_channel()
        self.dispatcher.channel_closed(code, text)
        self.dispatcher.reopened()
        return self.pump()

    def lose(self, error: tuple[int, str] | None = None) -> None:
        self.new_channel()
        self.dispatcher.lost(error)

    def renew(self) -> None:
        assert all(delivery.claimed for delivery in self.wire.values())
        self.renewals += 1
        self.new_channel()

    def new_channel(self) -> None:
        self.wire.clear()
        self.tag = 0

    def give_up(self, *deliveries: Delivery) -> list[str]:
        for delivery in deliveries:
            delivery.fail("the deadline")
        self.dispatcher.reap()
        return self.pump()

    def later(self, seconds: float) -> list[str]:
        """Advance the time, and tick once."""
        self.now += seconds
        before = len(self.log)
        self.dispatcher.tick()
        self.dispatcher.pump()
        return self.log[before:]


def outcome(delivery: Delivery) -> type[PublishError] | None:
    assert delivery.done
    return type(delivery.error) if delivery.error is not None else None
