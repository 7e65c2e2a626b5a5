"""Taking rows to send them: all the SQL that decides whose a row is.

A claim gives a row a new token and moves ``available_at`` to the end of the lease, by the database's
clock. What somebody else holds, or is about to hold, is skipped and not waited for. No transaction
outlives a claim. The statements are written by hand: a relay's rate hangs on them, and on their finding
the partial indexes, whose conditions they repeat word for word.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connections as databases
from django.db import transaction

from rmq_publisher import conf
from rmq_publisher.dbtime import after
from rmq_publisher.dialect import Dialect, places
from rmq_publisher.stored import COLUMNS, TABLE, Stored, from_row, new_token
from rmq_publisher.transport.base import monotonic

AT_ONCE = 500  # ids that one statement names; SQLite and MySQL have limits
KEYS_AT_ONCE = 500  # keys that one claim looks at
ROWS_A_KEY = 4  # and about how many rows of each key it takes, where there are many keys

# As in the condition of the model's index, word for word: else a partial one is not found.
_KEYED = "state IN ('pending', 'failed', 'dead') AND NOT (ordering_key = '')"


class _Head(NamedTuple):
    """The first row of a key that is open or dead."""

    key: str
    id: int


# ---- rows without a key --------------------------------------------------------------------------


def claim(
    database: str, *, aliases: Sequence[str], limit: int, max_bytes: int, lease: float
) -> list[Stored]:
    """Take rows without an ordering key that are due, those first that have been so for longest.

    Args:
        database: Django alias.
        aliases: RabbitMQ aliases whose rows are wanted.
        limit: rows.
        max_bytes: of their messages together; the first one is taken whatever its size.
        lease: seconds until others may take them.
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
) -> list[Stored]:
    condition, params = dialect.due(aliases)
    until, until_params = after(dialect.connection, lease)
    token, began = new_token(), monotonic()
    # MATERIALIZED: the planner may otherwise run the subquery more than once, and exceed its LIMIT.
    sql = f"""
        WITH due AS MATERIALIZED (
            SELECT id, size, available_at FROM {TABLE}
            WHERE {condition} AND ordering_key = ''
            ORDER BY available_at, id LIMIT {limit:d} FOR UPDATE SKIP LOCKED
        ), summed AS (
            SELECT id, size, SUM(size) OVER (ORDER BY available_at, id) AS together FROM due
        )
        UPDATE {TABLE} AS mine SET token = %s, available_at = {until}
        FROM summed WHERE mine.id = summed.id AND (together <= %s OR together = summed.size)
        RETURNING {", ".join(f'mine."{name}"' for name in COLUMNS)}
    """  # noqa: S608 (constants)
    rows = dialect.run(sql, [*params, token, *until_params, max_bytes])
    return _stored(rows, token, began + lease)


def _within(found: Iterable[Sequence[Any]], limit: int, max_bytes: int) -> list[int]:
    """Return the ids of the first of these (id, size) that keep to the bounds; one at least."""
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
) -> list[Stored]:
    """Make these rows ours, those of them that are still due; in a transaction."""
    condition, params = dialect.due(aliases)
    return _take_where(dialect, ids, condition, params, lease)


def _take_where(
    dialect: Dialect, ids: Sequence[int], condition: str, params: Sequence[Any], lease: float
) -> list[Stored]:
    until, until_params = after(dialect.connection, lease)
    token, began = new_token(), monotonic()
    taken: list[Any] = []
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        update = (
            f"UPDATE {TABLE} SET token = %s, available_at = {until} "  # noqa: S608 (constants)
            f"WHERE id IN ({places(some)}) AND {condition}"
        )
        values = [token, *until_params, *some, *params]
        if dialect.connection.vendor == "postgresql":
            taken += dialect.run(f"{update} RETURNING {dialect.columns}", values)
            continue
        dialect.run(update, values)
        taken += dialect.run(
            f"SELECT {dialect.columns} FROM {TABLE} "  # noqa: S608 (constants)
            f"WHERE id IN ({places(some)}) AND token = %s",
            [*some, token],
        )
    return _stored(taken, token, began + lease)


