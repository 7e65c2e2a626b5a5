"""rmq_retry, rmq_prune, rmq_stats: what they pick, what they change, what they say."""

import io
import json
import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import NamedTuple

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections as databases

from rmq_publisher.db.clock import database_now
from rmq_publisher.management.arguments import duration
from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.outbox.notifier import CHANNEL
from rmq_publisher.outbox.transitions import messages
from rmq_publisher.telemetry import publish_counts
from tests.support.rig import PATIENCE
from tests.support.stored_rows import stored

HOUR, DAY = 3600.0, 86400.0
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
ON_POSTGRES = pytest.mark.parametrize("store", ["postgres"], indirect=True)


class Said(NamedTuple):
    """What a command left behind."""

    out: str
    warned: str
    error: str


def run(command: str, *arguments: str, database: str) -> Said:
    out, warned, error = io.StringIO(), io.StringIO(), ""
    where = ("--database", database)
    try:
        call_command(command, *arguments, *where, stdout=out, stderr=warned, no_color=True)
    except CommandError as raised:
        error = str(raised)
    return Said(out.getvalue(), warned.getvalue(), error)


def due(database: str) -> set[str]:
    """The ids of the messages that a relay would take now, with fresh attempts."""
    now = database_now(databases[database]) + timedelta(seconds=1)
    rows = messages(database).filter(state="failed", available_at__lte=now, token=0)
    assert set(rows.values_list("attempts", "unanswered")) <= {(0, 0)}
    return set(rows.values_list("message_id", flat=True))


def here(database: str) -> set[str]:
    return set(messages(database).values_list("message_id", flat=True))


def beat(database: str) -> None:
    heartbeats.beat(database, "relay", database_now(databases[database]))


# -- durations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 30 * DAY), ("2w", 14 * DAY)],
)
def test_durations(text, seconds):
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "d", "-1d", "1.5h", "1y", "1d12h", "٣d", "36501d", "999999999w", "99999999999999s"],
)
def test_what_is_no_duration(text):
    with pytest.raises(ArgumentTypeError):
        duration(text)


# -- rmq_retry -----------------------------------------------------------------------------------------


def test_retry_by_ids(store):
    for state in ("pending", "failed", "dead", "delivered", "discarded"):
        stored(store, state, message_id=f"the-{state}")
    stored(store, "dead", message_id="another")
    beat(store)
    before = {row.message_id: row.state for row in messages(store)}
    said = run("rmq_retry", "the-failed", "the-dead", database=store)
    assert said == ("2 due now.\n", "", "")
    assert due(store) == {"the-failed", "the-dead"}
    after = {row.message_id: row.state for row in messages(store)}
    assert after == {**before, "the-dead": "failed"}


def test_retry_of_one_id_that_two_queues_got(store):
    stored(store, "dead", message_id="event", routing_key="a")
    stored(store, "failed", message_id="event", routing_key="b")
    beat(store)
    assert run("rmq_retry", "event", database=store).out == "2 due now.\n"


def test_retry_of_ids_that_cannot_be(store):
    for state in ("dead", "pending", "delivered"):
        stored(store, state, message_id=f"the-{state}")
    said = run(
        "rmq_retry",
        "the-dead",
        "the-pending",
        "the-delivered",
        "no-such",
        "no-such",
        database=store,
    )
    assert said.out == "1 due now.\n"
    assert (
        said.error
        == "Not found among failed and dead messages: the-pending, the-delivered, no-such"
    )
    assert due(store) == {"the-dead"}


