"""Claims rows in order to send them: all the SQL that decides which process may send a row.

A claim gives a row a new token and moves ``available_at`` to the end of the lease, by the database's
clock. Rows that another process has locked or claimed are skipped. No transaction lasts longer than a
claim. The statements are written by hand because a relay's rate depends on them, and on their using the
partial indexes: their conditions repeat those of the indexes word for word.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections as databases
from django.db import transaction

from rmq_publisher.conf import loader
from rmq_publisher.db.batches import IDS_AT_ONCE, batches
from rmq_publisher.db.clock import after
from rmq_publisher.db.schema import COLUMNS, TABLE
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.outbox import ordering_keys, transitions
from rmq_publisher.outbox.row import OutboxRow, from_row, new_token, without_content
from rmq_publisher.outbox.sql_dialect import Dialect, by_id, places
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher")


# ---- rows without a key --------------------------------------------------------------------------


def claim(
    database: str, *, aliases: Sequence[str], limit: int, max_bytes: int, lease: float
) -> list[OutboxRow]:
    """Claim rows without an ordering key that are due, the longest due first.

    Args:
        database: Django alias.
        aliases: RabbitMQ aliases whose rows are wanted.
        limit: the largest number of rows.
        max_bytes: of all messages together; the first row is claimed whatever its size.
        lease: seconds until others may claim them.
    """
    if not aliases or limit < 1:
        return []
    dialect = Dialect(databases[database])
    if dialect.connection.vendor == "postgresql":
        return _claim_in_one(dialect, aliases, limit, max_bytes, lease)
    condition, params = dialect.due(aliases)
    due = f"FROM {TABLE} WHERE {condition} AND ordering_key = ''"
    if not dialect.run(f"SELECT 1 {due} LIMIT 1", params):
        return []
    with transaction.atomic(using=database):
        order = f"ORDER BY available_at, id LIMIT {limit:d}{dialect.lock}"
        found = dialect.run(f"SELECT id, size {due} {order}", params)
        return _take(dialect, _within(found, limit, max_bytes), aliases, lease)


def _claim_in_one(
    dialect: Dialect, aliases: Sequence[str], limit: int, max_bytes: int, lease: float
) -> list[OutboxRow]:
    condition, params = dialect.due(aliases)
    until = after(dialect.connection, lease)
    token, began = new_token(), monotonic()
    # MATERIALIZED: the planner may otherwise run the subquery more than once, and exceed its LIMIT.
    # Sizes are summed in the order of the subquery: an ORDER BY here would add a sort.
    sql = f"""
        WITH due AS MATERIALIZED (
            SELECT id, size, available_at FROM {TABLE}
            WHERE {condition} AND ordering_key = ''
            ORDER BY available_at, id LIMIT {limit:d} FOR UPDATE SKIP LOCKED
        ), summed AS (
            SELECT id, size, SUM(size) OVER (ROWS UNBOUNDED PRECEDING) AS together FROM due
        )
        UPDATE {TABLE} AS mine SET token = %s, available_at = {until}
        FROM summed WHERE mine.id = summed.id AND (together <= %s OR together = summed.size)
        RETURNING {", ".join(f'mine."{name}"' for name in COLUMNS)}
    """  # noqa: S608 (constants)
    with dialect.in_index_order():
        rows = dialect.run(sql, [*params, token, max_bytes])
        return _stored(dialect, rows, token, began + lease)


def _within(found: Iterable[Sequence[Any]], limit: int, max_bytes: int) -> list[int]:
    """Return the ids of the first of these (id, size) within the bounds, and at least one."""
    ids: list[int] = []
    together = 0
    for id_, size in found:
        together += size
        if ids and (together > max_bytes or len(ids) >= limit):
            break
        ids.append(id_)
    return ids


def _take(
    dialect: Dialect, ids: Sequence[int], aliases: Sequence[str], lease: float
) -> list[OutboxRow]:
    """Claim those of these rows that are still due; in a transaction."""
    condition, params = dialect.due(aliases)
    return _take_where(dialect, ids, condition, params, lease)


def _take_where(
    dialect: Dialect, ids: Sequence[int], condition: str, params: Sequence[Any], lease: float
) -> list[OutboxRow]:
    until = after(dialect.connection, lease)
    token, began = new_token(), monotonic()
    taken: list[Any] = []
    for some in batches(ids, IDS_AT_ONCE):
        update = (
            f"UPDATE {TABLE} SET token = %s, available_at = {until} "  # noqa: S608 (constants)
            f"WHERE {by_id(some, condition)}"
        )
        values = [token, *some, *params]
        if dialect.connection.vendor == "postgresql":
            taken += dialect.run(f"{update} RETURNING {dialect.columns}", values)
            continue
        dialect.run(update, values)
        taken += dialect.run(
            f"SELECT {dialect.columns} FROM {TABLE} "  # noqa: S608 (constants)
            f"WHERE id IN ({places(some)}) AND token = %s",
            [*some, token],
        )
    return _stored(dialect, taken, token, began + lease)


def _stored(
    dialect: Dialect, rows: Iterable[Sequence[Any]], token: int, ends: float
) -> list[OutboxRow]:
    """Make messages of rows, in the order of their ids; ``ends`` is when the lease ends.

    A row that cannot be read becomes dead; otherwise every relay would fail at it. As with any dead
    row, later rows with the same ordering key have to wait for it.
    """
    timeouts = {one.alias: one.publish_timeout for one in loader.usable()}
    using = COLUMNS.index("using")
    stored: list[OutboxRow] = []
    held: dict[str, list[OutboxRow]] = {}
    for values in sorted(rows, key=lambda values: values[0]):
        own_until = ends - timeouts.get(values[using], 0.0)
        try:
            row = from_row(values, token=token, own_until=own_until)
        except InvalidMessage as error:
            row = without_content(values, token=token)
            _bury(dialect.connection.alias, row, error)
            if row.ordering_key:
                held.setdefault(row.ordering_key, [])
        else:
            held.get(row.ordering_key, stored).append(row)
    for behind in held.values():
        transitions.release(dialect.connection.alias, behind)
    return stored


def _bury(database: str, row: OutboxRow, error: InvalidMessage) -> None:
    transitions.complete_failed(database, [(row, error)])
    logger.error(
        "database %r: stored message %s is dead and needs a decision: %s: %s",
        database,
        row.envelope.message_id,
        type(error).__name__,
        error.reason,
    )


# ---- rows with a key -----------------------------------------------------------------------------


def claim_keys(
    database: str,
    *,
    aliases: Sequence[str],
    limit: int,
    max_bytes: int,
    lease: float,
    after_key: str = "",
) -> tuple[list[OutboxRow], str]:
    """Claim the first row of each ordering key and the rows after it, as far as they are due.

    A key is skipped if its first row is dead, waits for its backoff or is claimed. Every claim of a
    key includes its first row, so no two processes ever hold rows of the same key. (Rows of
    overlapping transactions have no order: one that is committed late may be sent in parallel.)

    Args:
        database: Django alias.
        aliases: RabbitMQ aliases whose rows are wanted. A key may name several; its order holds
            over all of them.
        limit: the largest number of rows.
        max_bytes: of all messages together; the first row is claimed whatever its size.
        lease: seconds until others may claim them.
        after_key: the key to continue after, because one search covers a limited number of keys.

    Returns:
        The rows, in order within each key, and the key to continue after, "" after the last key.
    """
    if not aliases or limit < 1:
        return [], ""
    dialect = Dialect(databases[database])
    most = max(1, limit // ordering_keys.ROWS_A_KEY)
    with dialect.in_index_order():
        heads, last = ordering_keys.due_heads(dialect, aliases, most, after_key)
        if not heads:
            return [], last
        with transaction.atomic(using=database, savepoint=False):
            locked = ordering_keys.lock(dialect, heads, aliases)
            ids = _within(ordering_keys.runs(dialect, locked, aliases, limit), limit, max_bytes)
            return _take(dialect, ids, aliases, lease), last


# ---- rows that were chosen by id ---------------------------------------------------------------------


def claim_rows(
    database: str,
    ids: Sequence[int],
    *,
    lease: float,
    states: Sequence[str] = ("failed", "dead"),
) -> list[OutboxRow]:
    """Claim those of these rows that nobody is sending, whether or not they are due.

    A row with an ordering key is claimed only if no earlier row of its key is left.

    Args:
        database: Django alias.
        ids: of the rows.
        states: that they may have.
        lease: seconds until others may claim them.
    """
    dialect = Dialect(databases[database])
    aliases = [one.alias for one in loader.usable()]
    free = f"(token = 0 OR available_at IS NULL OR available_at <= {dialect.now})"
    if not ids or not aliases:
        return []
    condition = (
        f"state IN ({places(states)}) AND {free} AND {dialect.using} IN ({places(aliases)})"
    )
    params = [*states, *aliases]
    taken: list[int] = []
    with transaction.atomic(using=database):
        for some in batches(ids, IDS_AT_ONCE):
            found = dialect.run(
                f"SELECT id, ordering_key FROM {TABLE} "  # noqa: S608 (constants)
                f"WHERE {by_id(some, condition)}{dialect.lock}",
                [*some, *params],
            )
            keyed = {id_: key for id_, key in found if key}
            waiting = ordering_keys.with_earlier(dialect, keyed)
            taken += [id_ for id_, _ in found if id_ not in waiting]
        return _take_where(dialect, taken, condition, params, lease)


def being_sent(row: Any) -> bool:
    """Whether the row is claimed and its lease has not ended; the row has the database's ``now``."""
    return bool(row.token and row.available_at and row.available_at > row.now)
