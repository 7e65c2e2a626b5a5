"""What a worker does with the messages of a handler: calls it, settles them, sends signals."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError

from rmq_publisher import signals
from rmq_publisher.consumer import databases
from rmq_publisher.consumer.event_loop import EventLoop
from rmq_publisher.consumer.failure_log import log_failure
from rmq_publisher.consumer.handler_call import HandlerCall
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.consumer.once_batch import run_batch
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome
from rmq_publisher.consumer.retention import RetentionPruner
from rmq_publisher.consumer.retries import Retries
from rmq_publisher.consumer.worker import Worker
from rmq_publisher.consumer.worker_queue import WorkerQueue
from rmq_publisher.db.support import unfit

Before = Callable[[HandlerOptions], object]

logger = logging.getLogger("rmq_publisher.consumer")


class HandlerWork:
    """Handles messages by calling a handler (a `lane.Work`).

    Args:
        options: the handler's.
        loop: runs coroutine functions; one per process.
        pruner: deletes old rows; None if nothing is pruned.
    """

    def __init__(
        self, options: HandlerOptions, loop: EventLoop, pruner: RetentionPruner | None = None
    ) -> None:
        self.name = str(options)
        self.batch = options.once_batch or 1
        self.timeout = options.timeout
        self.keeps = options.is_stream
        self._options = options
        self._pruner = pruner
        self._call = HandlerCall(options, loop)
        self._retries = Retries(options)

    def handle(self, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
        """Handle messages and settle them; return how each ended."""
        try:
            begun = [self._begin(message) for message in messages]
            if len(messages) == 1:
                return [self._one(messages[0], begun[0])]
            return self._many(messages, begun)
        finally:
            self._prune()
            databases.tidy(idle=False)

    def _prune(self) -> None:
        if self._pruner is not None:
            self._pruner.prune_if_due()

    def _one(self, message: ReceivedMessage, begun: Outcome | None) -> Outcome:
        if begun is not None:
            return begun
        outcome = self._call.run(message)
        self._retries.end(message)
        return self._settle(message, outcome)

    def _many(
        self, messages: Sequence[ReceivedMessage], begun: Sequence[Outcome | None]
    ) -> list[Outcome]:
        runnable = [
            message for message, outcome in zip(messages, begun, strict=True) if outcome is None
        ]
        ran = dict(zip(map(id, runnable), run_batch(self._call, runnable), strict=True))
        for message in runnable:
            self._retries.end(message)
        return [
            outcome or self._settle(message, ran[id(message)])
            for message, outcome in zip(messages, begun, strict=True)
        ]

    def _begin(self, message: ReceivedMessage) -> Outcome | None:
        """Return None if the handler must run, otherwise how the message ended without it."""
        if (outcome := self._retries.begin(message)) is not None:
            return outcome
        self._tell(signals.message_received, message)
        message.guarded = True
        return None

    def _settle(self, message: ReceivedMessage, outcome: Outcome) -> Outcome:
        message.guarded = False
        try:
            if outcome is HANDLED:
                message.ack()
            elif outcome.ended is not Ended.NOT_AN_ATTEMPT:
                log_failure(self._options, message, outcome)
                outcome = self._retries.settle(message, outcome)
        except MessageStateError as error:
            logger.warning("%s: %s", self.name, error)
        if outcome is HANDLED:
            self._tell(signals.message_handled, message)
        else:
            self._tell(
                signals.message_failed,
                message,
                error=outcome.error,
                outcome=outcome.ended.name.lower(),
            )
        return outcome

    def _tell(self, signal: Any, message: ReceivedMessage, **also: Any) -> None:
        if signal.has_listeners(None):
            signal.send_robust(
                sender=None,
                handler=self._options.name,
                queue=message.queue,
                message=message,
                **also,
            )

    def is_possible(self, outcome: Outcome) -> bool:
        """Return whether the database is available again."""
        return outcome.database is None or databases.can_connect(outcome.database)

    def overran(self, messages: Sequence[ReceivedMessage]) -> None:
        """Record that these are being handled in a process that is about to end."""
        for message in messages:
            try:
                self._retries.overran(message)
            except (DatabaseError, InterfaceError) as error:
                logger.error("%s: the start is not counted: %s", self.name, type(error).__name__)

    def close(self) -> None:
        """End the thread that completes unfinished messages."""
        self._retries.close()

    def idle(self) -> None:
        """Close database connections that are not kept."""
        self._prune()
        databases.tidy(idle=True)

    def thread_ends(self) -> None:
        """Close the thread's database connections."""
        databases.close_all()


class HandlerQueue(WorkerQueue):
    """The consumer of a handler's queue.

    Args:
        handler: its options.
        threads: how many share it.
        before: called before it consumes for the first time.
    """

    def __init__(self, handler: HandlerOptions, threads: int, before: Before) -> None:
        super().__init__(
            [(handler.config or handler.queue, handler.arguments)],
            using=handler.using,
            accept=handler.accept,
            prefetch_count=handler.prefetch_of(threads),
            tag_prefix=f"{handler.name}.",
        )
        self._handler = handler
        self._before: Before | None = before

    def consume(self, no_ack: bool | None = None) -> Self:
        """Begin to consume; also raises what ``before`` raises."""
        if self._before is not None:
            self._before(self._handler)
            self._before = None
        return super().consume(no_ack)


def add_handlers(
    worker: Worker,
    handlers: Iterable[HandlerOptions],
    threads: int | None = None,
    before: Before = lambda _: None,
) -> None:
    """Have a worker handle the queues of handlers.

    Args:
        worker: not running yet.
        handlers: the handlers' options.
        threads: for each handler; None for the number in its options.
        before: called with each handler before its queue is consumed from for the first time.
    """
    loop = EventLoop()
    handlers = list(handlers)
    homes = {handler.database or DEFAULT_DB_ALIAS for handler in handlers}
    pruner = RetentionPruner(database for database in homes if not unfit(database))
    for handler in handlers:
        count = threads or handler.threads
        queue = HandlerQueue(handler, count, before)
        worker.add(queue, HandlerWork(handler, loop, pruner), count)
