"""Deliveries without a broker, for tests of code without I/O."""

from collections.abc import Iterable

from rmq_publisher.amqp.entities import QueueName, Topology
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.transport.outcome import Delivery
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage


class Told(Delivery):
    """Counts how often it got an outcome."""

    def __init__(
        self,
        message_id: str = "m",
        where: tuple[str, str] = ("", "q"),
        batch: object | None = None,
        topology: Topology = (),
    ) -> None:
        self.told = 0
        envelope = Envelope(message_id, *where, header=b"h", body=b"b", topology=topology)
        super().__init__(envelope, self._tell, batch)
        self.message = OutgoingMessage(self, b"frames")  # as the engine keeps it

    def _tell(self) -> None:
        self.told += 1

    def __repr__(self) -> str:
        state = type(self.error).__name__ if self.error else "confirmed"
        return f"<{self.envelope.message_id} {state if self.done else 'waiting'}>"


def told(count: int, **options: object) -> list[Told]:
    """Several deliveries, each with its own id."""
    return [Told(f"m{number}", **options) for number in range(count)]  # type: ignore[arg-type]


def needing(queue: str, delivery: Told) -> Told:
    """A delivery whose queue must be verified first."""
    envelope = delivery.envelope._replace(topology=(QueueName(queue),))
    delivery.envelope = delivery.message.envelope = envelope
    return delivery


def ids(messages: Iterable[Delivery | OutgoingMessage]) -> list[str]:
    return [message.envelope.message_id for message in messages]
