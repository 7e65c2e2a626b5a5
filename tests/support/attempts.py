"""One queue, a handler's retries, and messages that a test handles one by one."""

from collections.abc import Callable
from typing import Any

from rmq_publisher import Consumer, QueueConfig
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome, Reject, Retry
from rmq_publisher.consumer.retries import Retries
from rmq_publisher.consumer.retry_levels import RetryLevels, wanted_levels
from tests.support.sides import SOON, Side

Handle = Callable[[ReceivedMessage], Any]


def fail(_: ReceivedMessage) -> None:
    raise ValueError("a value that nobody may see")


def succeed(_: ReceivedMessage) -> None:
    pass


class Desk:
    """A consumer and the retries of its handler; `close` it.

    Another desk for the same queue is another worker.
    """

    def __init__(self, side: Side, queue: QueueConfig | str, **options: Any) -> None:
        self.side = side
        given: dict[str, Any] = {"name": "book", "function": fail, "queue": queue}
        given |= {"max_attempts": 5, "backoff": (0.05, 60.0), **options}
        self.options = HandlerOptions(**given)
        self.levels: RetryLevels = wanted_levels(self.options)
        side.declare_own(*self.levels.configs())
        self.open()

    def open(self) -> None:
        """A worker starts."""
        self.retries = Retries(self.options)
        self.consumer = Consumer([self.options.queue_name], prefetch_count=20).consume()

    def close(self) -> None:
        """The worker ends in an orderly way."""
        self.retries.close()
        self.consumer.close()

    def die(self) -> None:
        """The worker dies: the broker requeues its messages, and its state is lost."""
        self.consumer.close()
        self.retries.close()

    def take(self) -> ReceivedMessage:
        message = self.consumer._take(SOON, lambda: False)
        assert message is not None, "nothing came"
        return message

    def handle(self, function: Handle, message: ReceivedMessage | None = None) -> str:
        """Handle the next message; return how that ended."""
        message = message or self.take()
        outcome = self.retries.begin(message)
        if outcome is None:
            outcome = outcome_of(function, message)
            self.retries.end(message)
            if outcome is HANDLED:
                message.ack()
            else:
                self.retries.settle(message, outcome)
        return outcome.ended.name

    def after(self, milliseconds: int, function: Handle) -> str:
        """Handle the next message once a wait is over."""
        self.side.wait(milliseconds / 1000)
        return self.handle(function)

    def is_empty(self) -> bool:
        return self.consumer._take(0.2, lambda: False) is None


def outcome_of(function: Handle, message: ReceivedMessage) -> Outcome:
    try:
        function(message)
    except Retry as error:
        return Outcome(Ended.RETRY, error, countdown=error.countdown)
    except Reject as error:
        return Outcome(Ended.FAILED if error.requeue else Ended.REJECTED, error)
    except Exception as error:
        return Outcome(Ended.FAILED, error)
    return HANDLED
