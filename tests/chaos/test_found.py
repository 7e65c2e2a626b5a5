"""What the chaos has found, small enough to be looked at."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections as databases
from django.db import transaction

from rmq_publisher import ConfirmTimeout, publish
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.schema import COLUMNS
from rmq_publisher.outbox import after_commit, transitions
from rmq_publisher.outbox.row import OutboxRow, from_row
from tests.support.rig.stores import ON_SERVERS


@pytest.fixture
def held(store: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[OutboxRow]:
    """Three rows under our lease."""
    settings.RMQ_URL = "memory://"
    monkeypatch.setattr(after_commit, "send_committed", lambda *_: None)
    for _ in range(3):
        publish("x", queue="q", delivery="outbox", database=store)
    rows = transitions.messages(store).order_by("id")
    rows.update(token=77, available_at=DatabaseNow(60))
    return [from_row(row, token=77, own_until=0.0) for row in rows.values_list(*COLUMNS)]


@ON_SERVERS
@pytest.mark.parametrize("what", ["confirmed", "failed", "delivered", "released"])
def test_completing_waits_for_nobody_who_writes(
    store: str, held: list[OutboxRow], what: str
) -> None:
    """MySQL thought the table too small for an index, and waited for each row just being inserted."""
    written, completed = threading.Event(), threading.Event()

    def write() -> None:
        try:
            with transaction.atomic(using=store):
                publish("x", queue="q", delivery="outbox", database=store)
                written.set()
                completed.wait(10)
        finally:
            databases[store].close()

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(10)
    if databases[store].vendor == "mysql":
        with databases[store].cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 2")
    try:
        if what == "confirmed":
            assert transitions.complete_confirmed(store, held) == 3
        elif what == "failed":
            failures = [(row, ConfirmTimeout("unknown")) for row in held]
            assert transitions.complete_failed(store, failures) == ["failed"] * 3
        elif what == "delivered":
            for row in held:
                row.failed = True
            assert transitions.complete_confirmed(store, held) == 3
        else:
            assert transitions.release(store, held) == 3
    finally:
        completed.set()
        writer.join()
