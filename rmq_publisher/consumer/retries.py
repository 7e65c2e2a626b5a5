"""Counts attempts before a handler runs, and decides what happens after it failed."""

import logging

from django.db import DatabaseError, InterfaceError

from rmq_publisher.consumer import hand_over
from rmq_publisher.consumer.end_of_attempts import (
    CRASHED,
    FAILED,
    REJECTED,
    EndOfAttempts,
    described,
)
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import Ended, Outcome
from rmq_publisher.consumer.retry_levels import RetryLevels, levels_of
from rmq_publisher.consumer.starts import Starts, identity, label
from rmq_publisher.consumer.unfinished import Step, Unfinished
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.serialization import DecodeError
from rmq_publisher.timing import epoch_milliseconds

logger = logging.getLogger("rmq_publisher.consumer")

PASSED = Outcome(Ended.PASSED)


def _attempts(message: ReceivedMessage) -> int:
    try:
        return message.attempts
    except DecodeError:
        return 1


class Retries:
    """The attempts of one handler's messages. Its methods may be called by any thread.

    Args:
        options: of the handler.
    """

    def __init__(self, options: HandlerOptions) -> None:
        self._options = options
        self._levels: RetryLevels = levels_of(options)
        self._end = EndOfAttempts(options, self._levels)
        self._database = options.database or "default"
        self._starts = Starts(options.name, self._database)
        self._unfinished = Unfinished(options.name)

    def close(self) -> None:
        """End the background retries; the broker redelivers messages that are still unsettled."""
        self._unfinished.close()

    # Before

    def begin(self, message: ReceivedMessage) -> Outcome | None:
        """Decide whether the handler must run for a message.

        Returns:
            None if it must; call `end` afterwards. `PASSED` if nothing is left to do. `NOT_AN_ATTEMPT` if
            the start could not be written; the message is unsettled.
        """
        try:
            failures = message.carried.failures
        except DecodeError:
            return None  # the call of the handler reports it
        if not failures and not message.redelivered:
            return None
        if self._unfinished.take_up(message, identity(message)):
            return PASSED
        try:
            return self._passed(message, failures) or self._counted(message)
        except (DatabaseError, InterfaceError) as error:
            return Outcome(Ended.NOT_AN_ATTEMPT, error, database=self._database)

    def _passed(self, message: ReceivedMessage, failures: int) -> Outcome | None:
        carried = message.carried
        if carried.error:
            self._ended(message, carried.error, failures)
            return PASSED
        if carried.rest and self._levels.delays:
            self._send_on(message, carried.rest, failures)
            return PASSED
        if failures and self._is_over_by(message, 0):
            self._ended(message, f"{FAILED}: it expired while it waited", failures)
            return PASSED
        return None

    def _counted(self, message: ReceivedMessage) -> Outcome | None:
        if not self._starts.reason:
            message.lost_starts = self._starts.begin(message)
        if message.attempts <= self._options.max_attempts:
            return None
        reason = CRASHED if message.lost_starts else FAILED
        self._ended(message, reason, message.attempts - 1)
        self._starts.end(message)
        return PASSED

    # After

    def end(self, message: ReceivedMessage) -> None:
        """Record that the handler has ended, successfully or not."""
        self._starts.end(message)

    def settle(self, message: ReceivedMessage, outcome: Outcome) -> Outcome:
        """Settle a message whose handler failed, now or as soon as that is possible.

        Args:
            message: unsettled, after `end`.
            outcome: `Ended.RETRY`, `Ended.FAILED` or `Ended.REJECTED`.
        """
        if outcome.ended is Ended.REJECTED:
            why = described(REJECTED, outcome.error, self._options.function)
            self._ended(message, why, _attempts(message))
        else:
            self._failed(message, outcome)
        return outcome

    def overran(self, message: ReceivedMessage) -> None:
        """Record that a handler is about to be killed with its process, which counts as a lost start.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        if not self._starts.reason:
            self._starts.note(message)

    def _failed(self, message: ReceivedMessage, outcome: Outcome) -> None:
        attempt = _attempts(message)
        error = described(FAILED, outcome.error, self._options.function)
        wait = self._levels.after(attempt)
        if outcome.countdown is not None:
            wait = round(outcome.countdown * 1000)
        last = attempt >= self._options.max_attempts or not self._levels.delays
        if last or self._is_over_by(message, wait):
            self._ended(message, error, attempt)
            return
        logger.info(
            "handler %r: message %s waits %g s for attempt %d of %d",
            self._options.name, label(message), wait / 1000, attempt + 1,
            self._options.max_attempts,
        )  # fmt: skip
        self._send_on(message, wait, attempt)

    def _is_over_by(self, message: ReceivedMessage, wait: int) -> bool:
        """Return whether a message will have expired after ``wait`` milliseconds."""
        now = epoch_milliseconds()
        deadline = message.carried.expires_at(now)
        return deadline is not None and now + wait >= deadline

    def _send_on(self, message: ReceivedMessage, wait: int, failures: int) -> None:
        """Send a message to the retry queue in which it waits."""
        stay = self._levels.stay(wait)

        def step(given: ReceivedMessage) -> str:
            try:
                envelope = hand_over.to_queue(given, stay.queue, failures=failures, rest=stay.rest)
            except (InvalidMessage, DecodeError) as error:  # it will never fit into a level
                logger.error("message %s cannot wait: %s", label(given), error)
                return self._end.end(given, f"{FAILED}: {type(error).__name__}", failures)
            failure = hand_over.send(self._options.alias, envelope)
            if failure is not None:
                return str(failure)
            given.ack()
            return ""

        self._do(message, step)

    def _ended(self, message: ReceivedMessage, error: str, attempts: int) -> None:
        logger.error(
            "handler %r: message %s is not tried again after %d attempts: %s",
            self._options.name, label(message), attempts, error,
        )  # fmt: skip
        self._do(message, lambda given: self._end.end(given, error, attempts))

    def _do(self, message: ReceivedMessage, step: Step) -> None:
        self._unfinished.do(message, identity(message), step)
