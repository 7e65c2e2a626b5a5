"""The table of stored messages: what is written when, and every change of state."""

import logging
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, transaction
from django.db import connections as databases

from rmq_publisher import (
    BrokerUnavailable,
    ConfirmTimeout,
    InvalidMessage,
    Message,
    Nacked,
    QueueConfig,
    Rejected,
    Unroutable,
    publish,
    publish_many,
)
from rmq_publisher.conf import loader
from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.db.schema import COLUMNS
from rmq_publisher.outbox import after_commit, failed_publishes, retry_policy, transitions
from rmq_publisher.outbox.row import from_row
from rmq_publisher.signals import publish_failed
from tests.support.rig.databases import KINDS
from tests.support.rig.stores import ON_SERVERS, attached, migrate

LEASE = 60.0


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"


@pytest.fixture
def kept(monkeypatch):
    """Rows that are committed stay as they are; what would be sent is collected."""
    sent = []
    monkeypatch.setattr(
        after_commit, "send_committed", lambda database, rows: sent.append((database, list(rows)))
    )
    return sent


def rows(store):
    return transitions.messages(store).order_by("id")


def state_of(store, id_):
    return rows(store).values_list("state", flat=True).get(id=id_)


def leased(store, **changes):
    """All rows, under a live lease of token 77."""
    rows(store).update(token=77, available_at=DatabaseNow(LEASE), **changes)
    found = rows(store).values_list(*COLUMNS)
    return [from_row(row, token=77, own_until=0.0) for row in found]


@contextmanager
def failures():
    heard = []

    def receiver(**arguments):
        heard.append(arguments)

    publish_failed.connect(receiver)
    yield heard
    publish_failed.disconnect(receiver)


# -- writing ------------------------------------------------------------------------------------


def test_a_row_is_written_in_the_callers_transaction(store, kept, settings):
    settings.RMQ_OUTBOX_GRACE = 30
    queue = QueueConfig("q", message_ttl=5)
    with transaction.atomic(using=store):
        id_ = publish(
            b"\x00\xffbody", queue=queue, delivery="outbox", database=store, ordering_key="k",
            correlation_id="c", headers={"h": 1},
        )  # fmt: skip
        assert kept == []
    row = rows(store).get()
    assert (row.message_id, row.state, row.using) == (id_, "pending", "default")
    assert (row.exchange, row.routing_key, row.ordering_key) == ("", "q", "k")
    assert (row.correlation_id, bytes(row.body), row.size) == ("c", b"\x00\xffbody", 6)
    assert (row.attempts, row.unanswered, row.history) == (0, 0, [])
    assert (row.failed_at, row.finished_at, row.first_error_type) == (None, None, "")
    assert row.token != 0
    assert row.available_at - row.created_at == timedelta(seconds=30)
    assert abs(database_now(databases[store]) - row.created_at) < timedelta(minutes=1)
    [(database, [stored])] = kept
    [found] = rows(store).values_list(*COLUMNS)
    again = from_row(found, token=row.token, own_until=stored.own_until)
    assert (database, again) == (store, stored)
    assert stored.envelope.topology == (queue,)


def test_a_rollback_takes_the_row_with_it(store, kept):
    with transaction.atomic(using=store):
        publish("x", queue="q", delivery="outbox", database=store)
        assert rows(store).count() == 1
        transaction.set_rollback(True, using=store)
    assert rows(store).count() == 0
    assert kept == []


def test_a_rolled_back_savepoint_takes_its_rows_with_it(store, kept):
    with transaction.atomic(using=store):
        first = publish("1", queue="q", delivery="outbox", database=store)
        with transaction.atomic(using=store):
            publish("2", queue="q", delivery="outbox", database=store)
            transaction.set_rollback(True, using=store)
        third = publish("3", queue="q", delivery="outbox", database=store)
    sent = [stored.envelope.message_id for _, portion in kept for stored in portion]
    assert sent == [first, third] == list(rows(store).values_list("message_id", flat=True))


def test_without_a_transaction_it_is_committed_and_sent_at_once(store, kept):
    publish("x", queue="q", delivery="outbox", database=store)
    assert len(kept) == rows(store).count() == 1


def test_many_are_written_in_order(store, kept):
    bodies = [
        Message(str(number), ordering_key="own" if number % 2 else None) for number in range(450)
    ]
    ids = publish_many(bodies, queue="q", delivery="outbox", database=store, ordering_key="call")
    assert list(rows(store).values_list("message_id", flat=True)) == ids
    assert [bytes(body) for body in rows(store).values_list("body", flat=True)] == [
        str(number).encode() for number in range(450)
    ]
    assert list(rows(store).values_list("ordering_key", flat=True)[:2]) == ["call", "own"]
    [(_, sent)] = kept
    assert [(stored.id, stored.envelope.message_id) for stored in sent] == list(
        rows(store).values_list("id", "message_id")
    )


