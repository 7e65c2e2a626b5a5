"""What happens after commit: the hooks of one transaction leave as one batch."""

import logging
from collections.abc import Sequence
from typing import Any

from django.db import connections as databases
from django.db import transaction

from rmq_publisher.exceptions import PublishError
from rmq_publisher.message import Envelope
from rmq_publisher.sending import Batch, tell
from rmq_publisher.transport.base import monotonic

logger = logging.getLogger("rmq_publisher")


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
        self.deadline: float | None = None


class CommitHook:
    """What is to be sent after one call's transaction has committed."""

    def __init__(
        self, using: str, envelopes: Sequence[Envelope], timeout: float, *, many: bool
    ) -> None:
        self.__qualname__ = "rmq_publisher.publish"  # Django names robust hooks by it
        self.using = using
        self.envelopes = envelopes
        self.timeout = timeout
        self.many = many
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
    hook = CommitHook(using, envelopes, timeout, many=many)
    hooks = databases[database].run_on_commit
    hook.join(_current_commit(hooks), len(hooks))
    # robust: should a hook of ours raise all the same, those of others must still run.
    transaction.on_commit(hook, using=database, robust=True)


def _current_commit(hooks: list[Any]) -> Commit:
    """Return what the hooks on this list share, and point all of them to it."""
    last = next((hook for _, hook, *_ in reversed(hooks) if isinstance(hook, CommitHook)), None)
    if last is not None and last.commit.hooks is hooks and last.commit.deadline is None:
        return last.commit
    commit = Commit(hooks)
    for position, (_, hook, *_) in enumerate(hooks):
        if isinstance(hook, CommitHook):
            hook.join(commit, position)
    return commit


def _send_committed(commit: Commit, hooks: Sequence[CommitHook]) -> None:
    timeout = max(hook.timeout for hook in hooks)
    if commit.deadline is None:
        commit.deadline = monotonic() + timeout
    by_alias: dict[str, list[Envelope]] = {}
    for hook in hooks:
        by_alias.setdefault(hook.using, []).extend(hook.envelopes)
    batches = {using: Batch(using, envelopes) for using, envelopes in by_alias.items()}
    for batch in batches.values():
        batch.submit()
    extend = any(hook.many for hook in hooks)
    for using, batch in batches.items():
        commit.deadline = batch.wait(timeout, commit.deadline, extend=extend)
        for envelope, error in zip(by_alias[using], batch.outcomes(), strict=True):
            if error is not None:
                _log_failure(envelope, error)
            tell(using, envelope, error, will_retry=False)


def _log_failure(envelope: Envelope, error: PublishError) -> None:
    logger.error(
        "message %s was committed but not published (exchange %r, routing key %r, %d bytes): %s: %s",
        envelope.message_id,
        envelope.exchange,
        envelope.routing_key,
        len(envelope.body),
        type(error).__name__,
        error,
    )
