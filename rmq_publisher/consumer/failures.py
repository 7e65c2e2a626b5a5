"""What becomes of a message whose handler failed: the seam between the worker and the retries."""

import logging

from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import Ended, Outcome

logger = logging.getLogger("rmq_publisher.consumer")


class Failures:
    """The failures of one handler. One object serves all threads of a process.

    Args:
        options: the handler's.
    """

    def __init__(self, options: HandlerOptions) -> None:
        self._options = options

    def begin(self, message: ReceivedMessage) -> Outcome | None:
        """Note that the handler is about to start on a message.

        Returns:
            An outcome where it must not start: it is settled by `settle`, as if the handler had ended so.
        """
        del message
        return None

    def end(self, message: ReceivedMessage) -> None:
        """Note that the handler has ended."""

    def close(self) -> None:
        """Let go of what is left; the consumer is about to be closed."""

    def overran(self, message: ReceivedMessage) -> None:
        """Note that the handler's process is about to be ended while it runs."""

    def settle(self, message: ReceivedMessage, outcome: Outcome) -> Outcome:
        """Settle a message whose handler did not handle it.

        Args:
            message: unsettled.
            outcome: `Ended.RETRY`, `Ended.FAILED` or `Ended.REJECTED`.

        Returns:
            How it ended: `Ended.NOT_AN_ATTEMPT` where the message is to be given back after all.

        Raises:
            MessageStateError: the channel that brought it is lost.
        """
        if self._options.is_stream:
            message.ack()  # a stream keeps it
        else:
            is_last = message.attempts >= self._options.max_attempts
            message.reject(requeue=outcome.ended is not Ended.REJECTED and not is_last)
        return outcome