def test_many_are_written_wholly_or_not_at_all(store, kept, monkeypatch):
    """Without a transaction of the caller's they have one of their own."""
    inserted = []
    real = transitions.insert_pending

    def insert(connection, using, items, **options):
        if inserted:
            raise OperationalError("the database went away")
        inserted.append(items)
        real(connection, using, items, **options)
        return insert(connection, using, items, **options)

    monkeypatch.setattr(transitions, "insert_pending", insert)
    with pytest.raises(OperationalError):
        publish_many(["1", "2"], queue="q", delivery="outbox", database=store)
    assert inserted
    assert rows(store).count() == 0
    assert kept == []


def test_large_ones_are_written_too(store, kept):
    bodies = [bytes([number]) * 700_000 for number in range(4)]
    publish_many(bodies, queue="q", delivery="outbox", database=store)
    assert [bytes(body) for body in rows(store).values_list("body", flat=True)] == bodies


def test_without_grace_a_row_belongs_to_nobody(store, kept, settings):
    settings.RMQ_OUTBOX_GRACE = 0
    publish("x", queue="q", delivery="outbox", database=store)
    row = rows(store).get()
    assert (row.token, row.available_at) == (0, row.created_at)


def test_the_setting_says_so_too(store, kept, settings):
    settings.RMQ_DELIVERY = "outbox"
    with transaction.atomic(using=store):
        publish("x", queue="q")
    assert rows(store).count() == 1


class Keeping:
    """A router that keeps the app's tables out of ``other``."""

    def allow_migrate(self, db, app_label, **hints):
        return db != "other" if app_label == "rmq_publisher" else None


