"""What happens on commit: the messages of one transaction are sent as one batch."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, transaction
from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.db import support
from rmq_publisher.db.errors import is_table_missing
from rmq_publisher.exceptions import BrokerUnavailable, PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox import after_commit, transitions
from rmq_publisher.outbox.failed_publishes import LOST, Failure, record_failures
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.publisher.commit_hook import Commit, CommitHook, register
from rmq_publisher.telemetry import outages, publish_counts
from rmq_publisher.telemetry.outcomes import tell
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.delivery import Batch
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher")

# By the state of its row: what happens to a message that was not published.
_NEXT = {
    "failed": "it is kept, and rmq_relay will send it",
    "dead": "it is kept, but is dead and needs a decision (rmq_retry or rmq_discard)",
}

Outcome = tuple[str, Envelope, PublishError | None]  # RabbitMQ alias, message, None for a confirm


def on_commit(
    using: str, envelopes: Sequence[Envelope], timeout: float, database: str, *, many: bool
) -> None:
    """Send messages after the transaction on ``database`` commits; at once if none is open.

    Raises:
        TransactionManagementError: Django's own, with autocommit off outside ``atomic``.
    """
    _check_settings(using)
    hook = CommitHook(_send_committed, database, using, envelopes, timeout, many=many)
    if _commits_by_itself(database):
        # transaction.on_commit() would connect to the database first.
        hook()
    else:
        register(hook)


def store(
    using: str,
    envelopes: Sequence[Envelope],
    ordering_keys: Sequence[str],
    timeout: float,
    database: str,
) -> None:
    """Store messages in the transaction on ``database``; they are sent after it commits.

    Raises:
        TransactionManagementError: as in `on_commit`.
        DatabaseError: Django's own, from the insert.
    """
    _check_settings(using)
    hook = CommitHook(_send_committed, database, using, (), timeout)

    def insert() -> Sequence[OutboxRow]:
        try:
            return transitions.insert(
                database, using, envelopes, ordering_keys=ordering_keys, timeout=timeout
            )
        except DatabaseError as error:
            if is_table_missing(error):
                error.add_note(support.how_to_migrate(database))
            raise

    if not _commits_by_itself(database):
        register(hook)  # first: if this raises, no row may have been written
        hook.rows = insert()
        return
    if len(envelopes) == 1:
        hook.rows = insert()
    else:
        with transaction.atomic(using=database):
            hook.rows = insert()
    hook()


def _check_settings(using: str) -> None:
    """Let bad settings raise now, not after the commit; what else is wrong then is kept."""
    with suppress(BrokerUnavailable):
        connections[using]


def _commits_by_itself(database: str) -> bool:
    connection = databases[database]
    return not connection.in_atomic_block and _is_autocommitting(connection)


def _is_autocommitting(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return bool(connection.settings_dict["AUTOCOMMIT"])
    return connection.autocommit


def _send_committed(commit: Commit, hooks: Sequence[CommitHook]) -> None:
    for hook in hooks:
        connections.check_allowed(hook.using)
    if rows := [row for hook in hooks for row in hook.rows]:
        after_commit.send_committed(hooks[0].database, rows)
    if waited_for := [hook for hook in hooks if hook.envelopes]:
        _send_and_wait(commit, waited_for)
    publish_counts.flush(hooks[0].database)


def _send_and_wait(commit: Commit, hooks: Sequence[CommitHook]) -> None:
    timeout = max(hook.timeout for hook in hooks)
    deadline = monotonic() + commit.seconds_left(timeout)
    by_alias: dict[str, list[Envelope]] = {}
    for hook in hooks:
        by_alias.setdefault(hook.using, []).extend(hook.envelopes)
    sendings = [_Sending(using, envelopes) for using, envelopes in by_alias.items()]
    extend = any(hook.many for hook in hooks)
    for sending in sendings:
        deadline = sending.wait(timeout, deadline, extend=extend)
        commit.left = max(0.0, deadline - monotonic())
    _announce(hooks[0].database, [one for sending in sendings for one in sending.outcomes()])
    for sending in sendings:
        if sending.interrupt is not None:
            raise sending.interrupt


class _Sending:
    """The messages of one commit that go over one RabbitMQ alias.

    Attributes:
        interrupt: what a signal's handler raised (Ctrl-C, a time limit). It goes on once the messages,
            which are committed, are stored.
    """

    def __init__(self, using: str, envelopes: Sequence[Envelope]) -> None:
        self.interrupt: BaseException | None = None
        self._using = using
        self._envelopes = envelopes
        self._batch: Batch | None = None
        self._trouble = ""
        try:
            self._batch = Batch(using, envelopes)
            self._batch.submit()
        except Exception as error:  # noqa: BLE001 (the view must never see it)
            ours = isinstance(error, ImproperlyConfigured | PublishError)
            self._trouble = str(error) if ours else type(error).__name__
        except BaseException as error:  # noqa: BLE001 (raised again later)
            self._interrupted(error)

    def _interrupted(self, error: BaseException) -> None:
        self.interrupt = error
        self._trouble = "the call was interrupted"

    def wait(self, timeout: float, deadline: float, *, extend: bool) -> float:
        """Wait for the outcomes, and return the deadline, as `Batch.wait` does."""
        if self._batch is None:
            return deadline
        try:
            return self._batch.wait(
                timeout, monotonic() if self._trouble else deadline, extend=extend
            )
        except BaseException as error:  # noqa: BLE001 (raised again later)
            self._interrupted(error)
            return monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        """Yield each message with its outcome, in order."""
        errors: Sequence[PublishError | None] = (
            self._batch.outcomes()
            if self._batch is not None
            else [
                BrokerUnavailable(f"not sent: {self._trouble}", **envelope.names)
                for envelope in self._envelopes
            ]
        )
        for envelope, error in zip(self._envelopes, errors, strict=True):
            yield self._using, envelope, error


def _announce(database: str, outcomes: Sequence[Outcome]) -> None:
    """Store what failed, then tell every outcome."""
    failures = [(using, envelope, error) for using, envelope, error in outcomes if error]
    states = record_failures(database, failures) if failures else []
    for failure, state in zip(failures, states, strict=True):
        if state != LOST:  # which has a line already
            _log_kept(failure, state)
    will_retry = iter(state == "failed" for state in states)
    for using, envelope, error in outcomes:
        tell(using, envelope, error, will_retry=error is not None and next(will_retry))


def _log_kept(failure: Failure, state: str) -> None:
    using, envelope, error = failure
    line = (
        f"message {envelope.message_id} was committed but not published (connection {using!r}, "
        f"exchange {envelope.exchange!r}, routing key {envelope.routing_key!r}, "
        f"{len(envelope.body)} bytes): {type(error).__name__}: {error.reason}; {_NEXT[state]}"
    )
    if isinstance(error, BrokerUnavailable):
        outages.messages_kept(using, error.reason, logging.ERROR, line)
    else:
        logger.error("%s", line)
