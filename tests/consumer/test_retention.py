"""What consumers remember is deleted by age, and never a dead letter that waits."""

import logging
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import OperationalError

from rmq_publisher.consumer import dead_letters, retention
from rmq_publisher.consumer.dead_letters import from_dead_letter_queue
from rmq_publisher.consumer.retention import RetentionPruner
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.keys import key_of
from tests.support.received import received

DAY = 86_400.0
AGES = (1, 10, 40)  # days


def table(name: str, database: str) -> Any:
    return apps.get_model("rmq_publisher", name)._default_manager.using(database)


@pytest.fixture
def grown(store: str, settings: Any) -> str:
    """Tables with rows of each age, and of each state of dead letters."""
    settings.RMQ_URL = "memory://"
    settings.RMQ_INBOX_RETENTION_DAYS = 5
    settings.RMQ_FAILURE_RETENTION_DAYS = 30
    for days in AGES:
        then, message_id = DatabaseNow(-days * DAY), f"m{days}"
        key = key_of("h", message_id)
        inbox, starts = table("InboxMessage", store), table("HandlerStart", store)
        inbox.create(id=key, name="h", message_id=message_id, digest="d", handled_at=then)
        starts.create(id=key, name="h", message_id=message_id, started_at=then)
        for state in ("waiting", "sent_back", "discarded"):
            message = received(queue="dead", message_id=f"{state}-{days}")
            row = from_dead_letter_queue(message, "default")
            row.state = state
            row.stored_at = row.died_at = then
            row.finished_at = None if state == "waiting" else then
            row.save(using=store)
    return store


def inbox(database: str) -> set[str]:
    return set(table("InboxMessage", database).values_list("message_id", flat=True))


def starts(database: str) -> set[str]:
    return set(table("HandlerStart", database).values_list("message_id", flat=True))


def letters(database: str) -> set[str]:
    return set(dead_letters.rows(database).values_list("message_id", flat=True))


def prune(database: str, *arguments: str) -> list[str]:
    out = StringIO()
    call_command("rmq_prune", *arguments, database=database, stdout=out)
    return out.getvalue().splitlines()


def test_the_command_leaves_them_alone_unless_told(grown: str) -> None:
    assert not any("inbox" in line or "dead letters" in line for line in prune(grown))
    assert (len(inbox(grown)), len(letters(grown))) == (3, 9)


def test_the_command_prunes_the_inbox(grown: str) -> None:
    dry = prune(grown, "--inbox", "--dry-run")
    assert dry[-1] == "2 handled messages of the inbox would be deleted."
    assert len(inbox(grown)) == 3
    assert (
        prune(grown, "--inbox", "--batch", "1")[-1] == "2 handled messages of the inbox deleted."
    )
    assert inbox(grown) == starts(grown) == {"m1"}
    assert len(letters(grown)) == 9


def test_the_command_prunes_finished_dead_letters(grown: str) -> None:
    assert prune(grown, "--dead-letters")[-1] == "2 finished dead letters deleted."
    waiting = {f"waiting-{days}" for days in AGES}
    assert letters(grown) == waiting | {
        f"{state}-{days}" for state in ("sent_back", "discarded") for days in (1, 10)
    }
    prune(grown, "--dead-letters", "--older-than", "0s")
    assert letters(grown) == waiting
    assert len(inbox(grown)) == 3


def test_a_worker_prunes_hourly(grown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(retention, "monotonic", lambda: now[0])
    pruner = RetentionPruner([grown, grown])
    pruner.prune_if_due()
    assert len(inbox(grown)) == 3, "not at once"
    now[0] += retention.FIRST_SECONDS
    pruner.prune_if_due()
    assert (inbox(grown), len(letters(grown))) == ({"m1"}, 7)
    table("InboxMessage", grown).update(handled_at=DatabaseNow(-9 * DAY))
    pruner.prune_if_due()
    assert len(inbox(grown)) == 1
    now[0] += retention.PRUNE_SECONDS
    pruner.prune_if_due()
    assert inbox(grown) == set()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_worker_goes_on_without_the_database(
    grown: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> int:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(retention, "prune_inbox", away)
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING, "rmq_publisher.consumer"):
        RetentionPruner([grown]).prune_if_due()
    told = [each.getMessage() for each in caplog.records if each.name == "rmq_publisher.consumer"]
    assert told == [
        f"the inbox of database {grown!r} was not pruned: server closed the connection"
    ]


def test_so_many_rows_at_the_most(grown: str) -> None:
    assert retention.prune_inbox(grown, timedelta(0), batch=1, most=2) == 2
    assert len(inbox(grown)) == 1
