"""What several tests of `publish()` share."""

from rmq_publisher import publish
from tests.support.rig import wire
from tests.support.rig.amqp import Received
from tests.support.rig.faults import Fault, Step, Verdict

LONG = 60.0  # "does not hang": far above what is measured, far below what a hang would take


def taken(amqp, queue):
    """All messages in a queue. Confirmed messages are there already, so this does not wait."""
    messages = []
    while (message := amqp.channel.basic_get(queue, auto_ack=True))[0] is not None:
        messages.append(Received(*message))
    return messages


def only(amqp, queue):
    [message] = taken(amqp, queue)
    return message


def bodies(amqp, queue):
    return [message.body for message in taken(amqp, queue)]


def now(body="x", **options):
    return publish(body, delivery="now", **options)


class HoldAnswers(Fault):
    """Holds acks back until a number of publishes has passed, so only a pipeline gets any."""

    def __init__(self, publishes):
        super().__init__()
        self._left, self._held = publishes, []

    def from_client(self, link, frame, step):
        if step is Step.DONE and self._left:
            self._left -= 1
            if not self._left:
                for answer in self._held:
                    link.later(0, answer)
                self.hit()
        return Verdict.PASS

    def from_broker(self, link, frame):
        if self._left and frame.method in (wire.ACK, wire.NACK):
            self._held.append(link.resend(frame))
            return Verdict.DROP
        return Verdict.PASS


def count(proxy, event):
    return [entry.what for entry in proxy.events].count(event)
