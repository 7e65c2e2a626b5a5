"""What a person sends: this process claims, sends and completes it, one row of a key after the other."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from rmq_publisher.conf import loader
from rmq_publisher.db.batches import batches_by_size
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.errors import retried
from rmq_publisher.exceptions import PublishError
from rmq_publisher.outbox import transitions
from rmq_publisher.outbox.claims import being_sent, claim_rows
from rmq_publisher.outbox.row import NOT_SENT, OutboxRow, Outcome
from rmq_publisher.outbox.row_sender import POLL_SECONDS, RowSender
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.handler import connections

ROWS_AT_ONCE = 100
BYTES_AT_ONCE = 32 * 2**20  # of bodies in memory
SECONDS = 20.0  # after which no more rows are begun, since a person waits for the page


@dataclass
class Resent:
    """The outcome of each row, by its id.

    Attributes:
        sent: confirmed.
        failed: tried, and failed again.
        busy: being sent by somebody else.
        waiting: behind an earlier message of their ordering key.
        closed: no longer in a state in which it may be sent.
        unconfigured: their connection is not known to this process.
        untouched: not begun, since there was no time left.
        gone: no such row any more.
    """

    sent: list[int] = field(default_factory=list)
    failed: dict[int, PublishError] = field(default_factory=dict)
    busy: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    unconfigured: list[int] = field(default_factory=list)
    untouched: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)


def resend(
    database: str, ids: Sequence[int], *, states: Sequence[str] = ("failed", "dead")
) -> Resent:
    """Send rows at once; those that fail are left to the relay.

    Each is claimed first, so that no two ever send it: neither a relay nor the same person twice.

    Args:
        database: Django alias.
        ids: of the rows.
        states: that they may have.

    Raises:
        DatabaseError, InterfaceError: Django's. What was claimed is free again after its lease.
    """
    result = Resent()
    ends = monotonic() + SECONDS
    left: list[int] = []
    for batch in _batches(database, ids):
        left += _resend_batch(database, batch, states, result, ends)
    _explain(database, left, states, result, in_time=monotonic() < ends)
    known = {*result.sent, *result.failed, *left}
    result.gone += [id_ for id_ in ids if id_ not in known]
    return result


def _resend_batch(
    database: str, ids: Sequence[int], states: Sequence[str], result: Resent, ends: float
) -> list[int]:
    """Send those of the rows that can be claimed; return the ids of the others."""
    left = list(ids)
    while left and monotonic() < ends:
        lease = loader.outbox().outbox_lease
        claim = partial(claim_rows, database, left, lease=lease, states=states)
        claimed = retried(database, claim)
        if not claimed:
            break
        _send(database, claimed, result)
        # The rows of a key become free one after the other: those that are left once more.
        done = {row.id for row in claimed}
        left = [id_ for id_ in left if id_ not in done]
    return left


def _batches(database: str, ids: Sequence[int]) -> Iterator[list[int]]:
    """Yield those of the ids that exist, as many at a time as fit into memory."""
    rows = transitions.messages(database).filter(pk__in=ids).order_by("pk")
    most = min(ROWS_AT_ONCE, loader.outbox().outbox_batch_size)
    return batches_by_size(rows.values_list("pk", "size"), most, BYTES_AT_ONCE)


def _send(database: str, rows: Sequence[OutboxRow], result: Resent) -> None:
    moved = threading.Event()
    sender = RowSender(database, connections.__getitem__, moved.set)
    try:
        sender.add(rows)
        while sender.unfinished:
            moved.wait(POLL_SECONDS)
            moved.clear()
            _note(sender.collect(), result)
    finally:
        # If this call is interrupted, none of its rows may be sent later.
        _note(sender.give_up(), result)
        retried(database, sender.complete)


def _note(outcomes: Iterable[Outcome], result: Resent) -> None:
    for row, outcome in outcomes:
        if outcome is None:
            result.sent.append(row.id)
        elif outcome is NOT_SENT:
            result.untouched.append(row.id)
        else:
            result.failed[row.id] = outcome


def _explain(
    database: str, ids: Sequence[int], states: Sequence[str], result: Resent, *, in_time: bool
) -> None:
    """Say why rows were not claimed."""
    aliases = {one.alias for one in loader.usable()}
    rows = transitions.messages(database).filter(pk__in=ids).annotate(now=DatabaseNow())
    found = {
        row.pk: row for row in rows.only("state", "token", "available_at", "using", "ordering_key")
    }
    for id_ in ids:
        row = found.get(id_)
        if row is None:
            result.gone.append(id_)
        elif row.state not in states:
            result.closed.append(id_)
        elif being_sent(row):
            result.busy.append(id_)
        elif row.using not in aliases:
            result.unconfigured.append(id_)
        elif row.ordering_key and in_time:
            result.waiting.append(id_)
        else:
            result.untouched.append(id_)
