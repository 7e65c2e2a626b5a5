"""Our hooks in ``connection.run_on_commit``: which of them may send as one batch."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import connections as databases
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox.row import OutboxRow


class Commit:
    """What the hooks of one transaction share: Django's list of hooks, and one deadline.

    Django removes each hook from the list that was ``connection.run_on_commit`` before calling it, and
    a rollback to a savepoint replaces the list. A hook that is called and is no longer in the list it
    kept may therefore send everything after it in that list, as one batch. One that is still in it (an
    old list, or ``captureOnCommitCallbacks``) sends only its own messages, because the others may have
    been rolled back. Nothing is ever inserted into the list.
    """

    def __init__(self, hooks: list[Any]) -> None:
        self.hooks = hooks
        # Seconds that its hooks may still wait, all together; None before the first of them. It is not a
        # point in time, because other apps' hooks run in between.
        self.left: float | None = None
        self._longest = 0.0

    def seconds_left(self, timeout: float) -> float:
        """Return how long a hook with this timeout may wait: what is left of the longest one so far."""
        left = 0.0 if self.left is None else self.left
        self.left = left + max(0.0, timeout - self._longest)
        self._longest = max(timeout, self._longest)
        return self.left


class Savepoints(set[str]):
    """The savepoints whose rollback drops a hook: those of ``atomic``, and those created by hand.

    Django records only the savepoints of ``atomic``, so a hook registered after ``savepoint_create()``
    would survive its rollback. Django numbers all savepoints: until ``clean_savepoints()``, those created
    before the hook have numbers up to the last one then, and later ones have higher numbers.
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
    """The messages of one call, to be sent after its transaction has committed.

    Args:
        send: sends the messages of these hooks of one transaction; raises no `PublishError`.
        database: alias of the database whose transaction it is.
        using: RabbitMQ alias.
        envelopes: messages whose outcome the caller's request waits for.
        timeout: seconds.
        many: whether each outcome extends the deadline.
    """

    def __init__(
        self,
        send: "Callable[[Commit, Sequence[CommitHook]], None]",
        database: str,
        using: str,
        envelopes: Sequence[Envelope],
        timeout: float,
        *,
        many: bool = False,
    ) -> None:
        self.__qualname__ = "rmq_publisher.publish"  # Django names robust hooks by it
        self._send = send
        self.database = database
        self.using = using
        self.envelopes = envelopes
        self.timeout = timeout
        self.many = many
        self.rows: Sequence[OutboxRow] = ()  # sent in the background
        self.sent = False
        self.commit = Commit([])
        self.position = 0

    def join(self, commit: Commit, position: int) -> None:
        """Share a deadline and a list, in which it is at ``position``."""
        self.commit, self.position = commit, position

    def __call__(self) -> None:
        """Send its messages and those of the hooks after it; never raises a `PublishError`."""
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
        self._send(self.commit, ready)


def register(hook: CommitHook) -> None:
    """Have Django call a hook after the commit of its database's transaction.

    Raises:
        TransactionManagementError: Django's own, with autocommit off outside ``atomic``.
    """
    connection = databases[hook.database]
    hooks: list[Any] = connection.run_on_commit
    hook.join(_current_commit(hooks), len(hooks))
    # Robust, so that other apps' hooks run even if ours should raise.
    transaction.on_commit(hook, using=hook.database, robust=True)
    if hooks and hooks[-1][1] is hook:
        noted, *rest = hooks[-1]
        hooks[-1] = (Savepoints(noted, connection), *rest)


def _current_commit(hooks: list[Any]) -> Commit:
    """Return what the hooks in this list share, and make all of them share it."""
    last = next((hook for _, hook, *_ in reversed(hooks) if isinstance(hook, CommitHook)), None)
    if last is not None and last.commit.hooks is hooks and last.commit.left is None:
        return last.commit
    commit = Commit(hooks)
    for position, (_, hook, *_) in enumerate(hooks):
        if isinstance(hook, CommitHook):
            hook.join(commit, position)
    return commit
