"""The waiting commit hooks in the transactions of a test."""

from collections.abc import Iterator
from typing import Any

from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.publisher.commit_hook import CommitHook


class WaitingHooks:
    """The commit hooks of this thread's transactions, and of those of the thread that began."""

    def __init__(self) -> None:
        # An async test runs in another thread than its database, and may only read it from there.
        self._known = databases.all()
        self._before = {hook for _, _, hook in self._hooks()}

    def _hooks(
        self, *, own: bool = False
    ) -> Iterator[tuple[BaseDatabaseWrapper, set[Any], CommitHook]]:
        here = databases.all(initialized_only=True)
        known = here if own else (*self._known, *here)
        for database in {id(database): database for database in known}.values():
            for sids, hook, *_ in database.run_on_commit:
                if isinstance(hook, CommitHook):
                    yield database, sids, hook

    def waiting(self) -> list[CommitHook]:
        """Return the hooks since the beginning that were not called."""
        return [hook for _, _, hook in self._hooks() if not (hook.sent or hook in self._before)]

    def due(self, *, own: bool = False) -> list[CommitHook]:
        """Return those that only wait for the commit that a TestCase never makes.

        Args:
            own: only those of this thread's transactions.
        """
        waiting = set(self.waiting())
        return [
            hook
            for database, sids, hook in self._hooks(own=own)
            if hook in waiting and _hangs_on_testcase(database, sids)
        ]

    def are_sending(self, message_id: str) -> bool:
        """Return whether a message is one that a hook of this thread sends."""
        return any(
            envelope.message_id == message_id
            for _, _, hook in self._hooks(own=True)
            if hook.sent
            for envelope in (*hook.envelopes, *(row.envelope for row in hook.rows))
        )


def _hangs_on_testcase(database: BaseDatabaseWrapper, sids: set[Any]) -> bool:
    """Return whether the only transactions around a hook are those of a TestCase."""
    blocks = database.atomic_blocks
    if not blocks or not _is_testcases(blocks[0]):
        return False
    inner = zip(blocks[1:], database.savepoint_ids, strict=True)
    open_sids = {sid for block, sid in inner if not _is_testcases(block)}
    return not open_sids & sids


def _is_testcases(block: object) -> bool:
    return bool(getattr(block, "_from_testcase", False))
