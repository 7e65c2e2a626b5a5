"""Finding rows by their ordering keys: all the SQL that steps from key to key. It takes none of them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connections as databases

from rmq_publisher.db.schema import TABLE
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.outbox.sql_dialect import Dialect, by_id

KEYS_AT_ONCE = 500  # keys that one claim looks at
ROWS_A_KEY = 4  # and about how many rows of each key it takes, where there are many keys
ROWS_A_STEP = 32  # that one statement of a database without the one scan reads
KEYS_IN_A_UNION = 50

# As in the condition of the model's index, word for word: else a partial one is not found.
_KEYED = "state IN ('pending', 'failed', 'dead') AND NOT (ordering_key = '')"


class Head(NamedTuple):
    """The first row of a key that is open or dead."""

    key: str
    id: int


def due_heads(
    dialect: Dialect, aliases: Sequence[str], most: int, after_key: str
) -> tuple[list[Head], str]:
    """Look at the first row of each key, in the keys' order.

    Returns:
        Those that are due, and the last key that was looked at; "" where there is none behind it.
    """
    heads: list[Head] = []
    looked, steps = 0, 2 * most  # mostly enough; who finds others' rows there looks further
    while looked < KEYS_AT_ONCE:
        steps = min(steps, KEYS_AT_ONCE - looked)
        found = _scan(dialect, aliases, steps, after_key)
        for id_, key, is_due in found:
            if is_due:
                heads.append(Head(key, id_))
                if len(heads) == most:
                    return heads, key
        if len(found) < steps:
            return heads, ""
        after_key = found[-1][1]
        looked, steps = looked + steps, 4 * steps
    return heads, after_key


def _scan(dialect: Dialect, aliases: Sequence[str], steps: int, after_key: str) -> list[Any]:
    """Step from key to key by the index: return each one's first row, its key, and whether it is due.

    A loose index scan: its cost is that of the keys looked at, however many rows each has. It asks for
    the first row of the next key, and never for the first row of one key: that could be had by the
    primary key as well, and a planner without fresh statistics takes it, past all other rows.
    """
    if dialect.connection.vendor == "mysql":
        return _scan_in_steps(dialect, aliases, steps, after_key)
    first = f"SELECT id FROM {TABLE} WHERE {_KEYED} AND ordering_key >"  # noqa: S608 (constants)
    in_order = "ORDER BY ordering_key, id LIMIT 1"
    condition, params = dialect.due(aliases)
    # Without ORDER BY, for the sake of `Dialect.in_index_order`: the rows come as they are found.
    sql = f"""
        WITH RECURSIVE scan (place, head) AS (
            SELECT 1, ({first} %s {in_order})
            UNION ALL
            SELECT place + 1, ({first} current_one.ordering_key {in_order})
            FROM scan JOIN {TABLE} AS current_one ON current_one.id = scan.head
            WHERE place < {steps:d}
        )
        SELECT place, scan.head, ordering_key, CASE WHEN {condition} THEN 1 ELSE 0 END
        FROM scan JOIN {TABLE} ON {TABLE}.id = scan.head
    """  # noqa: S608 (constants)
    return [found for _, *found in sorted(dialect.run(sql, [after_key, *params]))]


def _scan_in_steps(
    dialect: Dialect, aliases: Sequence[str], steps: int, after_key: str
) -> list[Any]:
    """Do the same where a recursive step would read the index from its beginning, as MariaDB's does.

    Each step reads a few rows and makes heads of them, and the next one goes past the last key: many
    rows at once where keys have few, and few where they have many. What is one key is for the
    column's collation to say.
    """
    condition, params = dialect.due(aliases)
    found: list[Any] = []
    rows = ROWS_A_STEP
    while len(found) < steps:
        rows = min(rows, ROWS_A_STEP, steps - len(found))
        some = dialect.run(
            f"""
            SELECT id, ordering_key, CASE WHEN {condition} THEN 1 ELSE 0 END FROM (
                SELECT MIN(id) AS head FROM (
                    SELECT id, ordering_key FROM {TABLE}{dialect.by_key}
                    WHERE {_KEYED} AND ordering_key > %s ORDER BY ordering_key, id LIMIT {rows:d}
                ) AS step GROUP BY ordering_key
            ) AS heads JOIN {TABLE} ON id = head ORDER BY ordering_key
            """,  # noqa: S608 (constants)
            [*params, after_key],
        )
        if not some:
            break
        found += some
        after_key, rows = some[-1][1], 2 * len(some)
    return found


def lock(dialect: Dialect, heads: Sequence[Head], aliases: Sequence[str]) -> list[Head]:
    """Return those of the heads that are still due and that nobody else is taking."""
    condition, params = dialect.due(aliases)
    ids = [head.id for head in heads]
    locked = dialect.run(
        f"SELECT id FROM {TABLE} WHERE {by_id(ids, condition)}{dialect.lock}",  # noqa: S608 (constants)
        [*ids, *params],
    )
    ours = {id_ for (id_,) in locked}
    return [head for head in heads if head.id in ours]


def runs(
    dialect: Dialect, heads: Sequence[Head], aliases: Sequence[str], limit: int
) -> list[tuple[int, int]]:
    """Return ids and sizes of what follows these heads, as far as it is due.

    The first rows of all keys, then the second ones, and so on: a key with few rows never waits for one
    with many. There may be more than ``limit``.
    """
    if not heads:
        return []
    longest = min(limit, max(ROWS_A_KEY, ROWS_A_KEY * limit // len(heads)))
    condition, params = dialect.due(aliases)
    columns = f"id, size, {dialect.using}, CASE WHEN {condition} THEN 1 ELSE 0 END AS due"
    found = _first_rows(dialect, [head.key for head in heads], longest, columns, params)
    by_rank: list[tuple[int, int, int]] = []
    for rows in found:
        using = rows[0][2] if rows else ""
        for rank, (id_, size, row_using, is_due) in enumerate(rows):
            if not is_due or row_using != using:
                break
            by_rank.append((rank, id_, size))
    return [(id_, size) for _, id_, size in sorted(by_rank)]


def _first_rows(
    dialect: Dialect, keys: Sequence[str], most: int, columns: str, params: Sequence[Any] = ()
) -> list[list[Any]]:
    """Return so many of the first rows of each key, in their order: these columns, the id first."""
    found: list[list[Any]] = [[] for _ in keys]
    at_once = KEYS_AT_ONCE if dialect.connection.vendor == "postgresql" else KEYS_IN_A_UNION
    places = list(enumerate(keys))
    for start in range(0, len(keys), at_once):
        some = places[start : start + at_once]
        for place, *row in sorted(_rows_of(dialect, some, most, columns, params)):
            found[place].append(row)
    return found


def _rows_of(
    dialect: Dialect,
    keys: Sequence[tuple[int, str]],
    most: int,
    columns: str,
    params: Sequence[Any],
) -> list[Any]:
    # Not "ordering_key = ...": see `_scan`.
    first = f"FROM {TABLE}{dialect.by_key} WHERE {_KEYED} AND ordering_key >= %s AND ordering_key <= %s"
    order = f"ORDER BY ordering_key, id LIMIT {most:d}"
    if dialect.connection.vendor == "postgresql":
        # Planned once, and not for each key: half of a claim's time.
        first = first.replace("%s", "asked.key")
        given = ", ".join(["(%s, %s)"] * len(keys))
        sql = f"""
            SELECT asked.place, run.* FROM (VALUES {given}) AS asked (place, key)
            CROSS JOIN LATERAL (SELECT {columns} {first} {order}) AS run
        """  # noqa: S608 (constants)
        return dialect.run(sql, [*(value for pair in keys for value in pair), *params])
    one = f"SELECT * FROM (SELECT {{place:d}} AS place, {columns} {first} {order}) AS run"  # noqa: S608
    sql = " UNION ALL ".join(one.format(place=place) for place, _ in keys)
    return dialect.run(sql, [value for _, key in keys for value in (*params, key, key)])


def first_of(database: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return id, message id and state of each key's first row, which the others of the key wait for.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    dialect = Dialect(databases[database])
    with dialect.in_index_order():
        found = _first_rows(dialect, keys, 1, "id, message_id, state")
    return {key: rows[0] for key, rows in zip(keys, found, strict=True) if rows}


def waiting_keys(
    database: str, rows: Sequence[OutboxRow], besides: Collection[int] = ()
) -> set[int]:
    """Return the ids of those keyed rows that must wait: something of their key is before them.

    Args:
        database: Django alias.
        rows: that somebody who holds them is about to send; one may come before another.
        besides: ids of rows that do not count: the holder sends them before these.
    """
    keyed = {row.id: row.ordering_key for row in rows if row.ordering_key}
    return with_earlier(Dialect(databases[database]), keyed, {*keyed, *besides})


def with_earlier(
    dialect: Dialect, keyed: Mapping[int, str], besides: Collection[int] = ()
) -> set[int]:
    """Return the ids of those rows that have another row of their key before them.

    Args:
        dialect: of the connection.
        keyed: ids of rows, with their keys.
        besides: ids of rows that do not count.
    """
    firsts: dict[str, int] = {}
    asked, most = list(dict.fromkeys(keyed.values())), ROWS_A_KEY
    with dialect.in_index_order():
        while asked:
            unknown: list[str] = []
            found = _first_rows(dialect, asked, most, "id")
            for key, rows in zip(asked, found, strict=True):
                others = (id_ for (id_,) in rows if id_ not in besides)
                if (first := next(others, None)) is not None:
                    firsts[key] = first
                elif len(rows) == most:
                    unknown.append(key)  # none so far
            asked, most = unknown, 8 * most
    return {id_ for id_, key in keyed.items() if id_ > firsts.get(key, id_)}
