"""What is published is counted in memory, and written with the database work of those who publish."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from django.db import connections as databases
from django.db import transaction

from rmq_publisher import apublish, publish, publish_many
from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.db import support
from rmq_publisher.exceptions import PublishError, PublishManyError
from rmq_publisher.outbox import after_commit, heartbeats
from rmq_publisher.outbox.relay import Relay
from rmq_publisher.outbox.transitions import make_due, messages
from rmq_publisher.signals import message_published
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.telemetry.publish_counts import count, counts_of, flush
from rmq_publisher.testing import capture, memory_broker
from tests.support.calls import Call

ROOT = Path(__file__).parents[2]
TABLE = publish_counts.TABLE


@pytest.fixture
def clock(monkeypatch):
    """Our own clock, which stands still until it is told; and counters that have counted nothing."""
    monkeypatch.setattr(publish_counts, "_writing", True)
    monkeypatch.setattr(publish_counts, "_counts", publish_counts._Counts())

    class Clock:
        now = 100_000.0

        def __call__(self) -> float:
            return self.now

        def pass_(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(publish_counts, "monotonic", clock)
    return clock


@pytest.fixture
def opened(store, clock):
    """A database whose connection this thread has open."""
    databases[store].ensure_connection()
    return store


def sums(database: str) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in counts_of(database):
        published, failed = found.get(row.using, (0, 0))
        found[row.using] = (published + row.published, failed + row.failed)
    return found


def in_memory() -> tuple[int, int]:
    pending = list(publish_counts._counts.pending.values())
    return sum(one[0] for one in pending), sum(one[1] for one in pending)


class Statements:
    """Those that a connection carries in a block."""

    def __init__(self, database: str) -> None:
        self._wrapper = databases[database].execute_wrapper(self._note)
        self.found: list[str] = []

    def _note(self, execute, sql, params, many, context):
        self.found.append(sql.split()[0])
        return execute(sql, params, many, context)

    def __enter__(self) -> Self:
        self._wrapper.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._wrapper.__exit__(None, None, None)


# -- counting ---------------------------------------------------------------------------------------


def test_all_that_is_counted_is_written_once(opened, clock):
    for _ in range(5):
        count("a", published=1)
    count("a", failed=2)
    count("b", published=7)
    flush(opened)
    assert sums(opened) == {"a": (5, 2), "b": (7, 0)}
    clock.pass_(publish_counts.FLUSH_SECONDS)
    flush(opened)
    assert sums(opened) == {"a": (5, 2), "b": (7, 0)}


def test_threads_lose_nothing(opened):
    def work() -> None:
        for _ in range(2000):
            count("a", published=1, failed=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(50):
            flush(opened, last=True)
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    flush(opened, last=True)
    assert sums(opened) == {"a": (16_000, 16_000)}


def test_a_handler_that_counts_while_its_thread_counts(clock):
    with publish_counts._counts.lock:
        assert Call(lambda: None).outcome() is None
        count("a", published=1)  # as a signal's handler does
    assert in_memory() == (1, 0)


def test_memory_is_bounded_where_nothing_can_be_written(clock):
    for _ in range(publish_counts.MOST_PENDING * 2):
        count("a", published=1)
        clock.pass_(publish_counts.GRAIN_SECONDS)
    assert in_memory() == (publish_counts.MOST_PENDING, 0)


# -- the rows ---------------------------------------------------------------------------------------


def test_one_row_a_minute_and_process_that_is_added_to(opened, clock, monkeypatch):
    start = datetime(2030, 1, 2, 3, 4, 0, tzinfo=UTC)
    begun = clock.now
    monkeypatch.setattr(
        publish_counts, "database_now", lambda _: start + timedelta(seconds=clock.now - begun)
    )
    for _ in range(12):  # two minutes
        count("a", published=1)
        flush(opened)
        clock.pass_(10)
    found = list(counts_of(opened).order_by("minute").values_list("minute", "published"))
    assert found == [(start, 6), (start + timedelta(minutes=1), 6)]


def test_counts_belong_to_the_minute_in_which_they_were_made(opened, clock):
    """By the database's clock, also when they are written much later."""
    count("a", published=1)
    clock.pass_(3600)
    count("a", published=10)
    flush(opened)
    early, late = counts_of(opened).order_by("minute")
    assert (early.published, late.published) == (1, 10)
    assert timedelta(minutes=59) <= late.minute - early.minute <= timedelta(minutes=61)
    assert abs((datetime.now(UTC) - late.minute).total_seconds()) < 120
    assert late.minute.second == 0