def _stored(rows: Iterable[Sequence[Any]], token: int, ends: float) -> list[Stored]:
    """Make messages of rows, in the order of their ids; ``ends`` is that of the lease."""
    timeouts = {one.alias: one.publish_timeout for one in conf.usable()}
    using = COLUMNS.index("using")
    return [
        from_row(row, token=token, own_until=ends - timeouts.get(row[using], 0.0))
        for row in sorted(rows, key=lambda row: row[0])
    ]


# ---- rows with a key -----------------------------------------------------------------------------


def claim_keys(
    database: str,
    *,
    aliases: Sequence[str],
    limit: int,
    max_bytes: int,
    lease: float,
    after_key: str = "",
) -> tuple[list[Stored], str]:
    """Take runs of keys: of each key its first row and what follows it, as far as it is due.

    A key whose first row is dead, waits for its backoff or is held by somebody is passed over. Since
    whoever takes rows of a key takes the first one too, no two ever hold rows of one key. (Rows of
    transactions that overlapped have no order: one that is committed late may be sent beside others.)

    Args:
        database: Django alias.
        aliases: RabbitMQ aliases whose rows are wanted. A key may name several; its order holds
            over all of them.
        limit: rows.
        max_bytes: of their messages together; the first one is taken whatever its size.
        lease: seconds until others may take them.
        after_key: where to go on; the search is bounded.

    Returns:
        The rows, in order within each key, and where to go on: "" where the last key was reached.
    """
    if not aliases or limit < 1:
        return [], ""
    dialect = Dialect(databases[database])
    heads, last = _due_heads(dialect, aliases, max(1, limit // ROWS_A_KEY), after_key)
    if not heads:
        return [], last
    with transaction.atomic(using=database):
        locked = _lock(dialect, heads, aliases)
        ids = _runs(dialect, locked, aliases, limit, max_bytes)
        return _take(dialect, ids, aliases, lease), last


def _due_heads(
    dialect: Dialect, aliases: Sequence[str], most: int, after_key: str
) -> tuple[list[_Head], str]:
    """Step from key to key by the index, and return the heads that are due, and where it ended.

    A loose index scan: its cost is that of the keys looked at, however many rows each has. It asks for
    the first row of the next key, and never for the first row of one key: that could be had by the
    primary key as well, and a planner without fresh statistics takes it, past all other rows.
    """
    first = f"SELECT id FROM {TABLE} WHERE {_KEYED} AND ordering_key >"  # noqa: S608 (constants)
    in_order = "ORDER BY ordering_key, id LIMIT 1"
    condition, params = dialect.due(aliases)
    sql = f"""
        WITH RECURSIVE scan (place, head) AS (
            SELECT 1, ({first} %s {in_order})
            UNION ALL
            SELECT place + 1, ({first} current_one.ordering_key {in_order})
            FROM scan JOIN {TABLE} AS current_one ON current_one.id = scan.head
            WHERE place < {KEYS_AT_ONCE:d}
        )
        SELECT scan.head, ordering_key, CASE WHEN {condition} THEN 1 ELSE 0 END
        FROM scan JOIN {TABLE} ON {TABLE}.id = scan.head ORDER BY place
    """  # noqa: S608 (constants)
    heads: list[_Head] = []
    found = dialect.run(sql, [after_key, *params])
    for id_, key, is_due in found:
        if is_due:
            heads.append(_Head(key, id_))
            if len(heads) == most:
                return heads, key
    return heads, found[-1][1] if len(found) == KEYS_AT_ONCE else ""


def _lock(dialect: Dialect, heads: Sequence[_Head], aliases: Sequence[str]) -> list[_Head]:
    """Return those of the heads that are still due and that nobody else is taking."""
    condition, params = dialect.due(aliases)
    ids = [head.id for head in heads]
    locked = dialect.run(
        f"SELECT id FROM {TABLE} WHERE id IN ({places(ids)}) "  # noqa: S608 (constants)
        f"AND {condition}{dialect.lock}",
        [*ids, *params],
    )
    ours = {id_ for (id_,) in locked}
    return [head for head in heads if head.id in ours]


def _runs(
    dialect: Dialect,
    heads: Sequence[_Head],
    aliases: Sequence[str],
    limit: int,
    max_bytes: int,
) -> list[int]:
    """Return what is to be taken: the first rows of all keys, then the second ones, and so on.

    So a key with few rows never waits for one with many.
    """
    if not heads:
        return []
    longest = min(limit, max(ROWS_A_KEY, ROWS_A_KEY * limit // len(heads)))
    condition, params = dialect.due(aliases)
    # Not "ordering_key = ...": see `_due_heads`.
    one = f"""
        SELECT * FROM (
            SELECT %s AS head, id, size, CASE WHEN {condition} THEN 1 ELSE 0 END AS due
            FROM {TABLE} WHERE {_KEYED} AND ordering_key >= %s AND ordering_key <= %s
            ORDER BY ordering_key, id LIMIT {longest:d}
        ) AS run
    """  # noqa: S608 (constants)
    found: list[Any] = []
    for start in range(0, len(heads), 50):
        some = heads[start : start + 50]
        values = [value for head in some for value in (head.id, *params, head.key, head.key)]
        found += dialect.run(" UNION ALL ".join([one] * len(some)), values)
    by_rank: list[tuple[int, int, int]] = []
    rank, current, unbroken = 0, 0, True
    for head, id_, size, is_due in sorted(found):
        rank, unbroken = (rank + 1, unbroken) if head == current else (0, True)
        current, unbroken = head, unbroken and bool(is_due)
        if unbroken:
            by_rank.append((rank, id_, size))
    return _within(((id_, size) for _, id_, size in sorted(by_rank)), limit, max_bytes)


def waiting_keys(database: str, rows: Sequence[Stored], besides: Collection[int] = ()) -> set[int]:
    """Return the ids of those keyed rows that must wait: something of their key is before them.

    Args:
        database: Django alias.
        rows: that somebody who holds them is about to send; they may stand before each other.
        besides: ids of rows that do not count: the holder sends them before these.
    """
    keyed = [row.id for row in rows if row.ordering_key]
    return _with_earlier(Dialect(databases[database]), keyed, (*keyed, *besides))


def _with_earlier(dialect: Dialect, ids: Sequence[int], besides: Sequence[int] = (0,)) -> set[int]:
    """Return the ids of those rows that have another row of their key before them."""
    if not ids:
        return set()
    # Not "EXISTS (... ordering_key = ...)": see `_due_heads`.
    sql = f"""
        SELECT later.id FROM {TABLE} AS later WHERE later.id IN ({places(ids)}) AND later.id > (
            SELECT id FROM {TABLE} WHERE {_KEYED} AND ordering_key >= later.ordering_key
            AND ordering_key <= later.ordering_key AND id NOT IN ({places(besides)})
            ORDER BY ordering_key, id LIMIT 1
        )
    """  # noqa: S608 (constants)
    return {id_ for (id_,) in dialect.run(sql, [*ids, *besides])}


# ---- what a person picks -------------------------------------------------------------------------


def claim_rows(database: str, ids: Sequence[int], *, lease: float) -> list[Stored]:
    """Take those of these rows that are failed or dead and that nobody is sending.

    A row with an ordering key is taken only where nothing of its key is before it.

    Args:
        database: Django alias.
        ids: of the rows.
        lease: seconds until others may take them.
    """
    dialect = Dialect(databases[database])
    aliases = [one.alias for one in conf.usable()]
    free = f"(token = 0 OR available_at IS NULL OR available_at <= {dialect.now})"
    condition = f"state IN ('failed', 'dead') AND {free}"
    params: list[Any] = [*dialect.now_params]
    if not ids or not aliases:
        return []
    condition += f" AND {dialect.using} IN ({places(aliases)})"
    params += aliases
    taken: list[int] = []
    with transaction.atomic(using=database):
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            found = dialect.run(
                f"SELECT id, ordering_key FROM {TABLE} "  # noqa: S608 (constants)
                f"WHERE id IN ({places(some)}) AND {condition}{dialect.lock}",
                [*some, *params],
            )
            keyed = [id_ for id_, key in found if key]
            waiting = _with_earlier(dialect, keyed)
            taken += [id_ for id_, _ in found if id_ not in waiting]
        return _take_where(dialect, taken, condition, params, lease)
