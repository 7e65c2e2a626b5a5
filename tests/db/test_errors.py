"""What an error of a database means, on each of them; and calls that are repeated."""

import threading

import pytest
from django.db import DatabaseError, OperationalError, transaction
from django.db import connections as databases

from rmq_publisher.db import errors
from rmq_publisher.db.schema import TABLE
from rmq_publisher.outbox.database_guard import QUIET_SECONDS, DatabaseGuard


def run(store, sql):
    with databases[store].cursor() as cursor:
        cursor.execute(sql)


def error_of(call):
    with pytest.raises(DatabaseError) as caught:
        call()
    return caught.value


class DriverError(Exception):
    """As a driver's."""

    def __init__(self, *args, **attributes):
        super().__init__(*args)
        self.__dict__.update(attributes)


def wrapped(cause):
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


CONFLICTS = [
    DriverError(sqlstate="40001"),
    DriverError(sqlstate="40P01"),
    DriverError(sqlstate="55P03"),
    DriverError(pgcode="40001"),
    DriverError(1213, "Deadlock found"),
    DriverError(1205, "Lock wait timeout exceeded"),
    DriverError(1020, "Record has changed since last read"),
    DriverError("database is locked", sqlite_errorcode=5),
    DriverError("database is locked", sqlite_errorcode=517),
]
OTHERS = [
    DriverError(sqlstate="57P01"),
    DriverError(2006, "gone away"),
    DriverError("disk I/O error", sqlite_errorcode=10),
    DriverError(),
]


@pytest.mark.parametrize("cause", CONFLICTS, ids=repr)
def test_conflicts_with_other_transactions(cause):
    assert errors.is_contention(wrapped(cause))
    assert not errors.is_table_missing(wrapped(cause))


@pytest.mark.parametrize("cause", OTHERS, ids=repr)
def test_other_errors(cause):
    assert not errors.is_contention(wrapped(cause))
    assert not errors.is_table_missing(wrapped(cause))


def test_a_missing_table_or_column(store):
    for sql in ("SELECT 1 FROM nothing_of_the_kind", f"SELECT nonesuch FROM {TABLE}"):
        error = error_of(lambda sql=sql: run(store, sql))
        assert errors.is_table_missing(error)
        assert not errors.is_contention(error)


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_serialization_failure_is_a_conflict(store):
    table = TABLE.replace("outboxmessage", "relayseen")
    run(store, f"INSERT INTO {table} (name, started_at, seen_at) VALUES ('r', NOW(), NOW())")

    def elsewhere():
        run(store, f"UPDATE {table} SET seen_at = NOW()")
        databases[store].close()

    def conflicting():
        with transaction.atomic(using=store):
            run(store, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            run(store, f"SELECT * FROM {table}")
            other = threading.Thread(target=elsewhere)
            other.start()
            other.join()
            run(store, f"UPDATE {table} SET seen_at = NOW()")

    assert errors.is_contention(error_of(conflicting))


@pytest.mark.django_db
def test_a_transaction_is_not_repeated():
    calls = []

    def call():
        calls.append(1)
        raise wrapped(CONFLICTS[0])

    error_of(lambda: errors.retried("default", call))
    assert len(calls) == 1


@pytest.mark.django_db(transaction=True)
def test_a_conflict_is_repeated_until_it_is_over(monkeypatch):
    waits = []
    monkeypatch.setattr(errors.time, "sleep", waits.append)
    outcomes = [wrapped(cause) for cause in CONFLICTS]

    def call():
        if outcomes:
            raise outcomes.pop()
        return "done"

    assert errors.retried("default", call) == "done"
    assert len(waits) == len(CONFLICTS)


@pytest.mark.django_db(transaction=True)
def test_it_is_not_repeated_for_ever_nor_for_other_errors(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(errors, "monotonic", lambda: next(clock))
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: None)

    def conflict():
        raise wrapped(CONFLICTS[0])

    def other():
        calls.append(1)
        raise wrapped(OTHERS[0])

    calls = []
    error_of(lambda: errors.retried("default", conflict))
    error_of(lambda: errors.retried("default", other))
    assert calls == [1]


def test_a_relay_is_quiet_about_conflicts_unless_they_last(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("rmq_publisher.outbox.database_guard.monotonic", lambda: now[0])
    guard = DatabaseGuard("default")
    for _ in range(20):
        assert guard.on_failure(wrapped(CONFLICTS[0])) <= 1.0
    assert caplog.records == []
    now[0] += QUIET_SECONDS
    guard.on_failure(wrapped(CONFLICTS[0]))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
