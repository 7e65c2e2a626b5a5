"""How many messages wait in the shop's queues, as the broker says; in words when it does not."""

from dataclasses import dataclass

from rmq_publisher import BrokerUnavailable, PublishError, connections
from rmq_publisher.amqp.entities import QueueName

from . import queues

TIMEOUT = 1.0  # seconds: a page must not wait longer for something that is only nice to know


@dataclass(frozen=True)
class Depth:
    queue: str
    messages: int
    consumers: int


def queue_depths() -> tuple[list[Depth], str]:
    """The depths, or an empty list and why there are none."""
    names = (queues.ORDERS.name, queues.DEAD_ORDERS.name)
    wanted = tuple(QueueName(name) for name in names)
    try:
        answers = connections["default"].declare(wanted, timeout=TIMEOUT)
    except BrokerUnavailable:
        return [], "The broker cannot be reached. Orders are taken all the same."
    except PublishError as error:
        if getattr(error, "reply_code", None) == 404:
            return [], "The queues do not exist yet: run manage.py rmq_declare."
        return [], f"The broker did not tell ({type(error).__name__})."
    return [
        Depth(name, answer.messages or 0, answer.consumers or 0)
        for name, answer in zip(names, answers, strict=True)
    ], ""