def test_a_row_that_is_gone_is_made_again(opened, clock):
    count("a", published=1)
    flush(opened)
    counts_of(opened).all().delete()
    clock.pass_(10)
    count("a", published=2)
    flush(opened)
    assert sums(opened) == {"a": (2, 0)}


def test_the_last_ones_do_not_wait(opened, clock):
    for number in (1, 2, 4):
        count("a", published=number)
        flush(opened, last=number == 4)
    assert sums(opened) == {"a": (7, 0)}


def test_statements_are_few(opened, clock):
    """One in ten seconds; at first, and once a minute, two: the clock is read, a row is made."""
    count("a", published=1)
    with Statements(opened) as first:
        flush(opened)
    assert [verb for verb in first.found if verb != "PRAGMA"] == ["SELECT", "INSERT"]
    count("a", published=1)
    with Statements(opened) as early:
        flush(opened)
    assert early.found == []
    with Statements(opened) as second:
        flush(opened, last=True)
    assert [verb for verb in second.found if verb != "PRAGMA"] == ["UPDATE"]
    clock.pass_(100)
    with Statements(opened) as idle:
        flush(opened)
    assert idle.found == []  # nothing was counted


def test_rows_of_other_processes_are_left_alone(opened, clock):
    other = counts_of(opened).create(
        minute=datetime.now(UTC).replace(second=0, microsecond=0), using="a", published=100
    )
    count("a", published=1)
    flush(opened)
    other.refresh_from_db()
    assert other.published == 100
    assert counts_of(opened).count() == 2


def test_old_rows_are_pruned(opened, clock):
    now = datetime.now(UTC)
    for days in (0, 7, 9, 30):
        counts_of(opened).create(minute=now - timedelta(days=days), using="a", published=1)
    assert publish_counts.prune(opened, dry_run=True) == 2
    assert counts_of(opened).count() == 4
    assert publish_counts.prune(opened) == 2
    assert counts_of(opened).count() == 2


# -- when it is not written -----------------------------------------------------------------------


def test_nothing_is_written_in_anybodys_transaction(opened, clock):
    count("a", published=1)
    with transaction.atomic(using=opened), Statements(opened) as inside:
        flush(opened)
    assert inside.found == []
    databases[opened].set_autocommit(False)
    try:
        with Statements(opened) as by_hand:
            flush(opened)
        assert by_hand.found == []
    finally:
        databases[opened].rollback()
        databases[opened].set_autocommit(True)
    flush(opened)
    assert sums(opened) == {"a": (1, 0)}


def test_no_connection_is_opened_for_it(store, clock):
    databases[store].close()
    count("a", published=1)
    flush(store)
    assert databases[store].connection is None
    assert in_memory() == (1, 0)
    databases[store].ensure_connection()
    flush(store)  # not ten seconds later: nothing was tried
    assert sums(store) == {"a": (1, 0)}


def test_nothing_is_written_in_tests(store, clock, monkeypatch):
    """A statement now and then would break assertNumQueries, and database access may be forbidden."""
    monkeypatch.undo()
    databases[store].ensure_connection()
    count("nobody", published=1)
    with Statements(store) as found:
        for _ in range(3):
            flush(store)
    assert found.found == []
    publish_counts._after_fork()