FILTERS = {
    ("--all-dead",): {"dead", "old-dead"},
    ("--state", "dead"): {"dead", "old-dead"},
    ("--state", "failed"): {"failed", "nacked", "elsewhere", "exchange", "key"},
    ("--state", "failed", "--all-dead"): {
        "dead", "old-dead", "failed", "nacked", "elsewhere", "exchange", "key",
    },
    ("--error", "Nacked"): {"nacked"},
    ("--using", "events"): {"elsewhere"},
    ("--exchange", "topic"): {"exchange"},
    ("--exchange", "", "--all-dead"): {"dead", "old-dead"},
    ("--exchange", "", "--state", "failed"): {"failed", "nacked", "elsewhere", "key"},
    ("--routing-key", "k"): {"key"},
    ("--since", "1h"): {"dead", "failed", "nacked", "elsewhere", "exchange", "key"},
    ("--since", "1h", "--all-dead"): {"dead"},
    ("--error", "Nacked", "--using", "events"): set(),
    ("dead", "failed", "--state", "dead"): {"dead"},
}  # fmt: skip


@pytest.mark.parametrize("arguments", FILTERS, ids=" ".join)
def test_retry_by_filter(store, arguments):
    stored(store, "pending", message_id="pending")
    stored(store, "delivered", message_id="delivered")
    stored(store, "discarded", message_id="discarded")
    stored(store, "dead", message_id="dead")
    stored(store, "dead", message_id="old-dead", age=2 * HOUR)
    stored(store, "failed", message_id="failed")
    stored(store, "failed", message_id="nacked", last_error_type="Nacked")
    stored(store, "failed", message_id="elsewhere", using="events")
    stored(store, "failed", message_id="exchange", exchange="topic")
    stored(store, "failed", message_id="key", routing_key="k")
    beat(store)
    wanted = FILTERS[arguments]
    dry = run("rmq_retry", *arguments, "--dry-run", database=store)
    assert dry.out == f"{len(wanted)} would be due.\n"
    assert due(store) == set()
    said = run("rmq_retry", *arguments, database=store)
    assert said.out == f"{len(wanted)} due now.\n"
    assert due(store) == wanted


def test_retry_leaves_alone_what_is_being_sent(store):
    held = stored(store, "failed", held=True, message_id="held")
    stored(store, "dead", held=True, message_id="a-persons")
    stored(store, "dead", message_id="free")
    stored(store, "pending", held=True)
    beat(store)
    skipped = "Skipped 2: being sent right now.\n"
    dry = run("rmq_retry", "--state", "failed", "--all-dead", "--dry-run", database=store)
    assert dry.out == f"1 would be due.\n{skipped}"
    said = run("rmq_retry", "--state", "failed", "--all-dead", database=store)
    assert said.out == f"1 due now.\n{skipped}"
    assert due(store) == {"free"}
    row = messages(store).get(message_id="held")
    assert (row.token, row.attempts) == (held.token, 3)


def test_a_lease_that_is_over_holds_nothing(store):
    now = database_now(databases[store])
    stored(store, "failed", held=True, message_id="m", available_at=now - timedelta(seconds=1))
    beat(store)
    assert run("rmq_retry", "m", database=store).out == "1 due now.\n"
    assert messages(store).get().token == 0


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_retry_of_everything_must_be_asked_for(store, arguments):
    stored(store, "dead")
    said = run("rmq_retry", *arguments, database=store)
    assert "--all-dead" in said.error
    assert said.out == ""
    assert due(store) == set()


def test_retry_warns_where_no_relay_is_at_work(store):
    stored(store, "dead", message_id="m")
    assert "No relay has been seen yet" in run("rmq_retry", "m", database=store).warned
    beat(store)
    assert run("rmq_retry", "m", database=store).warned == ""
    old = database_now(databases[store]) - timedelta(seconds=90)
    heartbeats._relays(store).update(seen_at=old)
    warned = run("rmq_retry", "m", database=store).warned
    assert "No relay has been seen for 9" in warned
    assert "rmq_relay" in warned
    assert (
        run("rmq_retry", "--error", "None", database=store).warned == ""
    )  # nothing is to be sent
    assert run("rmq_retry", "m", "--dry-run", database=store).warned == ""


