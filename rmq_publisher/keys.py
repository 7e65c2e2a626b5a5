"""Finding rows by their ordering keys: all the SQL that steps from key to key. It takes none of them."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from django.db import connections as databases

from rmq_publisher.dialect import Dialect, places
from rmq_publisher.stored import TABLE, Stored

KEYS_AT_ONCE = 500  # keys that one claim looks at
ROWS_A_KEY = 4  # and about how many rows of each key it takes, where there are many keys

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
    first = f"SELECT id FROM {TABLE} WHERE {_KEYED} AND ordering_key >"  # noqa: S608 (constants)
    in_order = "ORDER BY ordering_key, id LIMIT 1"
    condition, params = dialect.due(aliases)
    sql = f"""
        WITH RECURSIVE scan (place, head) AS (
            SELECT 1, ({first} %s {in_order})
            UNION ALL
            SELECT place + 1, ({first} current_one.ordering_key {in_order})
            FROM scan JOIN {TABLE} AS current_one ON current_one.id = scan.head
            WHERE place < {steps:d}
        )
        SELECT scan.head, ordering_key, CASE WHEN {condition} THEN 1 ELSE 0 END
        FROM scan JOIN {TABLE} ON {TABLE}.id = scan.head ORDER BY place
    """  # noqa: S608 (constants)
    return dialect.run(sql, [after_key, *params])


def lock(dialect: Dialect, heads: Sequence[Head], aliases: Sequence[str]) -> list[Head]:
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
    found = _first_rows(dialect, heads, aliases, longest)
    by_rank: list[tuple[int, int, int]] = []
    rank, current, unbroken = 0, 0, True
    for head, id_, size, is_due in sorted(found):
        rank, unbroken = (rank + 1, unbroken) if head == current else (0, True)
        current, unbroken = head, unbroken and bool(is_due)
        if unbroken:
            by_rank.append((rank, id_, size))
    return [(id_, size) for _, id_, size in sorted(by_rank)]


def _first_rows(
    dialect: Dialect, heads: Sequence[Head], aliases: Sequence[str], most: int
) -> list[Any]:
    """Return of the first rows of each key: the head's id, their own, size, and whether they are due."""
    condition, params = dialect.due(aliases)
    # Not "ordering_key = ...": see `_scan`.
    columns = f"id, size, CASE WHEN {condition} THEN 1 ELSE 0 END AS due"
    first = f"FROM {TABLE} WHERE {_KEYED} AND ordering_key >= %s AND ordering_key <= %s"
    order = f"ORDER BY ordering_key, id LIMIT {most:d}"
    if dialect.connection.vendor == "postgresql":
        # Planned once, and not for each key: half of a claim's time.
        first = first.replace("%s", "asked.key")
        given = ", ".join(["(%s, %s)"] * len(heads))
        sql = f"""
            SELECT asked.head, run.* FROM (VALUES {given}) AS asked (head, key)
            CROSS JOIN LATERAL (SELECT {columns} {first} {order}) AS run
        """  # noqa: S608 (constants)
        return dialect.run(
            sql, [*(value for head in heads for value in (head.id, head.key)), *params]
        )
    one = f"SELECT * FROM (SELECT %s AS head, {columns} {first} {order}) AS run"  # noqa: S608
    found: list[Any] = []
    for start in range(0, len(heads), 50):
        some = heads[start : start + 50]
        values = [value for head in some for value in (head.id, *params, head.key, head.key)]
        found += dialect.run(" UNION ALL ".join([one] * len(some)), values)
    return found


def waiting_keys(database: str, rows: Sequence[Stored], besides: Collection[int] = ()) -> set[int]:
    """Return the ids of those keyed rows that must wait: something of their key is before them.

    Args:
        database: Django alias.
        rows: that somebody who holds them is about to send; they may stand before each other.
        besides: ids of rows that do not count: the holder sends them before these.
    """
    keyed = [row.id for row in rows if row.ordering_key]
    return with_earlier(Dialect(databases[database]), keyed, (*keyed, *besides))


def with_earlier(dialect: Dialect, ids: Sequence[int], besides: Sequence[int] = (0,)) -> set[int]:
    """Return the ids of those rows that have another row of their key before them."""
    if not ids:
        return set()
    # Not "EXISTS (... ordering_key = ...)": see `_scan`.
    sql = f"""
        SELECT later.id FROM {TABLE} AS later WHERE later.id IN ({places(ids)}) AND later.id > (
            SELECT id FROM {TABLE} WHERE {_KEYED} AND ordering_key >= later.ordering_key
            AND ordering_key <= later.ordering_key AND id NOT IN ({places(besides)})
            ORDER BY ordering_key, id LIMIT 1
        )
    """  # noqa: S608 (constants)
    return {id_ for (id_,) in dialect.run(sql, [*ids, *besides])}
