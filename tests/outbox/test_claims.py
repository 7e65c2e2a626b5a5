"""Whose a row is: claims by lease, runs of keys, what a person picks."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections as databases
from django.db import transaction
from django.test.utils import CaptureQueriesContext

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.schema import TABLE
from rmq_publisher.outbox import claims, ordering_keys, transitions
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.outbox.sql_dialect import Dialect
from tests.support.calls import Call
from tests.support.rig.stores import LIKE_MYSQL, ON_SERVERS
from tests.support.rows import change, column, ids_of, store_rows

LATER = DatabaseNow(60)
ON_POSTGRES = pytest.mark.parametrize("store", ["postgres"], indirect=True)


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.RMQ_CONNECTIONS = {"other": {"URL": "amqp://guest@127.0.0.1:9/"}}


def claim(store: str, limit: int = 100, **options: Any) -> list[OutboxRow]:
    given = {"aliases": ["default"], "max_bytes": 10**9, "lease": 60.0, **options}
    return claims.claim(store, limit=limit, **given)


def claim_keys(store: str, limit: int = 100, **options: Any) -> list[OutboxRow]:
    return claim_some_keys(store, limit, **options)[0]


def claim_some_keys(store: str, limit: int = 100, **options: Any) -> tuple[list[OutboxRow], str]:
    given = {"aliases": ["default"], "max_bytes": 10**9, "lease": 60.0, **options}
    return claims.claim_keys(store, limit=limit, **given)


# -- rows without a key ----------------------------------------------------------------------------


def test_a_claim_is_a_lease_with_a_token(store: str) -> None:
    ids = store_rows(store, 3)
    rows = claim(store)
    assert ids_of(rows) == ids
    assert column(store, "token") == [rows[0].token] * 3
    assert rows[0].token != 0
    assert claim(store) == []
    change(store, ids, available_at=DatabaseNow(-1))  # the lease is over
    [again, *_] = claim(store)
    assert again.token != rows[0].token


def test_what_a_claim_carries(store: str) -> None:
    store_rows(store, queue="q", body=b"\x00\xffbody", failed_at=DatabaseNow())
    [row] = claim(store)
    assert (row.using, row.ordering_key, row.failed) == ("default", "", True)
    assert (row.envelope.routing_key, row.envelope.body) == ("q", b"\x00\xffbody")
    assert [row.envelope.message_id] == column(store, "message_id")


def test_the_lease_is_the_databases_and_leaves_time_to_send(store: str) -> None:
    store_rows(store)
    before = claims.monotonic()
    [row] = claim(store, lease=100.0)
    assert 95 - 0.001 <= row.own_until - before <= 95 + 30  # RMQ_PUBLISH_TIMEOUT is 5
    here = transitions.messages(store)
    assert (
        here.filter(available_at__gt=DatabaseNow(60), available_at__lt=DatabaseNow(101)).count()
        == 1
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"available_at": LATER},
        {"available_at": None, "state": "dead"},
        {"available_at": None, "state": "delivered"},
        {"available_at": None, "state": "discarded"},
        {"state": "dead"},
        {"using": "other"},
        {"ordering_key": "k"},
    ],
    ids=str,
)
def test_what_is_not_to_be_sent_is_left_alone(store: str, columns: dict[str, Any]) -> None:
    store_rows(store, **columns)
    assert claim(store) == []
    assert column(store, "token") == [0]


def test_only_for_the_aliases_named(store: str) -> None:
    ids = [*store_rows(store, using="default"), *store_rows(store, using="other")]
    assert claim(store, aliases=[]) == []
    assert ids_of(claim(store, aliases=["other"])) == ids[1:]
    assert ids_of(claim(store, aliases=["default", "other"])) == ids[:1]


def test_those_that_wait_for_longest_come_first_and_no_more_than_asked_for(store: str) -> None:
    ids = store_rows(store, 4)
    change(store, ids[2:3], available_at=DatabaseNow(-90))
    assert ids_of(claim(store, 1)) == ids[2:3]
    assert ids_of(claim(store, 2)) == ids[:2]


def test_a_claim_is_bounded_in_bytes(store: str) -> None:
    ids = [*store_rows(store, body=b"x" * 500), *store_rows(store, 3, body=b"x" * 100)]
    for number, id_ in enumerate(ids):
        change(store, [id_], available_at=DatabaseNow(number - 60))
    assert ids_of(claim(store, max_bytes=200)) == ids[:1]  # the first one, whatever its size
    assert ids_of(claim(store, max_bytes=200)) == ids[1:3]
    assert ids_of(claim(store, max_bytes=200)) == ids[3:]


@ON_SERVERS
def test_what_somebody_is_about_to_take_is_skipped_and_not_waited_for(store: str) -> None:
    ids = store_rows(store, 3)
    with transaction.atomic(using=store):
        list(transitions.messages(store).select_for_update().filter(id=ids[1]))

        def elsewhere() -> list[int]:
            try:
                return ids_of(claim(store))
            finally:
                databases[store].close()

        assert Call(elsewhere).value() == [ids[0], ids[2]]


def test_no_row_is_claimed_twice(store: str) -> None:
    ids = store_rows(store, 300)
    barrier = threading.Barrier(4)

    def claiming() -> list[int]:
        try:
            barrier.wait()
            mine: list[int] = []
            while rows := claim(store, 7):
                mine += ids_of(rows)
            return mine
        finally:
            databases[store].close()

    calls = [Call(claiming) for _ in range(4)]
    taken = [id_ for call in calls for id_ in call.value()]
    # On some databases one that met locked rows only may have ended early.
    taken += ids_of(claim(store, 300))
    assert sorted(taken) == ids


def explained(store: str, action: Callable[[], object]) -> str:
    """The plans of all statements of a call that read the table, as they were made for it."""
    connection = databases[store]
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    plans = []

    def planned(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if TABLE in sql:
            execute(f"{explain} {sql}", params, many, context)
            plans.extend(" ".join(map(str, row)) for row in context["cursor"].fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(planned):
        action()
    return "\n".join(plans)


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
def test_claims_find_their_indexes(store: str) -> None:
    """Partial ones are used where a statement repeats their condition."""
    store_rows(store, 2)
    store_rows(store, 2, key=str)
    plain = explained(store, lambda: claim(store, 1))
    assert "rmq_outbox_available" in plain
    # A backlog of rows with keys is not stepped through to find that there are none without.
    assert re.search("ordering_key.{0,12}=.* AND .?available_at ?<", plain), plain
    keyed = explained(store, lambda: claim_keys(store, 1))
    assert keyed.count("rmq_outbox_key") >= 3  # the first step, the next ones, the runs
    for plan in (plain, keyed):
        assert "Seq Scan" not in plan
        assert "SCAN rmq_publisher_outboxmessage\n" not in f"{plan}\n"


def believed_empty(store: str) -> None:
    """Have PostgreSQL believe that the table is empty, with many dead rows in it."""
    store_rows(store, 2000, key=lambda number: f"{number:04}")
    for _ in range(2):
        with databases[store].cursor() as cursor:
            cursor.execute(f"ANALYZE {TABLE}")
        transitions.messages(store).all().delete()


@ON_POSTGRES
def test_claims_read_in_index_order_whatever_the_planner_believes(store: str) -> None:
    believed_empty(store)
    ids = store_rows(store, 60, key=str)
    store_rows(store, 3)

    rows = claim_all(store)

    def claims_of_all_kinds() -> None:
        assert len(claim(store, 1)) == 1
        assert len(claim_keys(store, 240)) == 60
        assert ordering_keys.waiting_keys(store, rows, ids) == set()

    with transaction.atomic(using=store):
        beliefs = explained(store, claims_of_all_kinds)
        transaction.set_rollback(True, using=store)
    assert re.search("Sort Key: .*ordering_key", beliefs)  # else this test tests nothing
    plans = explained(store, claims_of_all_kinds)
    assert not re.search("Sort Key|Bitmap|Seq Scan", plans), plans


@ON_POSTGRES
def test_known_rows_are_not_looked_for_among_all_that_is_due(store: str) -> None:
    [id_] = store_rows(store, key=lambda _: "k")
    dialect = Dialect(databases[store])
    with transaction.atomic(using=store):
        # Even where nothing else is to be had.
        dialect.run(f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey", [])
        dialect.run("SET LOCAL enable_seqscan = off", [])
        plan = explained(
            store, lambda: ordering_keys.lock(dialect, [ordering_keys.Head("k", id_)], ["default"])
        )
        transaction.set_rollback(True, using=store)
    assert not re.search("Index Cond: .*available_at", plan), plan


@ON_POSTGRES
def test_the_planner_is_itself_again_after_a_claim(store: str) -> None:
    def sorts() -> list[Any]:
        with databases[store].cursor() as cursor:
            cursor.execute("SHOW enable_sort")
            return list(cursor.fetchone())

    store_rows(store, 2, key=str)
    with transaction.atomic(using=store):  # somebody's own
        claim_keys(store, 1)
        assert sorts() == ["on"]
    claim_keys(store, 1)
    assert sorts() == ["on"]


def rows_read(store: str, action: Callable[[], object]) -> int:
    """How many rows and index entries MariaDB or MySQL looks at in a call."""
    with databases[store].cursor() as cursor:
        cursor.execute("FLUSH STATUS")
        action()
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(
            int(value) for name, value in cursor.fetchall() if name != "Handler_read_rnd_deleted"
        )


@LIKE_MYSQL
def test_a_search_among_keys_does_not_begin_anew_at_each_step(store: str) -> None:
    ids = store_rows(store, 1000, key=lambda number: f"k{number // 2:04}")
    change(store, ids[:800], available_at=LATER)  # 400 keys are held
    assert rows_read(store, lambda: claim_keys(store, after_key="k0100")) < 10_000
    asked = {id_: f"k{number // 2:04}" for number, id_ in enumerate(ids)}
    dialect = Dialect(databases[store])
    assert rows_read(store, lambda: ordering_keys.with_earlier(dialect, asked)) < 10_000


# -- a row that cannot be read ---------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "k"])
def test_what_cannot_be_read_is_dead_and_the_others_are_not_hurt(
    store: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = store_rows(store, 3, key=lambda _: key)
    others = store_rows(store, 2, key=lambda number: f"{key}{number}" if key else "")
    change(store, ids[1:2], topology=b"s3cret")
    rows = (claim_keys if key else claim)(store)
    # As any dead row it holds its key.
    assert sorted(ids_of(rows)) == [ids[0], *([] if key else ids[2:]), *others]
    [dead] = transitions.messages(store).filter(id=ids[1])
    assert (dead.state, dead.token, dead.available_at) == ("dead", 0, None)
    assert dead.last_error_type == "InvalidMessage"
    assert "cannot be read" in dead.last_error_text
    if key:
        assert column(store, "token", id=ids[2]) == [0]
        transitions.complete_confirmed(store, rows)
        assert claim_keys(store) == []
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert dead.message_id in line.getMessage()
    assert "s3cret" not in caplog.text


# -- rows with a key -------------------------------------------------------------------------------


def test_runs_of_keys_in_order(store: str) -> None:
    ids = store_rows(store, 6, key=lambda number: "ab"[number % 2])
    store_rows(store)
    rows = claim_keys(store)
    assert sorted(ids_of(rows)) == ids
    for key in "ab":
        mine = [row.id for row in rows if row.ordering_key == key]
        assert mine == sorted(mine)
    assert claim_keys(store) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"available_at": LATER},
        {"available_at": LATER, "token": 7},
        {"available_at": None, "state": "dead"},
        {"using": "other"},
    ],
    ids=str,
)
def test_the_first_one_holds_its_key(store: str, columns: dict[str, Any]) -> None:
    held = store_rows(store, 3, key=lambda _: "held")
    free = store_rows(store, 2, key=lambda _: "free")
    change(store, held[:1], **columns)
    assert ids_of(claim_keys(store)) == free
    change(store, held[:1], state="discarded", available_at=None)
    assert ids_of(claim_keys(store)) == held[1:]


@pytest.mark.parametrize(
    "columns",
    [{"available_at": LATER}, {"available_at": None, "state": "dead"}, {"using": "other"}],
    ids=str,
)
def test_a_run_ends_before_what_is_not_due(store: str, columns: dict[str, Any]) -> None:
    ids = store_rows(store, 4, key=lambda _: "k")
    change(store, ids[2:3], **columns)
    assert ids_of(claim_keys(store)) == ids[:2]
    assert claim_keys(store) == []


def test_a_run_ends_where_another_alias_begins(store: str) -> None:
    ids = store_rows(store, 2, key=lambda _: "k")
    ids += store_rows(store, 1, key=lambda _: "k", using="other")
    ids += store_rows(store, 1, key=lambda _: "k")
    both = ["default", "other"]
    for expected in (ids[:2], ids[2:3], ids[3:], []):
        rows = claim_keys(store, aliases=both)
        assert ids_of(rows) == expected
        assert claim_keys(store, aliases=both) == []
        transitions.complete_confirmed(store, rows)


def test_keys_with_more_rows_than_a_step_reads(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering_keys, "ROWS_A_STEP", 2)
    ids = store_rows(store, 12, key=lambda number: "aaaaabccccdd"[number])
    change(store, ids[:1], available_at=LATER)
    assert sorted(ids_of(claim_keys(store))) == ids[5:]


@LIKE_MYSQL
def test_keys_that_are_equal_to_the_database_are_one(store: str) -> None:
    ids = store_rows(store, 4, key=lambda number: ("a", "A", "b", "A ")[number])
    change(store, ids[:1], available_at=None, state="dead")
    pads = store == "mariadb"  # the usual collation of MySQL tells a space at the end
    assert ids_of(claim_keys(store)) == (ids[2:3] if pads else ids[2:])
    change(store, ids[:1], state="discarded")
    assert ids_of(claim_keys(store)) == ([ids[1], ids[3]] if pads else ids[1:2])


def test_what_is_finished_holds_nothing(store: str) -> None:
    ids = store_rows(store, 3, key=lambda _: "k")
    change(store, ids[:1], state="delivered", available_at=None)
    assert ids_of(claim_keys(store)) == ids[1:]


def test_a_key_with_many_rows_leaves_room_for_others(store: str) -> None:
    many = store_rows(store, 20, key=lambda _: "a")
    others = store_rows(store, 2, key=lambda number: f"b{number}")
    assert sorted(ids_of(claim_keys(store, 12))) == [*many[:10], *others]


def test_runs_are_bounded_in_bytes(store: str) -> None:
    ids = store_rows(store, 4, key=lambda _: "k", body=b"x" * 100)
    assert ids_of(claim_keys(store, max_bytes=250)) == ids[:2]


def test_the_search_is_bounded_and_goes_on_where_it_ended(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering_keys, "KEYS_AT_ONCE", 3)
    ids = store_rows(store, 5, key=lambda number: f"k{number}")
    change(store, ids[:4], available_at=LATER)
    assert claim_some_keys(store) == ([], "k2")
    rows, after_key = claim_some_keys(store, after_key="k2")
    assert (ids_of(rows), after_key) == (ids[4:], "")


def test_with_more_keys_than_asked_for_it_goes_on_behind_the_last(store: str) -> None:
    ids = store_rows(store, 4, key=lambda number: f"k{number}")
    rows, after_key = claim_some_keys(store, 2 * ordering_keys.ROWS_A_KEY)
    assert (ids_of(rows), after_key) == (ids[:2], "k1")
    assert ids_of(claim_keys(store, after_key=after_key)) == ids[2:]


@ON_SERVERS
def test_keys_whose_first_row_is_being_taken_are_skipped(store: str) -> None:
    ids = store_rows(store, 4, key=lambda number: "ab"[number // 2])
    with transaction.atomic(using=store):
        list(transitions.messages(store).select_for_update().filter(id=ids[0]))

        def elsewhere() -> list[int]:
            try:
                return ids_of(claim_keys(store))
            finally:
                databases[store].close()

        assert Call(elsewhere).value() == ids[2:]


def test_a_key_is_in_one_hand_at_a_time_and_in_order(store: str) -> None:
    """Several claim, settle and release at once; each notes what it holds."""
    keys, each = 5, 20
    store_rows(store, keys * each, key=lambda number: f"k{number % keys}")
    lock, held, seen = threading.Lock(), Counter[str](), list[tuple[str, int]]()

    def working(number: int) -> int:
        done = rounds = 0
        try:
            while len(seen) < keys * each and rounds < 2000:
                rounds += 1
                rows = claim_keys(store, 6)
                mine = {row.ordering_key for row in rows}
                with lock:
                    held.update(mine)
                    assert not [key for key in mine if held[key] > 1]
                # Some of each run are sent, and the rest is given back.
                runs = [[row for row in rows if row.ordering_key == key] for key in mine]
                sent = [row for run in runs for row in run[: 1 + number]]
                with lock:
                    seen.extend((row.ordering_key, row.id) for row in sent)
                    held.subtract(mine)
                transitions.complete_confirmed(store, sent)
                transitions.release(store, [row for row in rows if row not in sent])
                done += len(sent)
            return done
        finally:
            databases[store].close()

    calls = [Call(lambda number=number: working(number)) for number in range(3)]
    assert sum(call.value() for call in calls) == keys * each
    for key in {key for key, _ in seen}:
        mine = [id_ for known, id_ in seen if known == key]
        assert mine == sorted(mine)


# -- the writer's look -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "waits"),
    [
        ({}, True),
        ({"available_at": LATER, "token": 7}, True),
        ({"available_at": None, "state": "dead"}, True),
        ({"available_at": None, "state": "delivered"}, False),
        ({"ordering_key": "l"}, False),
    ],
    ids=str,
)
def test_what_is_before_a_keyed_row(store: str, columns: dict[str, Any], waits: bool) -> None:
    [first] = store_rows(store, key=lambda _: "k", **columns)
    store_rows(store, 2, key=lambda _: "k")
    rows = [row for row in claim_all(store) if row.id != first and row.ordering_key == "k"]
    expected = set(ids_of(rows)) if waits else set()
    assert ordering_keys.waiting_keys(store, rows) == expected
    assert ordering_keys.waiting_keys(store, rows, [first]) == set()


def claim_all(store: str) -> list[OutboxRow]:
    """As the writer has them, whatever is before them."""
    found = transitions.messages(store).order_by("id").values_list(*claims.COLUMNS)
    return [claims.from_row(row, token=1, own_until=0.0) for row in found]


def test_only_what_is_behind_somebody_elses_row_waits(store: str) -> None:
    ids = store_rows(store, 4, key=lambda _: "k")
    ours = [row for row in claim_all(store) if row.id != ids[2]]
    assert ordering_keys.waiting_keys(store, ours) == {ids[3]}
    assert ordering_keys.waiting_keys(store, ours[1:]) == {ids[1], ids[3]}
    assert ordering_keys.waiting_keys(store, ours[1:], ids[:1]) == {ids[3]}
    assert ordering_keys.waiting_keys(store, ours, ids[2:3]) == set()


def test_the_look_is_not_dearer_the_more_rows_a_key_has(store: str) -> None:
    first, *_ = store_rows(store, 600, key=lambda _: "k")
    store_rows(store, 120, key=lambda number: f"k{number}")
    rows = claim_all(store)
    with CaptureQueriesContext(databases[store]) as captured:
        assert ordering_keys.waiting_keys(store, rows) == set()
        assert ordering_keys.waiting_keys(store, rows[1:]) == set(ids_of(rows[1:600]))
        assert ordering_keys.waiting_keys(store, rows[1:], [first]) == set()
    sent = [query["sql"] for query in captured.captured_queries if TABLE in query["sql"]]
    assert len(sent) < 25
    assert str(rows[-1].id) not in " ".join(sent)  # no row is named, however many there are


def test_rows_without_a_key_wait_for_nothing(store: str) -> None:
    store_rows(store, 2)
    assert ordering_keys.waiting_keys(store, claim_all(store)) == set()


# -- what a person picks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        ({"state": "failed", "available_at": LATER}, True),
        ({"state": "dead", "available_at": None}, True),
        ({"state": "failed", "available_at": LATER, "token": 7}, False),
        ({"state": "failed", "available_at": DatabaseNow(-1), "token": 7}, True),
        ({"state": "pending"}, False),
        ({"state": "delivered", "available_at": None}, False),
        ({"state": "discarded", "available_at": None}, False),
        ({"state": "failed", "using": "gone"}, False),
    ],
    ids=str,
)
def test_what_a_person_may_take(store: str, columns: dict[str, Any], taken: bool) -> None:
    ids = store_rows(store)
    change(store, ids, **columns)
    store_rows(store, state="dead", available_at=None)  # not asked for
    rows = claims.claim_rows(store, ids, lease=60.0)
    assert ids_of(rows) == (ids if taken else [])
    if taken:
        assert column(store, "token", id=ids[0]) == [rows[0].token]
        assert claims.claim_rows(store, ids, lease=60.0) == []


def test_a_person_takes_the_first_of_a_key_only(store: str) -> None:
    ids = store_rows(store, 2, key=lambda _: "k", state="dead", available_at=None)
    assert claims.claim_rows(store, ids[1:], lease=60.0) == []
    assert ids_of(claims.claim_rows(store, ids, lease=60.0)) == ids[:1]
