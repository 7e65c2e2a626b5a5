"""What happens after commit: the hooks of one transaction leave as one batch."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections as databases
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox import after_commit, transitions
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.telemetry.outcomes import tell
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.delivery import Batch
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher")

Failure = tuple[str, Envelope, PublishError]  # RabbitMQ alias, message, outcome


class Commit:
    """What the hooks of one transaction share: Django's list of them, and one deadline.

    Django pops each hook off the very list that was ``connection.run_on_commit`` before it calls it,
    and a savepoint's rollback puts a new list in its place. So a hook that is called and no longer on
    the list that it kept may send all that stands behind it there, as one batch. One that is still on
    it (a stale list, or ``captureOnCommitCallbacks``) sends only its own: the others may have been
    rolled back. Nothing is ever inserted into the list.
    """

    def __init__(self, hooks: list[Any]) -> None:
        self.hooks = hooks
        # Seconds that its hooks may still wait together. Other apps' hooks, which run in between,
        # may take their time.
        self.left: float | None = None


class Savepoints(set[str]):
    """The savepoints whose rollback drops a hook: those that Django noted, and those made by hand.

    Django notes only the savepoints of ``atomic``; a hook registered after ``savepoint_create()`` would
    outlive its rollback. Django numbers them all, so that one made before the hook has a number not
    above the last one then, and one made afterwards a higher one, until ``clean_savepoints()``.
    """

    def __init__(self, noted: Iterable[str], connection: BaseDatabaseWrapper) -> None:
        super().__init__(noted)
        self._connection = connection
        self._last = connection.savepoint_state

    def __contains__(self, sid: object) -> bool:
        if super().__contains__(sid) or self._connection.savepoint_state < self._last:
            return super().__contains__(sid)
        number = str(sid).rpartition("_x")[2]
        return number.isdigit() and int(number) <= self._last


class CommitHook:
    """What is to be sent after one call's transaction has committed.

    Args:
        database: alias of the database whose transaction it is.
        using: RabbitMQ alias.
        envelopes: messages whose outcome the caller's request waits for.
        timeout: seconds.
        many: whether each outcome moves the deadline.
    """

    def __init__(
        self,
        database: str,
        using: str,
        envelopes: Sequence[Envelope],
        timeout: float,
        *,
        many: bool = False,
    ) -> None:
        self.__qualname__ = "rmq_publisher.publish"  # Django names robust hooks by it
        self.database = database
        self.using = using
        self.envelopes = envelopes
        self.timeout = timeout
        self.many = many
        self.rows: Sequence[
            OutboxRow
        ] = ()  # messages that are rows; nobody waits for their outcome
        self.sent = False
        self.commit = Commit([])
        self.position = 0

    def join(self, commit: Commit, position: int) -> None:
        """Share a deadline and a list; it stands there at ``position``."""
        self.commit, self.position = commit, position

    def __call__(self) -> None:
        """Send what is to be sent, and what stands behind it; never raises a `PublishError`."""
        if self.sent:
            return
        hooks = self.commit.hooks
        listed = self.position < len(hooks) and hooks[self.position][1] is self
        behind = () if listed else tuple(hook for _, hook, *_ in hooks)
        ready = [
            self,
            *(hook for hook in behind if isinstance(hook, CommitHook) and not hook.sent),
        ]
        for hook in ready:
            hook.sent = True
        _send_committed(self.commit, ready)


def on_commit(
    using: str, envelopes: Sequence[Envelope], timeout: float, database: str, *, many: bool
) -> None:
    """Send messages once the transaction on ``database`` has committed; at once where none is open.

    Raises:
        TransactionManagementError: Django's own, with autocommit off outside ``atomic``.
    """
    connections[using]  # what it cannot work with is told at the call
    hook = CommitHook(database, using, envelopes, timeout, many=many)
    if _commits_by_itself(database):
        # Not by Django's on_commit, which would connect to the database to learn the same.
        hook()
    else:
        _register(hook)


def store(
    using: str,
    envelopes: Sequence[Envelope],
    ordering_keys: Sequence[str],
    timeout: float,
    database: str,
) -> None:
    """Write messages in the transaction on ``database``; they are sent once it has committed.

    Raises:
        TransactionManagementError: as in `on_commit`.
        DatabaseError: Django's, of the insertion.
    """
    connections[using]  # as above
    hook = CommitHook(database, using, (), timeout)

    def insert() -> Sequence[OutboxRow]:
        return transitions.insert(
            database, using, envelopes, ordering_keys=ordering_keys, timeout=timeout
        )

    if not _commits_by_itself(database):
        _register(hook)  # first: where this is refused, no row must have been written
        hook.rows = insert()
        return
    if len(envelopes) == 1:
        hook.rows = insert()
    else:
        with transaction.atomic(using=database):
            hook.rows = insert()
    hook()


def _register(hook: CommitHook) -> None:
    connection = databases[hook.database]
    hooks: list[Any] = connection.run_on_commit
    hook.join(_current_commit(hooks), len(hooks))
    # robust: should a hook of ours raise all the same, those of others must still run.
    transaction.on_commit(hook, using=hook.database, robust=True)
    if hooks and hooks[-1][1] is hook:
        noted, *rest = hooks[-1]
        hooks[-1] = (Savepoints(noted, connection), *rest)


def _commits_by_itself(database: str) -> bool:
    connection = databases[database]
    return not connection.in_atomic_block and _is_autocommitting(connection)


def _is_autocommitting(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return bool(connection.settings_dict["AUTOCOMMIT"])
    return connection.autocommit


def _current_commit(hooks: list[Any]) -> Commit:
    """Return what the hooks on this list share, and point all of them to it."""
    last = next((hook for _, hook, *_ in reversed(hooks) if isinstance(hook, CommitHook)), None)
    if last is not None and last.commit.hooks is hooks and last.commit.left is None:
        return last.commit
    commit = Commit(hooks)
    for position, (_, hook, *_) in enumerate(hooks):
        if isinstance(hook, CommitHook):
            hook.join(commit, position)
    return commit


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
    """Store what failed; return whether each will be sent again."""
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
