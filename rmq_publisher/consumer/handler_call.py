"""Runs a handler for one message, and returns the outcome; settles nothing."""

import contextvars
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError

from rmq_publisher.consumer.databases import tidy, unusable_database
from rmq_publisher.consumer.event_loop import EventLoop
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.inbox import (
    Inbox,
    InboxUnavailable,
    MissingMessageId,
    ReusedMessageId,
)
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome, Reject, Retry
from rmq_publisher.db.errors import is_contention
from rmq_publisher.exceptions import BrokerUnavailable
from rmq_publisher.serialization import DecodeError
from rmq_publisher.timing import Backoff

RUNS_IN_A_ROW = (
    10  # of a transaction that others were in the way of, before its message is given back
)
HOPELESS = (DecodeError, MissingMessageId, ReusedMessageId)


class DatabaseLost(Exception):
    """An async handler's database cannot be used any more; the cause is what the handler raised."""

    def __init__(self, database: str) -> None:
        super().__init__(database)
        self.database = database


class HandlerCall:
    """Calls a handler.

    Args:
        options: the handler's.
        loop: awaits it, if it is a coroutine function.
    """

    def __init__(self, options: HandlerOptions, loop: EventLoop) -> None:
        self._options = options
        self._loop = loop
        self._is_async = options.is_async
        self.inbox = Inbox(options.name, options.database) if options.once else None

    def run(self, message: ReceivedMessage) -> Outcome:
        """Return how the handler ended for a message. With ``once``, its work is committed or undone."""
        backoff = Backoff(first=0.01, cap=0.5)
        for _ in range(RUNS_IN_A_ROW):
            outcome = self._run(message)
            if self.inbox is None or outcome.error is None or not is_contention(outcome.error):
                break
            time.sleep(backoff.delay())  # everything was rolled back, so it can be repeated
        return outcome

    def _run(self, message: ReceivedMessage) -> Outcome:
        __traceback_hide__ = True  # its locals hold the body
        try:
            body = message.decode()
            if self.inbox is None:
                self.call(body, message)
            else:
                with self.inbox.transaction():
                    self.call_once(self.inbox, body, message)
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises, the worker goes on)
            return self.judge(error)
        return HANDLED

    def call_once(self, inbox: Inbox, body: Any, message: ReceivedMessage) -> None:
        """Call the handler within the inbox's transaction, unless the message was handled before."""
        __traceback_hide__ = True
        try:
            is_new = inbox.add(message)
        except (DatabaseError, InterfaceError) as error:
            raise InboxUnavailable(f"database {inbox.database!r}") from error
        if is_new:
            self.call(body, message)
            inbox.check_intact()

    def call(self, body: Any, message: ReceivedMessage) -> None:
        """Call the handler in a new context, so that context variables do not reach the next message."""
        __traceback_hide__ = True
        if self._is_async:
            self._loop.run(self._awaited(body, message))
        else:
            contextvars.copy_context().run(self._options.function, body, message)

    async def _awaited(self, body: Any, message: ReceivedMessage) -> None:
        __traceback_hide__ = True
        try:
            await self._options.function(body, message)
        except BaseException as error:
            # Its database connections are those of asgiref's thread.
            if database := await sync_to_async(unusable_database)():
                raise DatabaseLost(database) from error
            raise
        finally:
            await sync_to_async(tidy)(idle=False)

    def judge(self, error: BaseException) -> Outcome:
        """Return what an exception means for the message."""
        match error:
            case Reject():
                return Outcome(Ended.FAILED if error.requeue else Ended.REJECTED, error)
            case Retry():
                return Outcome(Ended.RETRY, error, countdown=error.countdown)
            case InboxUnavailable() | DatabaseLost():
                cause = error.__cause__ or error
                database = error.database if isinstance(error, DatabaseLost) else self._database
                return Outcome(Ended.NOT_AN_ATTEMPT, cause, database=database)
            case BrokerUnavailable():
                return Outcome(Ended.NOT_AN_ATTEMPT, error)
        if isinstance(error, HOPELESS):
            return Outcome(Ended.REJECTED, error)
        if database := unusable_database():
            return Outcome(Ended.NOT_AN_ATTEMPT, error, database=database)
        if self.inbox is not None and is_contention(error):
            return Outcome(Ended.NOT_AN_ATTEMPT, error, database=self._database)
        return Outcome(Ended.FAILED, error)

    @property
    def _database(self) -> str | None:
        return None if self.inbox is None else self.inbox.database
