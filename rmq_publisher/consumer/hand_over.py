"""Publishes a failed message to a retry queue: persistent, mandatory and confirmed."""

from rmq_publisher.amqp.encoding import FieldError, basic_properties
from rmq_publisher.conf import loader
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.exceptions import InvalidMessage, PublishError
from rmq_publisher.messages.envelope import FRAME_MAX, HEADER_OVERHEAD, Envelope
from rmq_publisher.messages.properties import new_id
from rmq_publisher.timing import epoch_milliseconds
from rmq_publisher.transport.base import late
from rmq_publisher.transport.delivery import send_and_wait
from rmq_publisher.transport.handler import connections


def to_queue(
    message: ReceivedMessage, queue: str, *, failures: int, rest: int = 0, error: str = ""
) -> Envelope:
    """Return a message as it is published to a retry queue.

    Args:
        message: as received.
        queue: its destination, through the default exchange.
        failures: the attempts that have failed.
        rest: milliseconds that are left to wait after that queue.
        error: why its attempts have ended; empty if they have not.

    Raises:
        InvalidMessage: its headers cannot be encoded, or are too large with those that are added.
        DecodeError: its properties cannot be read, or its body was not kept.
    """
    values = message.carried.handed_over(
        now=epoch_milliseconds(), failures=failures, rest=rest, error=error
    )
    # Without an id, a return by the broker could not be matched to its message.
    message_id = values.get("message_id") or new_id()
    try:
        header = basic_properties(values | {"message_id": message_id})
    except FieldError as problem:
        raise InvalidMessage(str(problem), message_id=message_id, routing_key=queue) from problem
    if len(header) + HEADER_OVERHEAD > FRAME_MAX:
        raise InvalidMessage(
            f"its headers would take {len(header)} bytes and must fit a frame of {FRAME_MAX} bytes",
            message_id=message_id,
            routing_key=queue,
        )
    return Envelope(message_id, "", queue, header, message.body)


def send(alias: str, envelope: Envelope) -> PublishError | None:
    """Publish a message and return its error, or None if it was confirmed.

    No signal is sent, because the project did not publish it.
    """
    transport = connections[alias]
    seconds = loader.connection(alias).publish_timeout
    return send_and_wait(transport, envelope, seconds, lambda: late(transport, seconds))
