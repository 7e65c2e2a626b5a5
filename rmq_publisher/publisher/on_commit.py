"""What happens on commit: the messages of one transaction are sent as one batch."""

import logging
from collections.abc import Sequence

from django.db import connections as databases
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox import after_commit, transitions
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.publisher.commit_hook import Commit, CommitHook, register
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.telemetry.outcomes import tell
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.delivery import Batch
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher")

Failure = tuple[str, Envelope, PublishError]  # RabbitMQ alias, message, outcome


def on_commit(
    using: str, envelopes: Sequence[Envelope], timeout: float, database: str, *, many: bool
) -> None:
    """Send messages after the transaction on ``database`` commits; at once if none is open.

    Raises:
        TransactionManagementError: Django's own, with autocommit off outside ``atomic``.
    """
    connections[using]  # bad settings raise here, not after the commit
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
    connections[using]  # as in on_commit()
    hook = CommitHook(_send_committed, database, using, (), timeout)

    def insert() -> Sequence[OutboxRow]:
        return transitions.insert(
            database, using, envelopes, ordering_keys=ordering_keys, timeout=timeout
        )

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


def _commits_by_itself(database: str) -> bool:
    connection = databases[database]
    return not connection.in_atomic_block and _is_autocommitting(connection)


def _is_autocommitting(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return bool(connection.settings_dict["AUTOCOMMIT"])
    return connection.autocommit


def _send_committed(commit: Commit, hooks: Sequence[CommitHook]) -> None:
    if rows := [row for hook in hooks for row in hook.rows]:
        after_commit.send_committed(hooks[0].database, rows)
    if waited_for := [hook for hook in hooks if hook.envelopes]:
        _send_and_wait(commit, waited_for)
    publish_counts.flush(hooks[0].database)


def _send_and_wait(commit: Commit, hooks: Sequence[CommitHook]) -> None:
    timeout = max(hook.timeout for hook in hooks)
    if commit.left is None:
        commit.left = timeout
    deadline = monotonic() + commit.left
    by_alias: dict[str, list[Envelope]] = {}
    for hook in hooks:
        by_alias.setdefault(hook.using, []).extend(hook.envelopes)
    batches = {using: Batch(using, envelopes) for using, envelopes in by_alias.items()}
    for batch in batches.values():
        batch.submit()
    extend = any(hook.many for hook in hooks)
    outcomes: list[tuple[str, Envelope, PublishError | None]] = []
    for using, batch in batches.items():
        deadline = batch.wait(timeout, deadline, extend=extend)
        commit.left = max(0.0, deadline - monotonic())
        envelopes = by_alias[using]
        for envelope, error in zip(envelopes, batch.outcomes(), strict=True):
            outcomes.append((using, envelope, error))
    failures = [(using, envelope, error) for using, envelope, error in outcomes if error]
    kept = iter(_keep(hooks[0].database, failures) if failures else ())
    for using, envelope, error in outcomes:
        tell(using, envelope, error, will_retry=error is not None and next(kept))


def _keep(database: str, failures: Sequence[Failure]) -> list[bool]:
    """Store the messages that failed; return whether each will be sent again."""
    for using, envelope, error in failures:
        logger.error(
            "message %s was committed but not published (connection %r, exchange %r, routing key %r, "
            "%d bytes): %s: %s",
            envelope.message_id,
            using,
            envelope.exchange,
            envelope.routing_key,
            len(envelope.body),
            type(error).__name__,
            error,
        )
    return transitions.record_failures(database, failures)