def test_a_capture_and_the_memory_broker_keep_counts_in_memory(opened, clock, settings):
    """For Django's own runner, where no plugin does so for all tests."""
    settings.RMQ_URL = "memory://"
    count("a", published=1)
    with capture():
        flush(opened)
        with capture():
            flush(opened)
        flush(opened)
    assert sums(opened) == {}
    flush(opened)
    assert sums(opened) == {"a": (1, 0)}
    memory_broker()
    count("a", published=1)
    clock.pass_(60)
    flush(opened)
    assert sums(opened) == {"a": (1, 0)}


def test_a_missing_table_keeps_the_counts_and_raises_nothing(opened, clock):
    name = databases[opened].ops.quote_name
    with databases[opened].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name(TABLE)} RENAME TO {name('away')}")
    try:
        count("a", published=3)
        flush(opened)
        assert in_memory() == (3, 0)
        with Statements(opened) as too_early:
            clock.pass_(publish_counts.FLUSH_SECONDS)
            flush(opened)
        assert too_early.found == []
    finally:
        with databases[opened].cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name('away')} RENAME TO {name(TABLE)}")
    count("a", published=1)
    clock.pass_(publish_counts.RETRY_SECONDS)
    flush(opened)
    assert sums(opened) == {"a": (4, 0)}


def test_a_failure_halfway_counts_nothing_twice(opened, clock):
    count("a", published=3)
    count("b", published=5)
    inserts = []

    def fail(execute, sql, params, many, context):
        if sql.startswith("INSERT"):
            inserts.append(sql)
            if len(inserts) == 2:
                raise Exception("No database access allowed here.")  # Django's documented blocker
        return execute(sql, params, many, context)

    with databases[opened].execute_wrapper(fail):
        flush(opened)
    assert len(inserts) == 2
    assert sums(opened) == {"a": (3, 0)}
    clock.pass_(publish_counts.RETRY_SECONDS)
    flush(opened)
    assert sums(opened) == {"a": (3, 0), "b": (5, 0)}


def test_a_broken_connection_raises_nothing(opened, clock):
    count("a", published=1)
    databases[opened].connection.close()
    flush(opened)
    databases[opened].connection = None
    assert in_memory() == (1, 0)


def test_a_database_that_must_not_hold_the_table_is_passed_over(opened, clock, monkeypatch):
    monkeypatch.setattr(publish_counts, "unfit", lambda database: "no table of ours")
    count("a", published=1)
    with Statements(opened) as found:
        flush(opened)
    assert found.found == []
    monkeypatch.setattr(publish_counts, "unfit", support.unfit)
    flush(opened)  # at once: another database's turn was not used up
    assert sums(opened) == {"a": (1, 0)}


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_on_sqlite_nobody_waits_for_the_lock(opened, clock):
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using=opened):  # IMMEDIATE: it has the lock
            locked.set()
            release.wait(30)
        databases[opened].close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    try:
        count("a", published=1)
        began = time.monotonic()
        flush(opened)
        assert time.monotonic() - began < 10  # the suite's timeout is 20 s
        assert in_memory() == (1, 0)
    finally:
        release.set()
        holder.join()
    with databases[opened].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone() == (20_000,)
    clock.pass_(publish_counts.RETRY_SECONDS)
    flush(opened)
    assert sums(opened) == {"a": (1, 0)}


# -- processes ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_anew(opened, clock):
    count("a", published=1)
    flush(opened)
    count("a", published=2)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            mine = (publish_counts._counts.pending, publish_counts._counts.rows)
            os.write(writer, repr(mine).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"({}, {})"
    os.close(reader)
    os.close(writer)
    assert in_memory() == (2, 0)


AT_EXIT = """
import django
django.setup()
from django.db import connection
from rmq_publisher.telemetry import publish_counts as counters
connection.ensure_connection()
counters.count("exit", published=1)
counters.flush()
counters.count("exit", published=41)
counters.flush()  # too early
{last}
"""


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("last", "kept"), [("", 42), ("connection.close()", 1)])
def test_the_last_counts_are_written_at_exit_where_a_connection_is_open(store, last, kept):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    program = AT_EXIT.format(last=last)
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True)
    assert sums(store) == {"exit": (kept, 0)}