@ON_POSTGRES
def test_retry_wakes_the_relays(store):
    stored(store, "dead", message_id="m")
    with databases[store].cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    raw = databases[store].connection
    run("rmq_retry", "m", "--dry-run", database=store)
    assert list(raw.notifies(timeout=0)) == []
    run("rmq_retry", "m", database=store)
    assert len(list(raw.notifies(timeout=PATIENCE, stop_after=1))) == 1


# -- rmq_prune -----------------------------------------------------------------------------------------


@pytest.fixture
def grown(store, settings):
    """A table with rows of each state, a day, ten days and forty days old."""
    settings.RMQ_FAILURE_RETENTION_DAYS = 30
    for state in ("pending", "failed", "dead", "delivered", "discarded"):
        for days in (1, 10, 40):
            stored(store, state, age=days * DAY, message_id=f"{state}-{days}")
    return store


PRUNED = {
    (): {"delivered-40", "discarded-40"},
    ("--older-than", "5d"): {"delivered-10", "delivered-40", "discarded-10", "discarded-40"},
    ("--older-than", "12h", "--state", "delivered"): {
        "delivered-1", "delivered-10", "delivered-40",
    },
    ("--state", "dead"): {"dead-40"},
    ("--older-than", "5d", "--state", "dead", "--state", "discarded", "--batch", "1"): {
        "dead-10", "dead-40", "discarded-10", "discarded-40",
    },
    ("--older-than", "50d"): set(),
}  # fmt: skip


@pytest.mark.parametrize("arguments", PRUNED, ids=" ".join)
def test_prune(grown, arguments):
    before = here(grown)
    dry = run("rmq_prune", *arguments, "--dry-run", database=grown)
    assert here(grown) == before
    said = run("rmq_prune", *arguments, database=grown)
    assert before - here(grown) == PRUNED[arguments]
    assert dry.out == said.out.replace(" deleted", " would be deleted")
    numbers = [int(line.split()[0]) for line in said.out.splitlines()]
    assert sum(numbers) == len(PRUNED[arguments])


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_what_is_yet_to_be_sent_is_never_pruned(grown, state):
    before = here(grown)
    arguments = ("--older-than", "0s", "--state", "delivered", "--state", state)
    for dry in ((), ("--dry-run",)):
        said = run("rmq_prune", *arguments, *dry, database=grown)
        assert f"that are {state} still have to be sent" in said.error
    assert here(grown) == before


def test_what_is_retried_meanwhile_is_not_pruned(store):
    """Between the look at what is old and the deletion."""
    stored(store, "dead", age=DAY)
    asked = []

    def retry_before_the_second(execute, *given):
        asked.append(given[0])
        if len(asked) == 2:
            assert transitions.make_due(messages(store)) == 1
        return execute(*given)

    with databases[store].execute_wrapper(retry_before_the_second):
        assert transitions.prune(store, states=("dead",), older_than=timedelta(hours=1)) == 0
    assert asked[0].startswith("SELECT")
    assert list(messages(store).values_list("state", flat=True)) == ["failed"]


def test_prune_takes_old_counts_and_relays_too(store):
    now = database_now(databases[store])
    for days in (1, 9):
        publish_counts.counts_of(store).create(
            minute=now - timedelta(days=days), using="a", published=1
        )
    for name, hours in (("new", 1), ("old", 25)):
        heartbeats.beat(store, name, now)
        heartbeats._relays(store).filter(name=name).update(seen_at=now - timedelta(hours=hours))
    lines = ["1 old counts deleted.", "1 old relays deleted."]
    dry = run("rmq_prune", "--dry-run", database=store).out.splitlines()
    assert dry[2:] == [line.replace(" deleted", " would be deleted") for line in lines]
    assert run("rmq_prune", database=store).out.splitlines()[2:] == lines
    assert publish_counts.counts_of(store).count() == 1
    assert [relay.name for relay in heartbeats.seen(store)] == ["new"]


