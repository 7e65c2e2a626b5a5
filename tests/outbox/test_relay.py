"""The relay: sends what is due, survives what comes, and loses nothing when it does not."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError
from django.db import connections as databases
from psycopg import IsolationLevel

from rmq_publisher import QueueConfig, connections, signals
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.outbox import after_commit, claimer, claims, ordering_keys, relay, transitions
from rmq_publisher.outbox.notifier import PollSchedule
from rmq_publisher.outbox.relay import Relay
from rmq_publisher.outbox.row import NOT_SENT
from rmq_publisher.outbox.row_sender import send_now
from tests.support.calls import PATIENCE, Call, eventually
from tests.support.relays import Running, ids, once
from tests.support.rig.amqp import Amqp
from tests.support.rig.dbserver import DatabaseServer
from tests.support.rig.node import PrivateNode
from tests.support.rig.proxy import Proxy, closed_port
from tests.support.rows import change, column, store_rows

pytestmark = pytest.mark.usefixtures("rmq")


@pytest.fixture
def queue(amqp: Amqp) -> str:
    return amqp.declare_queue()


@pytest.fixture
def start(store: str) -> Iterator[Callable[..., Running]]:
    """Start a relay that looks at the table often, unless told otherwise."""
    started: list[Running] = []

    def starting(**options: Any) -> Running:
        started.append(Running(Relay(store, **{"poll_interval": 0.05, **options})))
        return started[-1]

    yield starting
    for running in started:
        running.end()


ON_POSTGRES = pytest.mark.parametrize("store", ["postgres"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def by_proxy(rmq: Any, proxy: Proxy) -> Proxy:
    rmq.RMQ_URL = proxy.url
    return proxy


# -- what it does ----------------------------------------------------------------------------------


def test_it_sends_what_is_due(store: str, amqp: Amqp, queue: str) -> None:
    store_rows(store, 30, queue=queue)
    store_rows(store, 30, queue=queue, key=lambda number: f"k{number % 3}")
    expected = column(store, "message_id")
    store_rows(store, queue=queue, available_at=DatabaseNow(60))
    assert once(store, batch_size=8).sent == 60
    assert sorted(ids(amqp, queue, 60)) == sorted(expected)
    assert len(column(store, "id")) == 1


def test_it_looks_again_and_again(store: str, start: Any, amqp: Amqp, queue: str) -> None:
    start()
    for _ in range(3):
        store_rows(store, 2, queue=queue)
        assert len(ids(amqp, queue, 2)) == 2
    eventually(lambda: column(store, "id") == [])


@ON_SQLITE
def test_it_sleeps_until_the_next_one_is_due(
    store: str, start: Any, amqp: Amqp, queue: str
) -> None:
    """A message that was scheduled is sent at its time, not at the next poll."""
    store_rows(store, queue=queue)
    once(store)  # it is connected: the next relay polls at once, before the other one is due
    store_rows(store, queue=queue, available_at=DatabaseNow(1.5))
    start(poll_interval=3600)
    assert len(ids(amqp, queue, 2)) == 2


def test_what_had_failed_is_kept_as_delivered(store: str, amqp: Amqp, queue: str) -> None:
    store_rows(store, queue=queue, state="failed", failed_at=DatabaseNow(-60))
    once(store)
    assert column(store, "state") == ["delivered"]
    assert len(ids(amqp, queue, 1)) == 1


def test_what_fails_is_noted_told_and_tried_later(store: str, amqp: Amqp, queue: str) -> None:
    told: list[Any] = []
    signals.publish_failed.connect(listen := lambda **what: told.append(what))
    store_rows(store, queue="nobody takes it")
    store_rows(store, queue=queue)
    assert once(store).sent == 1
    assert signals.publish_failed.disconnect(listen)
    assert [(type(one["error"]).__name__, one["will_retry"]) for one in told] == [
        ("Unroutable", True)
    ]
    assert column(store, "state") == ["failed"]
    assert column(store, "token") == [0]
    assert transitions.messages(store).filter(available_at__gt=DatabaseNow()).count() == 1


def test_what_it_has_declared_before_is_declared_anew(store: str, amqp: Amqp, queue: str) -> None:
    config = QueueConfig(queue)
    for _ in range(2):
        store_rows(store, 3, queue=config)
        assert once(store).sent == 3
        assert column(store, "state") == []  # no attempt was used up
        assert len(ids(amqp, queue, 3)) == 3
        amqp.delete_queue(queue)


def test_runs_of_a_key_arrive_in_order_from_several_relays(
    store: str, start: Any, amqp: Amqp, queue: str
) -> None:
    many, each = 10, 20
    store_rows(store, many * each, queue=queue, key=lambda number: f"k{number % many}")
    rows = transitions.messages(store).order_by("id").values_list("message_id", "ordering_key")
    expected: dict[str, list[str]] = {}
    for message_id, key in rows:
        expected.setdefault(key, []).append(message_id)
    key_of = dict(rows)
    for _ in range(3):
        start(batch_size=16)
    arrived: dict[str, list[str]] = {}
    for message_id in ids(amqp, queue, many * each):
        arrived.setdefault(key_of[message_id], []).append(message_id)
    assert arrived == expected


def test_a_failed_one_holds_its_key(store: str, amqp: Amqp, queue: str) -> None:
    [first] = store_rows(store, queue="nobody takes it", key=lambda _: "k")
    store_rows(store, 3, queue=queue, key=lambda _: "k")
    once(store)
    assert column(store, "state") == ["failed", "pending", "pending", "pending"]
    assert column(store, "token") == [0] * 4
    change(store, [first], state="dead", available_at=None)
    once(store)
    assert ids(amqp, queue) == []
    transitions.discard(transitions.messages(store).filter(id=first))
    assert once(store).sent == 3


def test_a_key_that_names_two_aliases_is_sent_over_one_at_a_time(
    rmq: Any, store: str, start: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_CONNECTIONS = {"b": {"URL": amqp.url}}
    start()
    for using in ("default", "b"):
        store_rows(store, queue=queue, using=using)
        assert len(ids(amqp, queue, 1)) == 1
    eventually(lambda: column(store, "id") == [])
    rows = [
        id_
        for using in ("default", "b", "default")
        for id_ in store_rows(
            store, queue=queue, using=using, key=lambda _: "k", available_at=DatabaseNow(60)
        )
    ]
    expected = column(store, "message_id")
    silence = by_proxy.stall("client")
    change(store, rows, available_at=DatabaseNow(-1))
    assert by_proxy.wait_for_publishes(2)
    store_rows(store, queue=(later := amqp.declare_queue()), using="b")
    assert len(ids(amqp, later, 1)) == 1
    assert column(store, "token", id__in=rows[1:]) == [0, 0]
    silence.disarm()
    eventually(lambda: column(store, "id") == [])
    assert ids(amqp, queue, 3) == expected


def test_a_run_goes_on_as_soon_as_it_can(store: str, start: Any, amqp: Amqp, queue: str) -> None:
    """A poll would come after an hour."""
    store_rows(store, 20, queue=queue, key=lambda _: "k")
    expected = column(store, "message_id")
    start(batch_size=4, poll_interval=3600)
    assert ids(amqp, queue, 20) == expected


def test_unkeyed_and_keyed_rows_take_turns(store: str, by_proxy: Proxy, queue: str) -> None:
    """However many there are of the one kind."""
    store_rows(store, 30, queue=queue)
    store_rows(store, 30, queue=queue, key=lambda number: f"k{number % 2}")
    by_proxy.swallow_acks(None)
    working = Running(Relay(store, batch_size=20))
    eventually(lambda: len(column(store, "id", token__gt=0)) == 20)
    leased = column(store, "ordering_key", token__gt=0)
    assert 0 < len([key for key in leased if key]) < len(leased)
    by_proxy.cut()
    by_proxy.disarm()
    working.end()


def test_keys_that_are_held_do_not_hold_the_others(
    store: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at some of the keys there is one at the other rows; all keys are seen once."""
    claimed: list[tuple[str, bool]] = []

    def noting(kind: str, claim: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            found = claim(*args, **options)
            claimed.append((kind, bool(found if kind == "plain" else found[0])))
            return found

        return noted

    monkeypatch.setattr(ordering_keys, "KEYS_AT_ONCE", 5)
    monkeypatch.setattr(claims, "claim", noting("plain", claims.claim))
    monkeypatch.setattr(claims, "claim_keys", noting("keys", claims.claim_keys))
    store_rows(store, 60, key=lambda number: f"k{number}", state="dead", available_at=None)
    store_rows(store, 40, queue=queue)
    assert once(store, batch_size=8, poll_interval=3600).sent == 40
    last = max(place for place, one in enumerate(claimed) if one == ("plain", True))
    assert claimed[: last + 1].count(("plain", True)) >= 10
    assert ("keys", True) not in claimed
    pairs = itertools.pairwise(claimed[: last + 1])
    assert (("keys", False), ("keys", False)) not in pairs
    assert claimed.count(("keys", False)) in (12, 13)


def test_what_happens_during_a_look_is_looked_at_again() -> None:
    schedule = PollSchedule(3600)
    schedule.begin()
    schedule.end()
    assert schedule.at > 0
    schedule.soon()
    schedule.begin()
    schedule.soon()
    schedule.end()
    assert schedule.at == 0
    schedule.begin()
    schedule.end()
    assert schedule.at > 0


# -- its hands -------------------------------------------------------------------------------------


def test_it_holds_a_batch_at_most(store: str, by_proxy: Proxy, queue: str) -> None:
    store_rows(store, 50, queue=queue)
    swallowed = by_proxy.swallow_acks(None)
    working = Running(Relay(store, batch_size=10))
    assert swallowed.wait()
    eventually(lambda: len(column(store, "id", token__gt=0)) == 10)
    working.relay.stop()
    by_proxy.cut()
    by_proxy.disarm()
    working.end()
    assert column(store, "id", token__gt=0) == []


def test_it_holds_twice_the_bytes_at_most(
    store: str, by_proxy: Proxy, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimer, "BATCH_BYTES", 250)
    store_rows(store, 20, queue=queue, body=b"x" * 100)
    swallowed = by_proxy.swallow_acks(None)
    working = Running(Relay(store, batch_size=100))
    assert swallowed.wait()
    eventually(lambda: len(column(store, "id", token__gt=0)) == 4)
    working.relay.stop()
    by_proxy.cut()
    by_proxy.disarm()
    working.end()


def test_the_next_batch_is_claimed_while_one_is_sent(
    rmq: Any, store: str, by_proxy: Proxy, queue: str
) -> None:
    rmq.RMQ_MAX_IN_FLIGHT = 1
    store_rows(store, 4, queue=queue)
    swallowed = by_proxy.swallow_acks(None)
    working = Running(Relay(store, batch_size=4))
    assert swallowed.wait()
    eventually(lambda: len(column(store, "id", token__gt=0)) == 4)
    assert by_proxy.publishes == 1
    by_proxy.cut()
    by_proxy.disarm()
    working.end()


def test_who_lost_the_lease_marks_nothing(store: str, by_proxy: Proxy, queue: str) -> None:
    [id_] = store_rows(store, queue=queue)
    slow = by_proxy.delay_acks(1.0)
    late = Running(Relay(store))
    assert by_proxy.wait_for_publishes(1)
    change(store, [id_], token=7, available_at=DatabaseNow(60))  # its lease was over, another came
    assert slow.wait()
    eventually(lambda: late.relay.sent)
    late.end()
    assert column(store, "token") == [7]
    assert column(store, "state") == ["pending"]


# -- sleeping --------------------------------------------------------------------------------------


def quiet(working: Running) -> None:
    """Wait until it has looked at the table and found nothing."""
    eventually(lambda: working.relay._claimer.plain.at > 0 and working.relay._claimer.keyed.at > 0)


@ON_POSTGRES
@pytest.mark.parametrize("key", ["", "k"])
def test_a_notification_wakes_it(store: str, start: Any, amqp: Amqp, queue: str, key: str) -> None:
    """A poll would come after an hour."""
    quiet(start(poll_interval=3600))
    for _ in range(3):
        store_rows(store, queue=queue, key=lambda _: key)
        after_commit.notify(store)
        assert len(ids(amqp, queue, 1)) == 1
    assert after_commit.flush(PATIENCE)


@ON_POSTGRES
def test_a_notification_is_heard_on_a_new_connection_too(
    store: str, start: Any, amqp: Amqp, queue: str, postgres: DatabaseServer
) -> None:
    working = start(poll_interval=3600)
    quiet(working)
    before = working.relay._listener._heard
    postgres.terminate_all()
    databases[store].close()
    eventually(lambda: working.relay._listener._heard not in (None, before))
    store_rows(store, queue=queue)
    after_commit.notify(store)
    assert len(ids(amqp, queue, 1)) == 1
    assert after_commit.flush(PATIENCE)


def test_stopping_wakes_it(start: Any) -> None:
    working = start(poll_interval=3600)
    quiet(working)
    working.end()


# -- brokers that are away -------------------------------------------------------------------------


@pytest.mark.parametrize("keyed", [False, True])
def test_a_silent_broker_leaves_room_for_another(
    rmq: Any, store: str, start: Any, by_proxy: Proxy, amqp: Amqp, queue: str, keyed: bool
) -> None:
    """It takes messages and does not answer; the older rows are its own.

    Its rows do not time out while the other broker's are awaited: that would make room too.
    """
    rmq.RMQ_CONNECTIONS = {"b": {"URL": amqp.url}}
    rmq.RMQ_OUTBOX_BATCH_SIZE, rmq.RMQ_PUBLISH_TIMEOUT = 8, 2 * PATIENCE
    rmq.RMQ_OUTBOX_LEASE = 4 * PATIENCE
    start()
    store_rows(store, queue=queue)
    assert len(ids(amqp, queue, 1)) == 1  # it is connected
    eventually(lambda: not column(store, "id"))  # and has its confirm: the window is open
    silence = by_proxy.stall("client")
    store_rows(store, 30, queue=queue, key=lambda number: f"k{number}" if keyed else "")
    assert by_proxy.wait_for_publishes(2)
    others = amqp.declare_queue()
    store_rows(store, 10, queue=others, using="b")
    assert len(ids(amqp, others, 10)) == 10
    silence.disarm()
    eventually(lambda: column(store, "id") == [])


def test_rows_of_a_broker_that_is_away_are_not_claimed(
    rmq: Any, store: str, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_CONNECTIONS = {"away": {"URL": f"amqp://guest@127.0.0.1:{closed_port()}/"}}
    away = store_rows(store, 3, queue=queue, using="away")
    store_rows(store, 3, queue=queue)
    working = once(store)
    assert len(ids(amqp, queue, 3)) == 3
    assert column(store, "id") == away
    assert column(store, "token") == [0] * 3
    assert column(store, "unanswered") == [0] * 3
    [why] = working.unreachable
    assert "'away'" in why
    assert "refused" in why


def test_it_goes_on_when_the_broker_is_there(
    store: str, start: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    by_proxy.refuse()
    store_rows(store, 3, queue=queue)
    start(poll_interval=3600)
    eventually(lambda: connections["default"].status().state == "down")
    by_proxy.accept()
    assert len(ids(amqp, queue, 3)) == 3
    eventually(lambda: column(store, "id") == [])


def test_a_connection_lost_in_mid_batch_loses_nothing(
    store: str, start: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    store_rows(store, 300, queue=queue)
    expected = column(store, "message_id")
    cut = by_proxy.cut_after_publish(100)
    start(batch_size=50)
    assert cut.wait()
    eventually(lambda: column(store, "id", state="pending") == [])
    arrived = ids(amqp, queue, 300)
    assert set(arrived) == set(expected)
    assert len(arrived) <= 300 + 64  # the window bounds the duplicates


@ON_SQLITE
@pytest.mark.disturbs
def test_nothing_is_claimed_while_the_broker_blocks(
    rmq: Any, store: str, node: PrivateNode, node_amqp: Amqp, start: Any
) -> None:
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = node.url(), 1.0
    queue = node_amqp.declare_queue()
    node.block()
    [first] = store_rows(store, queue=queue)
    start()
    eventually(lambda: column(store, "state") == ["failed"])  # it took one to learn of it
    change(store, [first], available_at=DatabaseNow(60))
    assert connections["default"].status().blocked
    more = store_rows(store, 3, queue=queue)
    assert not Call(lambda: looked_for_claims(store, more)).value()
    node.unblock()
    eventually(lambda: column(store, "id", state="pending") == [])


def looked_for_claims(store: str, more: list[int]) -> bool:
    """Whether any of these rows is claimed within some turns of the relay."""
    try:
        for _ in range(50):
            if column(store, "id", id__in=more, token__gt=0):
                return True
        return bool(column(store, "id", id__in=more, unanswered__gt=0))
    finally:
        databases[store].close()


# -- databases that are away -----------------------------------------------------------------------


@ON_POSTGRES
def test_a_database_that_was_away_is_told_once(
    store: str, start: Any, postgres: DatabaseServer, amqp: Amqp, queue: str, caplog: Any
) -> None:
    working = start()
    quiet(working)
    postgres.terminate_all()
    databases[store].close()
    store_rows(store, 5, queue=queue)
    assert len(ids(amqp, queue, 5)) == 5
    eventually(lambda: column(store, "id") == [])
    told = [record.getMessage() for record in caplog.records if record.name == relay.logger.name]
    assert len([line for line in told if "database unavailable" in line]) == 1
    assert len([line for line in told if "database available again" in line]) == 1


def test_outcomes_are_written_when_the_database_is_back(
    store: str, amqp: Amqp, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    complete, refused = transitions.complete_confirmed, list[int]()

    def away(database: str, rows: Any) -> int:
        if len(refused) < 3:
            refused.append(len(rows))
            raise OperationalError("server closed the connection")
        return complete(database, rows)

    monkeypatch.setattr(transitions, "complete_confirmed", away)
    store_rows(store, 3, queue=queue)
    working = Running(Relay(store))
    eventually(lambda: column(store, "id") == [])
    assert working.end().sent == 3
    assert refused == [3, 3, 3]
    assert caplog.text.count("database unavailable: server closed the connection") == 1
    assert len(ids(amqp, queue, 3)) == 3


# -- pruning ---------------------------------------------------------------------------------------


def test_it_deletes_what_is_finished_and_old(rmq: Any, store: str, queue: str) -> None:
    rmq.RMQ_FAILURE_RETENTION_DAYS = 2
    finished = {"state": "delivered", "available_at": None, "failed_at": DatabaseNow(-9)}
    old, new = (
        store_rows(
            store, finished_at=DatabaseNow(-timedelta(days=days).total_seconds()), **finished
        )
        for days in (3, 1)
    )
    assert column(store, "id") == [*old, *new]
    once(store)
    assert column(store, "id") == new


@ON_SQLITE
def test_an_idle_relay_prunes_once_an_hour(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    turns = threading.Semaphore(0)
    prune, poll = transitions.prune, claims.claim

    def pruning(*given: Any, **options: Any) -> int:
        done.append("pruned")
        return prune(*given, **options)

    def polling(*given: Any, **options: Any) -> Any:
        turns.release()
        return poll(*given, **options)

    monkeypatch.setattr(transitions, "prune", pruning)
    monkeypatch.setattr(claims, "claim", polling)
    relay = Relay(store, poll_interval=0.005)
    relay._pruner.due_at = 0.0  # and not a minute after its start
    working = Running(relay)
    try:
        for _ in range(20):
            assert turns.acquire(timeout=PATIENCE)
    finally:
        working.end()
    assert done == ["pruned"]


# -- a person's retry ------------------------------------------------------------------------------


def test_what_a_person_sends_is_sent_and_completed_within_the_call(
    store: str, amqp: Amqp, queue: str
) -> None:
    dead = {"state": "dead", "available_at": None, "failed_at": DatabaseNow(-60)}
    picked = [
        *store_rows(store, queue=queue, **dead),
        *store_rows(store, queue="nobody takes it", **dead),
    ]
    rows = claims.claim_rows(store, picked, lease=60.0)
    outcomes = {row.id: outcome for row, outcome in send_now(store, rows, connections.__getitem__)}
    assert outcomes[picked[0]] is None
    assert type(outcomes[picked[1]]).__name__ == "Unroutable"
    assert column(store, "state") == ["delivered", "failed"]
    assert column(store, "token") == [0, 0]
    assert NOT_SENT not in outcomes.values()


@ON_POSTGRES
def test_serialization_failures_are_tried_again_quietly(
    start: Callable[..., Running],
    store: str,
    amqp: Amqp,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Relays that take the same rows at REPEATABLE READ fail each other's statements."""
    options = databases.databases[store]["OPTIONS"]
    monkeypatch.setitem(options, "isolation_level", IsolationLevel.REPEATABLE_READ)
    for _ in range(3):
        start(batch_size=4, poll_interval=0.01)
    for _ in range(10):
        store_rows(store, 20, queue=queue)
    eventually(lambda: not column(store, "id"))
    assert len(set(ids(amqp, queue, 200))) == 200
    said = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one.getMessage() for one in said if one.name != "rmq_publisher.transport"] == []


@ON_POSTGRES
def test_a_conflict_ends_no_relay_that_runs_once(
    store: str, amqp: Amqp, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_rows(store, 3, queue=queue)
    real, conflicts = claims.claim, iter(range(3))

    def claim(*args: Any, **options: Any) -> Any:
        if next(conflicts, None) is not None:
            cause = psycopg.errors.SerializationFailure("could not serialize access")
            raise OperationalError(*cause.args) from cause
        return real(*args, **options)

    monkeypatch.setattr(claims, "claim", claim)
    assert once(store).sent == 3