QUEUE = QueueConfig("counted")


@pytest.fixture
def counted(store, settings, monkeypatch) -> Callable[[], tuple[int, int]]:
    """What the database was told so far, the rest written first."""
    settings.RMQ_URL = "memory://"
    settings.RMQ_OUTBOX_GRACE = 0
    monkeypatch.setattr(publish_counts, "_writing", True)
    monkeypatch.setattr(publish_counts, "_counts", publish_counts._Counts())
    monkeypatch.setattr(publish_counts, "FLUSH_SECONDS", 0.0)
    memory_broker().reset()
    monkeypatch.setattr(publish_counts, "_writing", True)
    databases[store].ensure_connection()

    def told() -> tuple[int, int]:
        rows = list(publish_counts.counts_of(store))
        return sum(row.published for row in rows), sum(row.failed for row in rows)

    return told


def in_transaction(database: str, action: Callable[[], Any]) -> None:
    with transaction.atomic(using=database):
        action()


def test_on_commit(store, counted):
    in_transaction(store, lambda: publish("x", queue=QUEUE, database=store))
    assert counted() == (1, 0)
    in_transaction(store, lambda: publish_many(["x"] * 5, queue=QUEUE, database=store))
    assert counted() == (6, 0)
    in_transaction(store, lambda: publish("x", queue="no-such", database=store))
    assert counted() == (6, 1)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_now(store, counted):
    publish("x", queue=QUEUE, delivery="now")
    assert counted() == (1, 0)
    with pytest.raises(PublishError):
        publish("x", queue="no-such", delivery="now")
    assert counted() == (1, 1)
    publish_many(["x"] * 5, queue=QUEUE, delivery="now")
    assert counted() == (6, 1)
    with pytest.raises(PublishManyError):
        publish_many(["x"] * 2, queue="no-such", delivery="now")
    assert counted() == (6, 3)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_apublish_counts_and_writes_nothing(store, counted):
    asyncio.run(apublish("x", queue=QUEUE))
    with pytest.raises(PublishError):
        asyncio.run(apublish("x", queue="no-such"))
    assert counted() == (0, 0)
    publish_counts.flush(store)
    assert counted() == (1, 1)


@pytest.mark.parametrize("heard", [False, True])
def test_a_relay(store, counted, heard):
    def listen(**_: Any) -> None:
        pass

    if heard:
        message_published.connect(listen)
    try:
        in_transaction(
            store,
            lambda: publish_many(["x"] * 3, queue=QUEUE, database=store, delivery="outbox"),
        )
        in_transaction(
            store, lambda: publish("x", queue="no-such", database=store, delivery="outbox")
        )
        assert counted() == (0, 0)
        Relay(store, once=True).run()
        assert counted() == (3, 1)
        assert make_due(messages(store)) == 1
        Relay(store, once=True).run()
        assert counted() == (3, 2)
    finally:
        message_published.disconnect(listen)


def test_the_writers_background_sender(store, counted, settings):
    settings.RMQ_OUTBOX_GRACE = 30
    in_transaction(
        store, lambda: publish_many(["x"] * 3, queue=QUEUE, database=store, delivery="outbox")
    )
    after_commit.flush(30)
    assert not messages(store).exists()
    publish_counts.flush(store, last=True)
    assert counted() == (3, 0)


def test_relays_are_seen(store, counted):
    Relay(store, once=True).run()
    Relay(store, once=True).run()
    [seen] = heartbeats.seen(store)
    assert seen.alive
    assert seen.name.endswith("--once")
    relay = Relay(store)
    found = []

    def stop() -> None:
        found.extend(heartbeats.seen(store))
        relay.stop()

    original = relay._sleep
    relay._sleep = lambda: (stop(), original())  # type: ignore[method-assign]
    relay.run()
    assert len(found) == 2
    assert len(heartbeats.seen(store)) == 1  # one that ended is not missed