@ON_SQLITE
def test_prune_with_bad_arguments(store, settings):
    for batch in ("0", "10001", "9" * 23):
        said = run("rmq_prune", "--batch", batch, database=store)
        assert said.error == "--batch must be from 1 to 10000."
    assert run("rmq_prune", "--batch", "10000", database=store).error == ""
    assert "not a valid duration" in run("rmq_prune", "--older-than", "x", database=store).error
    settings.RMQ_FAILURE_RETENTION_DAYS = 0
    assert "RMQ_FAILURE_RETENTION_DAYS" in run("rmq_prune", database=store).error
    assert run("rmq_prune", "--older-than", "1d", database=store).error == ""


# -- rmq_stats -----------------------------------------------------------------------------------------


def test_stats_as_json(store):
    assert json.loads(run("rmq_stats", "--json", database=store).out) == {
        "database": store,
        "pending": 0,
        "scheduled": 0,
        "failed": 0,
        "dead": 0,
        "oldest_pending_seconds": None,
        "published_24h": 0,
        "failed_24h": 0,
        "recent": {
            "published": {"1m": 0, "1h": 0, "24h": 0},
            "failed": {"1m": 0, "1h": 0, "24h": 0},
        },
        "per_minute": {
            "published": {"1m": 0.0, "1h": 0.0, "24h": 0.0},
            "failed": {"1m": 0.0, "1h": 0.0, "24h": 0.0},
        },
        "relays": [],
    }
    for state, number in (("pending", 1), ("failed", 2), ("dead", 3), ("delivered", 4)):
        for _ in range(number):
            stored(store, state, age=60)
    now = database_now(databases[store])
    minute = now.replace(second=0, microsecond=0) - timedelta(minutes=5)
    publish_counts.counts_of(store).create(minute=minute, using="a", published=120, failed=60)
    beat(store)
    found = json.loads(run("rmq_stats", "--json", database=store).out)
    assert (found["pending"], found["failed"], found["dead"]) == (1, 2, 3)
    assert 59 < found["oldest_pending_seconds"] < 200
    assert (found["published_24h"], found["failed_24h"]) == (120, 60)
    assert found["per_minute"]["published"]["1h"] == 2.0
    assert found["per_minute"]["failed"]["1h"] == 1.0
    [relay] = found["relays"]
    assert (relay["name"], relay["alive"]) == ("relay", True)
    assert relay["seconds"] < 60
    assert set(relay) == {"name", "started_at", "seconds", "alive"}


def test_stats_for_people(store):
    said = run("rmq_stats", database=store)
    assert "pending    0\n" in said.out
    assert "none in the last minute" in said.out
    stored(store, "pending", age=7200)
    stored(store, "dead")
    beat(store)
    out = run("rmq_stats", database=store).out
    assert "pending    1, the oldest for 2.0 h\n" in out
    assert "dead       1\n" in out
    assert "published  0 in 1m, 0 in 1h, 0 in 24h\n" in out
    assert re.search(r"(?m)^relay      relay: seen \d+ s ago$", out)
    assert "none" not in out


# -- databases --------------------------------------------------------------------------------------

COMMANDS = [("rmq_retry", "--all-dead"), ("rmq_prune",), ("rmq_stats",), ("rmq_stats", "--json")]


@ON_SQLITE
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_database_that_is_not_there(store, command):
    said = run(*command, database="nowhere")
    assert "Unknown database 'nowhere'; configured: 'default', 'other'." in said.error


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_database_without_the_table(store, command):
    call_command("migrate", "rmq_publisher", "zero", database=store, verbosity=0)
    try:
        said = run(*command, database=store)
        assert f"run manage.py migrate rmq_publisher --database {store}" in said.error
        assert said.out == ""
    finally:
        call_command("migrate", "rmq_publisher", database=store, verbosity=0)


@ON_SQLITE
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_database_that_routers_keep_the_table_out_of(store, settings, command):
    class Router:
        def allow_migrate(self, db, app_label, **hints):
            return app_label != "rmq_publisher"

    settings.DATABASE_ROUTERS = [Router()]
    assert "DATABASE_ROUTERS" in run(*command, database=store).error