class Sending:
    """A router that sends everything to one database."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_write(self, model, **hints):
        return self.alias


@pytest.mark.django_db(databases=["default", "other"])
def test_a_database_without_the_table_is_refused_at_the_call(settings):
    settings.DATABASE_ROUTERS = [Keeping()]
    for call in (publish, lambda body, **options: publish_many([body], **options)):
        with pytest.raises(InvalidMessage, match=r"'other'.*DATABASE_ROUTERS"):
            call("x", queue="q", delivery="outbox", database="other")
    assert rows("other").count() == 0


def test_a_hook_that_may_not_be_registered_leaves_no_row(store, kept):
    databases[store].set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError):
            publish("x", queue="q", delivery="outbox", database=store)
        assert rows(store).count() == 0
    finally:
        databases[store].rollback()
        databases[store].set_autocommit(True)


# -- failures of on_commit ----------------------------------------------------------------------


@pytest.fixture
def refused(settings):
    settings.RMQ_URL = "amqp://guest:guest@127.0.0.1:9/"


def test_a_failed_publish_is_stored(store, refused):
    with failures() as heard, transaction.atomic(using=store):
        id_ = publish(b"\xff", queue="q", database=store, headers={"h": "v"})
    row = rows(store).get()
    assert (row.message_id, row.state, row.token) == (id_, "failed", 0)
    assert (row.attempts, row.unanswered) == (0, 1)
    assert row.first_error_type == row.last_error_type == "BrokerUnavailable"
    assert row.failed_at == row.last_failed_at == row.created_at
    assert row.failed_at < row.available_at <= row.failed_at + timedelta(seconds=2)
    assert [entry["type"] for entry in row.history] == ["BrokerUnavailable"]
    assert bytes(row.body) == b"\xff"
    [told] = heard
    assert told["will_retry"] is True
    assert apps.get_model("rmq_publisher", "PublishFailure").objects.using(store).get() == row


def test_a_permanent_error_is_dead_at_once(store, settings):
    settings.RMQ_URL = "memory://"
    with failures() as heard:
        publish("x", queue=QueueConfig("q", message_ttl=1), database=store)
        publish("x", queue=QueueConfig("q", message_ttl=2), database=store)  # 406
    row = rows(store).get()
    assert (row.state, row.available_at, row.attempts) == ("dead", None, 1)
    assert (row.last_error_type, row.last_error_code) == ("Rejected", 406)
    [told] = heard
    assert told["will_retry"] is False


def test_each_of_many_that_fails_is_stored(store, refused):
    with transaction.atomic(using=store):
        ids = publish_many(["1", "2", "3"], queue="q", database=store)
    assert list(rows(store).values_list("message_id", flat=True)) == ids


def test_one_that_cannot_be_stored_costs_the_others_nothing(store, refused, monkeypatch, caplog):
    real = failed_publishes._write_failures

    def write(database, items):
        if any(envelope.body == b"2" for _, envelope, _ in items):
            raise DatabaseError("not this one")
        return real(database, items)

    monkeypatch.setattr(failed_publishes, "_write_failures", write)
    with failures() as heard, transaction.atomic(using=store):
        ids = publish_many(["1", "2", "3"], queue="q", database=store)
    assert list(rows(store).values_list("message_id", flat=True)) == [ids[0], ids[2]]
    assert [told["will_retry"] for told in heard] == [True, False, True]
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert ids[1] in record.getMessage()
    assert "not this one" not in record.getMessage()


@ON_SERVERS
def test_a_connection_that_the_database_closed_is_replaced(store, refused):
    connection = databases[store]

    def drop_connection():
        with connection.cursor() as cursor:
            own = "pg_backend_pid()" if connection.vendor == "postgresql" else "CONNECTION_ID()"
            cursor.execute(f"SELECT {own}")
            (backend,) = cursor.fetchone()
        other = connection.copy()
        with other.cursor() as cursor:
            kill = (
                f"SELECT pg_terminate_backend({backend})"
                if connection.vendor == "postgresql"
                else f"KILL CONNECTION {backend}"
            )
            cursor.execute(kill)
        other.close()

    with transaction.atomic(using=store):
        transaction.on_commit(drop_connection, using=store)  # between the commit and our hook
        id_ = publish("x", queue="q", database=store)
    assert rows(store).get().message_id == id_


def _is_told(caplog, store, id_):
    """One log line says that the message is lost, for there is no row."""
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert id_ in record.getMessage()
    assert "lost" in record.getMessage()
    assert rows(store).count() == 0


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_with_the_database_gone_a_log_line_says_it_all(store, refused, caplog):
    path = databases[store].settings_dict["NAME"]
    databases[store].close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(databases[store].settings_dict, "NAME", f"{path}/nowhere/at.all")
        id_ = publish("x", queue="q", database=store)
    databases[store].close()
    _is_told(caplog, store, id_)
    assert "OperationalError: unable to open database file" in caplog.text


@pytest.mark.disturbs
@pytest.mark.parametrize("kind", KINDS)
def test_with_the_server_gone_a_log_line_says_it_all(
    kind, refused, request, caplog, django_db_blocker
):
    server = request.getfixturevalue(f"private_{kind}")(durable=False)
    with django_db_blocker.unblock(), attached("gone", server) as store:
        migrate(store, "rmq_publisher")
        with transaction.atomic(using=store):
            transaction.on_commit(server.kill, using=store)
            id_ = publish("x", queue="q", database=store)
        server.heal()
        databases[store].close()
        _is_told(caplog, store, id_)


@pytest.mark.django_db
def test_under_testcase_it_is_stored_inside_the_tests_transaction(
    refused, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        id_ = publish("x", queue="q")
    assert rows("default").get().message_id == id_


@pytest.mark.django_db(transaction=True)
def test_a_second_database_has_rows_of_its_own(refused):
    publish("x", queue="q", database="default")
    assert rows("default").count() == 1


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_before_the_migration_a_log_line_says_it_all(store, refused, caplog, settings):
    settings.DATABASE_ROUTERS = [Sending(store)]
    call_command("migrate", "rmq_publisher", "zero", database=store, verbosity=0)
    try:
        id_ = publish("x", queue="q", database=store)
        [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
        assert id_ in record.getMessage()
        mend = f"the table is missing: run manage.py migrate rmq_publisher --database {store}"
        assert mend in record.getMessage()
    finally:
        call_command("migrate", "rmq_publisher", database=store, verbosity=0)
    publish("x", queue="q", database=store)
    assert rows(store).count() == 1


# -- verdicts -----------------------------------------------------------------------------------

NAMES = {"message_id": "m", "exchange": "", "routing_key": "q"}
ANSWERS = [Unroutable(312, "NO_ROUTE"), Nacked("full"), Rejected(404, "NOT_FOUND")]
SILENCES = [BrokerUnavailable("down"), ConfirmTimeout("late")]
PERMANENT = [Rejected(403, "ACCESS_REFUSED"), Rejected(406, "no"), InvalidMessage("bad")]


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
def test_an_answer_counts_until_the_attempts_are_used_up(settings, error):
    settings.RMQ_MAX_ATTEMPTS = 3
    assert retry_policy.decide(loader.outbox(), error, 1, 50)[::2] == ("failed", 2)
    assert retry_policy.decide(loader.outbox(), error, 2, 0)[:3] == ("dead", None, 3)


@pytest.mark.parametrize("error", SILENCES, ids=repr)
def test_without_an_answer_nothing_dies(settings, error):
    settings.RMQ_MAX_ATTEMPTS = 3
    verdict = retry_policy.decide(loader.outbox(), error, 2, 100_000)
    assert (verdict.state, verdict.attempts, verdict.unanswered) == ("failed", 2, 100_001)


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_what_cannot_get_better_is_dead_at_once(error):
    assert retry_policy.decide(loader.outbox(), error)[:2] == ("dead", None)


def test_delays_double_up_to_the_setting(settings):
    settings.RMQ_RETRY_MAX_BACKOFF = 20
    for already, longest in [(0, 1), (1, 2), (2, 4), (4, 16), (5, 20), (10_000, 20)]:
        for attempts, unanswered in [(already, 0), (0, already)]:
            settings.RMQ_MAX_ATTEMPTS = 2**31 - 1
            delay = retry_policy.decide(
                loader.outbox(), Nacked("full"), attempts, unanswered
            ).delay
            assert longest / 2 <= delay <= longest


def test_words_are_short_and_printable():
    assert (
        retry_policy.words(Nacked("a\n\x1b[31mb\0" + "c" * 300)) == ("a [31mb " + "c" * 300)[:200]
    )
    assert retry_policy.words(Rejected(403, "ACCESS_REFUSED", **NAMES)) == "ACCESS_REFUSED"


# -- completing -----------------------------------------------------------------------------------


@pytest.fixture
def three(store, kept):
    publish_many(["1", "2", "3"], queue="q", delivery="outbox", database=store)
    return leased(store)


def test_what_was_confirmed_is_deleted(store, three):
    assert transitions.complete_confirmed(store, three[:2]) == 2
    assert list(rows(store).values_list("id", flat=True)) == [three[2].id]


def test_what_had_failed_is_kept_as_delivered(store, three):
    three[0].failed = True
    assert transitions.complete_confirmed(store, three) == 3
    row = rows(store).get()
    assert (row.id, row.state, row.token, row.available_at) == (three[0].id, "delivered", 0, None)
    assert row.finished_at is not None


def test_completing_is_fenced_by_the_token(store, three):
    """One that lost its lease marks nothing."""
    rows(store).update(token=78)
    three[2].failed = True
    before = list(rows(store).values())
    assert transitions.complete_confirmed(store, three) == 0
    assert (
        transitions.complete_failed(store, [(row, Nacked("full")) for row in three]) == [None] * 3
    )
    assert transitions.release(store, three) == 0
    assert list(rows(store).values()) == before


def test_a_failure_is_noted(store, three):
    states = transitions.complete_failed(
        store, [(three[0], Nacked("full")), (three[1], Rejected(403, "ACCESS_REFUSED", **NAMES))]
    )
    assert states == ["failed", "dead"]
    failed, dead, untouched = rows(store)
    now = database_now(databases[store])
    assert (failed.state, failed.token, failed.attempts) == ("failed", 0, 1)
    assert failed.available_at > failed.last_failed_at
    assert (dead.state, dead.available_at, dead.last_error_code) == ("dead", None, 403)
    assert (dead.last_error_text, dead.history[0]["code"]) == ("ACCESS_REFUSED", 403)
    assert now - failed.failed_at < timedelta(minutes=1)
    assert (untouched.state, untouched.token) == ("pending", 77)


def test_the_first_failure_is_remembered_beside_the_last(store, three):
    transitions.complete_failed(store, [(three[0], ConfirmTimeout("first"))])
    first = rows(store)[0]
    [again, *_] = leased(store)
    assert again.failed
    transitions.complete_failed(store, [(again, Unroutable(312, "NO_ROUTE", **NAMES))])
    row = rows(store)[0]
    assert (row.first_error_type, row.first_error_text) == ("ConfirmTimeout", "first")
    assert (row.last_error_type, row.last_error_code) == ("Unroutable", 312)
    assert row.failed_at == first.failed_at < row.last_failed_at
    assert [entry["type"] for entry in row.history] == ["ConfirmTimeout", "Unroutable"]
    assert (row.attempts, row.unanswered) == (1, 1)


def test_the_history_has_an_end(store, three, settings):
    settings.RMQ_MAX_ATTEMPTS = 1000
    for number in range(retry_policy.HISTORY_MAX + 2):
        [row, *_] = leased(store)
        transitions.complete_failed(store, [(row, Nacked(str(number)))])
    history = rows(store)[0].history
    assert len(history) == retry_policy.HISTORY_MAX
    assert (history[0]["text"], history[-1]["text"]) == ("2", str(retry_policy.HISTORY_MAX + 1))


def test_an_outage_longer_than_all_retries_leaves_nothing_dead(store, three, settings):
    settings.RMQ_MAX_ATTEMPTS = 2
    for _ in range(5):
        items = [(row, BrokerUnavailable("down")) for row in leased(store)]
        assert transitions.complete_failed(store, items) == ["failed"] * 3


def test_what_was_not_sent_is_given_back(store, three):
    assert transitions.release(store, three[:1]) == 1
    row = rows(store)[0]
    assert (row.state, row.token, row.attempts) == ("pending", 0, 0)
    assert row.available_at <= database_now(databases[store])


# -- what people do -----------------------------------------------------------------------------


@pytest.fixture
def failed(store, three):
    """Three rows: one waits for its backoff, one is dead, one is under a live lease."""
    transitions.complete_failed(store, [(row, Nacked("full")) for row in three])
    dead, sending = rows(store)[1], rows(store)[2]
    rows(store).filter(id=dead.id).update(state="dead", available_at=None)
    rows(store).filter(id=sending.id).update(token=5, available_at=DatabaseNow(LEASE))
    return [row.id for row in rows(store)]


def test_a_retry_makes_rows_due_with_fresh_attempts(store, failed):
    assert transitions.make_due(rows(store)) == 2
    now = database_now(databases[store])
    for row in rows(store)[:2]:
        assert (row.state, row.attempts, row.unanswered, row.token) == ("failed", 0, 0, 0)
        assert row.available_at <= now
        assert len(row.history) == 1


def test_nobody_touches_a_row_under_a_live_lease(store, failed):
    before = rows(store).values().get(id=failed[2])
    transitions.make_due(rows(store))
    transitions.discard(rows(store))
    assert rows(store).values().get(id=failed[2]) == before
    rows(store).filter(id=failed[2]).update(available_at=DatabaseNow(-1))  # the lease is over
    assert transitions.discard(rows(store)) == 1


def test_a_discarded_row_is_never_sent_again(store, failed):
    assert transitions.discard(rows(store)) == 2
    row = rows(store)[0]
    assert (row.state, row.available_at, row.token) == ("discarded", None, 0)
    assert row.finished_at is not None
    assert transitions.make_due(rows(store)) == 0


@pytest.mark.parametrize(
    "act", [transitions.make_due, transitions.discard], ids=["retry", "discard"]
)
def test_what_is_pending_or_delivered_is_not_for_people(store, three, act):
    rows(store).filter(id=three[0].id).update(state="delivered", available_at=None, token=0)
    rows(store).filter(id=three[1].id).update(token=0, available_at=DatabaseNow())
    before = list(rows(store).values())
    assert act(rows(store)) == 0
    assert list(rows(store).values()) == before


# -- pruning ------------------------------------------------------------------------------------


@pytest.fixture
def old(store, kept):
    """A row of each state, all of them a hundred days old."""
    states = ["pending", "failed", "dead", "delivered", "discarded"]
    publish_many(states, queue="q", delivery="outbox", database=store)
    then = DatabaseNow(-100 * 86400)
    for row, state in zip(rows(store), states, strict=True):
        finished = then if state in ("delivered", "discarded") else None
        failed = None if state == "pending" else then
        rows(store).filter(id=row.id).update(
            state=state, finished_at=finished, failed_at=failed, last_failed_at=failed
        )


@pytest.mark.parametrize(
    ("states", "gone"),
    [
        ({}, {"delivered", "discarded"}),
        ({"states": ["delivered"]}, {"delivered"}),
        ({"states": ["dead", "delivered"]}, {"dead", "delivered"}),
    ],
)
def test_what_is_finished_and_old_is_pruned(store, old, states, gone):
    everything = {"pending", "failed", "dead", "delivered", "discarded"}
    age = timedelta(days=99)
    assert transitions.prune(store, older_than=age, dry_run=True, **states) == len(gone)
    assert rows(store).count() == 5
    assert transitions.prune(store, older_than=timedelta(days=101), **states) == 0
    assert transitions.prune(store, older_than=age, batch=1, **states) == len(gone)
    assert set(rows(store).values_list("state", flat=True)) == everything - gone


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_nothing_that_is_to_be_sent_is_deleted_by_age(store, old, state):
    with pytest.raises(ValueError, match=state):
        transitions.prune(store, states=["delivered", state], older_than=timedelta(days=1))
    assert rows(store).count() == 5
