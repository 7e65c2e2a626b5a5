"""What happens to a message that is not tried again: it is kept as a dead letter."""

import logging
from collections.abc import Callable
from types import TracebackType

from django.db import DatabaseError, InterfaceError

from rmq_publisher.consumer import dead_letters, hand_over
from rmq_publisher.consumer.handler_options import DROP, HandlerOptions
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.retry_levels import RetryLevels
from rmq_publisher.consumer.starts import label
from rmq_publisher.db.errors import retried
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.serialization import DecodeError

logger = logging.getLogger("rmq_publisher.consumer")

FAILED, CRASHED, REJECTED = "failed", "crashed", "rejected"


def described(reason: str, error: BaseException | None, function: Callable[..., object]) -> str:
    """Return why attempts ended, for a header: the reason, the error's class and place, never a value.

    Args:
        reason: "failed", "crashed" or "rejected".
        error: what the handler raised, if anything.
        function: the handler.
    """
    if error is None:
        return reason
    place = _place(error.__traceback__, function.__module__.partition(".")[0])
    return f"{reason}: {type(error).__name__}{place}"


def _place(traceback: TracebackType | None, package: str) -> str:
    """Return the last line in the traceback from the handler's package, or else the last line."""
    own = last = ""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", "?"))
        last = f" at {module}:{traceback.tb_lineno}"
        if module.partition(".")[0] == package:
            own = last
        traceback = traceback.tb_next
    return own or last


class EndOfAttempts:
    """Ends the attempts of one handler's messages.

    If the queue's config names a dead-letter exchange, the message is rejected. A rejection cannot carry
    a reason, so the message is first published once more with the reason in its headers. Otherwise the
    message becomes a row in the table of dead letters; until that is possible, it waits in the longest
    level.

    Args:
        options: of the handler.
        levels: the retry queues; without delays if its messages cannot wait.
    """

    def __init__(self, options: HandlerOptions, levels: RetryLevels) -> None:
        config = options.config
        self._alias = options.alias
        self._name = options.name
        self._database = options.database or "default"
        self._drops = options.dead_letters == DROP
        self._levels = levels
        exchange = config.x_arguments.get("x-dead-letter-exchange") if config is not None else None
        self._has_exchange = exchange is not None

    def end(self, message: ReceivedMessage, error: str, attempts: int) -> str:
        """Settle a message for good; return why that is not possible now, or "".

        Args:
            message: unsettled.
            error: as `described` returned it.
            attempts: the number of attempts.

        Raises:
            MessageStateError: its channel is lost.
        """
        if self._drops:
            message.ack()
            return ""
        if self._has_exchange:
            self._reject(message, error, attempts)
            return ""
        return self._store(message, error, attempts)

    def _reject(self, message: ReceivedMessage, error: str, attempts: int) -> None:
        if _readable(message) and not message.carried.error:
            wait = self._levels.stay(0).queue if self._levels.delays else message.queue
            if not self._sent(message, wait, error, attempts):
                message.ack()
                return
        # If it could not be published, it is rejected without the reason in its headers.
        message.reject()

    def _store(self, message: ReceivedMessage, error: str, attempts: int) -> str:
        reason = error.partition(":")[0]
        try:
            letter = dead_letters.from_worker(
                message,
                self._alias,
                handler=self._name,
                reason=reason,
                error=error,
                attempts=attempts,
            )
            retried(self._database, lambda: dead_letters.store(self._database, [letter]))
        except DecodeError as problem:
            return str(problem)
        except (DatabaseError, InterfaceError) as problem:
            why = f"no row in database {self._database!r} ({type(problem).__name__})"
            if not self._levels.delays:
                return why
            longest = self._levels.name(self._levels.delays[-1])
            if failure := self._sent(message, longest, error, attempts):
                return f"{why}, and {failure}"
            logger.error("handler %r: message %s waits: %s", self._name, label(message), why)
        message.ack()
        return ""

    def _sent(self, message: ReceivedMessage, queue: str, error: str, attempts: int) -> str:
        """Publish a message with the reason; return why that failed, or ""."""
        try:
            envelope = hand_over.to_queue(message, queue, failures=attempts, error=error)
        except (InvalidMessage, DecodeError) as problem:
            return str(problem)
        failure = hand_over.send(self._alias, envelope)
        return "" if failure is None else str(failure)


def _readable(message: ReceivedMessage) -> bool:
    try:
        return message.carried is not None
    except DecodeError:
        return False
