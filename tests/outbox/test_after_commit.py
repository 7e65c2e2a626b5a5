"""After commit: stored messages are sent and completed without making the request wait."""

import json
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db import connections as databases

from rmq_publisher import Message, QueueConfig, connections, publish, publish_many, signals
from rmq_publisher.conf.loader import connection
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.messages.compose import compose
from rmq_publisher.outbox import after_commit, background_sender, claims, completer, transitions
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.telemetry import outages
from rmq_publisher.testing import memory_broker
from rmq_publisher.timing import monotonic
from tests.support.calls import AT_ONCE, PATIENCE, Took, eventually
from tests.support.rig.amqp import Amqp
from tests.support.rig.dbserver import DatabaseServer
from tests.support.rig.proxy import Proxy
from tests.support.rows import change, column, store_rows

ON_POSTGRES = pytest.mark.parametrize("store", ["postgres"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def queue(amqp: Amqp) -> str:
    return amqp.declare_queue()


@pytest.fixture(autouse=True)
def _completed(rmq: Any, store: str) -> Iterator[None]:
    """Nothing of a test's own is under way when its tables are emptied."""
    yield
    connections.close()
    assert after_commit.flush(PATIENCE)


@pytest.fixture
def by_proxy(rmq: Any, proxy: Proxy) -> Proxy:
    rmq.RMQ_URL = proxy.url
    return proxy


@pytest.fixture
def send(store: str, queue: str) -> Callable[..., str]:
    def sending(**options: Any) -> str:
        given = {"routing_key": queue, "using": "default", "database": store, **options}
        return publish(b"x", delivery="outbox", **given)

    return sending


def received(amqp: Amqp, queue: str, expected: int = 0) -> list[str]:
    return [message.properties.message_id for message in amqp.drain(queue, expected)]


# -- what becomes of a row -------------------------------------------------------------------------


def test_what_is_confirmed_is_deleted(store: str, send: Any, amqp: Amqp, queue: str) -> None:
    with transaction.atomic(using=store):
        sent = [send() for _ in range(3)]
        assert column(store, "message_id") == sent
    assert after_commit.flush(PATIENCE)
    assert column(store, "id") == []
    assert received(amqp, queue, 3) == sent


def test_nothing_of_a_rolled_back_transaction(
    store: str, send: Any, amqp: Amqp, queue: str
) -> None:
    with transaction.atomic(using=store):
        send()
        transaction.set_rollback(True, using=store)
    send()
    assert after_commit.flush(PATIENCE)
    assert len(received(amqp, queue, 1)) == 1


def test_the_request_does_not_wait(store: str, send: Any, by_proxy: Proxy) -> None:
    send()
    assert after_commit.flush(PATIENCE)
    silence = by_proxy.stall("client")
    with Took() as took:
        send()
    assert took.seconds < AT_ONCE
    assert by_proxy.wait_for_publishes(2)
    assert column(store, "state") == ["pending"]
    silence.disarm()
    eventually(lambda: column(store, "id") == [])


def test_what_fails_waits_for_the_relay(store: str, send: Any) -> None:
    told: list[Any] = []
    signals.publish_failed.connect(listen := lambda **what: told.append(what))
    send(routing_key="nobody takes it")
    eventually(lambda: told)
    assert signals.publish_failed.disconnect(listen)
    assert [(type(one["error"]).__name__, one["will_retry"]) for one in told] == [
        ("Unroutable", True)
    ]
    assert column(store, "state") == ["failed"]
    assert column(store, "attempts") == [1]
    assert column(store, "token") == [0]


def test_listeners_hear_of_confirms(send: Any) -> None:
    told: list[Any] = []
    signals.message_published.connect(listen := lambda **what: told.append(what["message_id"]))
    sent = send()
    eventually(lambda: told == [sent])
    assert signals.message_published.disconnect(listen)


def test_a_row_that_changed_hands_is_left_as_it_is(store: str, send: Any, by_proxy: Proxy) -> None:
    slow = by_proxy.delay_acks(0.5)
    send()
    assert by_proxy.wait_for_publishes(1)
    change(store, column(store, "id"), available_at=DatabaseNow(-1))  # its grace is over
    [row] = claims.claim(store, aliases=["default"], limit=1, max_bytes=1, lease=60.0)
    assert slow.wait()
    assert after_commit.flush(PATIENCE)
    assert column(store, "token") == [row.token]


def test_without_a_grace_the_relay_sends(
    rmq: Any, store: str, send: Any, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_OUTBOX_GRACE = 0
    send()
    assert after_commit.flush(PATIENCE)
    assert column(store, "token") == [0]
    assert transitions.messages(store).filter(available_at__lte=DatabaseNow()).count() == 1
    assert received(amqp, queue) == []


def test_what_is_no_longer_ours_is_not_sent(
    rmq: Any, store: str, send: Any, amqp: Amqp, queue: str
) -> None:
    """With a grace as short as the timeout there is no time in which sending may begin."""
    rmq.RMQ_OUTBOX_GRACE = rmq.RMQ_PUBLISH_TIMEOUT = 5
    send()
    assert after_commit.flush(PATIENCE)
    assert column(store, "token") == [0]
    assert received(amqp, queue) == []


# -- keys ------------------------------------------------------------------------------------------


def test_keyed_rows_arrive_in_order(store: str, send: Any, amqp: Amqp, queue: str) -> None:
    sent = [send(ordering_key="k") for _ in range(20)]
    with transaction.atomic(using=store):
        sent += [send(ordering_key="k") for _ in range(5)]
    eventually(lambda: column(store, "id") == [])
    assert received(amqp, queue, 25) == sent


@pytest.mark.parametrize("state", ["pending", "dead"])
def test_a_row_with_another_before_it_is_left_to_the_relay(
    store: str, send: Any, amqp: Amqp, queue: str, state: str
) -> None:
    store_rows(store, key=lambda _: "k", available_at=DatabaseNow(60), state=state)
    sent = [send(ordering_key="k"), send(ordering_key="other"), send()]
    eventually(lambda: column(store, "token") == [0, 0])
    assert sorted(received(amqp, queue, 2)) == sorted(sent[1:])
    assert transitions.messages(store).filter(available_at__lte=DatabaseNow()).count() == 1


def test_a_key_that_names_two_aliases_is_sent_over_one_at_a_time(
    rmq: Any, store: str, send: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    """The relay sends what is behind the first change."""
    rmq.RMQ_CONNECTIONS = {"b": {"URL": amqp.url}}
    before = [send(), send(using="b")]
    assert after_commit.flush(PATIENCE)
    silence = by_proxy.stall("client")
    first = send(ordering_key="k")
    assert by_proxy.wait_for_publishes(2)
    later = [send(ordering_key="k", using=using) for using in ("b", "default")]
    other = send(using="b")
    eventually(lambda: column(store, "message_id", token=0) == later)
    assert sorted(received(amqp, queue, 4)) == sorted([*before, first, other])
    silence.disarm()
    eventually(lambda: column(store, "message_id") == later)


def test_a_transaction_may_name_two_aliases_for_a_key(
    rmq: Any, store: str, send: Any, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_CONNECTIONS = {"b": {"URL": amqp.url}}
    with transaction.atomic(using=store):
        at_once = [send(ordering_key="k"), send(ordering_key="k")]
        later = [send(ordering_key="k", using=using) for using in ("b", "default")]
        at_once.append(send(ordering_key="other", using="b"))
    eventually(lambda: column(store, "message_id") == later)
    eventually(lambda: column(store, "token") == [0, 0])
    assert sorted(received(amqp, queue, 3)) == sorted(at_once)


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [0, 1, 5])
def test_no_more_than_a_batch_is_sent_and_not_completed(
    rmq: Any,
    store: str,
    by_proxy: Proxy,
    amqp: Amqp,
    queue: str,
    keys: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the process is killed, no more than those are sent twice."""
    rmq.RMQ_OUTBOX_BATCH_SIZE = 4
    uncompleted: list[int] = []
    completed = 0
    complete = completer.Completer.complete

    def noted(outcomes: completer.Completer) -> None:
        nonlocal completed
        uncompleted.append(by_proxy.publishes - completed)
        completed += len(outcomes.confirmed)
        complete(outcomes)

    monkeypatch.setattr(completer.Completer, "complete", noted)
    items = [Message(b"x", ordering_key=f"{n % keys}" if keys else None) for n in range(40)]
    sent = publish_many(items, routing_key=queue, database=store, delivery="outbox")
    assert after_commit.flush(PATIENCE)
    assert sorted(received(amqp, queue, 40)) == sorted(sent)
    assert column(store, "id") == []
    assert max(uncompleted) <= 4


def test_completions_that_fail_cost_a_batch_each(
    rmq: Any, store: str, by_proxy: Proxy, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all that is in hand: a table may be locked for as long as it takes to send everything."""
    rmq.RMQ_OUTBOX_BATCH_SIZE = 4
    failures: list[int] = []

    def failing(database: str, rows: Any) -> int:
        failures.append(len(rows))
        raise OperationalError("locked")

    monkeypatch.setattr(transitions, "complete_confirmed", failing)
    publish_many([b"x"] * 40, routing_key=queue, database=store, delivery="outbox")
    assert after_commit.flush(PATIENCE)
    assert failures
    assert by_proxy.publishes <= 4
    assert len(column(store, "id")) == 40


def test_what_comes_meanwhile_waits_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows come faster than they are begun with, outcomes must be completed all the same."""
    worked = background_sender.BackgroundSender(connections.__getitem__)
    begun: list[list[int]] = []

    def begin(database: str, rows: Sequence[OutboxRow]) -> None:
        begun.append([row.id for row in rows])
        assert len(begun) < 3, "its turn never ends"
        worked._inbox.append((database, rows))

    monkeypatch.setattr(worked, "_begin", begin)
    envelope = compose(connection("default"), "x", routing_key="q")
    for number in (2, 1):  # the hooks of the later transaction have run first
        worked._inbox.append(("default", [OutboxRow(number, 7, "default", envelope, "k", 9e9)]))
    worked._cycle()
    assert begun == [[1, 2]]


def test_a_silent_broker_leaves_room_for_another(
    rmq: Any, store: str, send: Any, by_proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    rmq.RMQ_OUTBOX_BATCH_SIZE, rmq.RMQ_CONNECTIONS = 4, {"b": {"URL": amqp.url}}
    send()
    assert after_commit.flush(PATIENCE)
    silence = by_proxy.stall("client")
    held = [send() for _ in range(10)]
    other = send(using="b")
    eventually(lambda: column(store, "message_id") == held)
    assert other in received(amqp, queue, 2)
    silence.disarm()
    assert after_commit.flush(PATIENCE)
    assert column(store, "id") == []


@pytest.mark.parametrize("bound", [("MAX_ROWS", 2), ("MAX_BYTES", 14)], ids=str)
def test_what_does_not_fit_is_given_to_the_relay(
    store: str, send: Any, amqp: Amqp, queue: str, bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, by the background thread."""
    threads: list[str] = []
    release = transitions.release

    def noted(*args: Any) -> int:
        threads.append(threading.current_thread().name)
        return release(*args)

    monkeypatch.setattr(background_sender, *bound)
    monkeypatch.setattr(transitions, "release", noted)
    monkeypatch.setattr(background_sender, "IDS_AT_ONCE", 2)
    sent = publish_many([b"12345"] * 5, routing_key=queue, database=store, delivery="outbox")
    assert after_commit.flush(PATIENCE)
    assert column(store, "message_id") == sent[2:]
    assert (
        transitions.messages(store).filter(token=0, available_at__lte=DatabaseNow()).count() == 3
    )
    assert threads == ["rmq_publisher background sender"] * 2
    sent.append(send())
    assert after_commit.flush(PATIENCE)
    assert received(amqp, queue, 3) == [*sent[:2], sent[-1]]


@ON_SQLITE
@pytest.mark.parametrize("bound", [("MAX_ROWS", 2), ("MAX_BYTES", 2)], ids=str)
def test_what_is_held_leaves_less_room_for_the_next_transaction(
    store: str, send: Any, by_proxy: Proxy, bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_sender, *bound)
    send()
    assert after_commit.flush(PATIENCE)
    silence = by_proxy.stall("client")
    send()
    send()
    left = send()
    eventually(lambda: column(store, "message_id", token=0) == [left])
    silence.disarm()
    assert after_commit.flush(PATIENCE)
    assert column(store, "message_id") == [left]


def test_it_does_not_rest_before_all_is_given_to_the_relay(
    store: str, queue: str, rmq: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_sender, "MAX_ROWS", 0)
    monkeypatch.setattr(background_sender, "IDS_AT_ONCE", 1)
    publish_many([b"x"] * 50, routing_key=queue, database=store, delivery="outbox")
    assert after_commit.flush(PATIENCE)
    assert column(store, "token") == [0] * 50


# -- within the call -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
def test_with_the_memory_broker_all_happens_within_the_call(
    rmq: Any, store: str, key: str | None
) -> None:
    rmq.RMQ_URL = "memory://"
    broker = memory_broker()
    broker.reset()
    sent = publish(
        b"x", queue=QueueConfig("q"), database=store, delivery="outbox", ordering_key=key
    )
    assert column(store, "id") == []
    assert [message.message_id for message in broker.drain("q")] == [sent]
    publish(b"x", routing_key="gone", database=store, delivery="outbox", ordering_key=key)
    assert column(store, "state") == ["failed"]


def test_within_the_call_one_alias_is_used_after_the_other(rmq: Any, store: str) -> None:
    rmq.RMQ_URL, rmq.RMQ_CONNECTIONS = "memory://", {"b": {"URL": "memory://"}}
    with transaction.atomic(using=store):
        for using in ("default", "b", "b", "default"):
            publish(
                b"x",
                queue=QueueConfig("q"),
                using=using,
                database=store,
                delivery="outbox",
                ordering_key="k",
            )
    assert column(store, "id") == []


def test_in_an_outer_transaction_all_happens_within_the_call(
    store: str, send: Any, amqp: Amqp, queue: str
) -> None:
    """As in a TestCase, whose captured hooks run within its own transaction."""
    with transaction.atomic(using=store):
        message = compose(connection("default"), b"x", routing_key=queue)
        rows = transitions.insert(store, "default", [message], ordering_keys=[""], timeout=5.0)
        after_commit.send_committed(store, rows)
        assert column(store, "id") == []
    assert len(received(amqp, queue, 1)) == 1


# -- its database connections ----------------------------------------------------------------------


@ON_POSTGRES
def test_it_holds_no_connection_when_idle(store: str, send: Any, postgres: DatabaseServer) -> None:
    send()
    eventually(lambda: column(store, "id") == [])
    [own] = databases[store].cursor().execute("SELECT pg_backend_pid()").fetchone()
    eventually(lambda: set(postgres.backends()) <= {own})


@ON_POSTGRES
def test_a_connection_that_the_database_closed_is_replaced(
    store: str, send: Any, by_proxy: Proxy, postgres: DatabaseServer
) -> None:
    send()
    eventually(lambda: column(store, "id") == [])
    databases[store].close()
    slow = by_proxy.delay_acks(0.3)
    send()
    databases[store].close()
    assert by_proxy.wait_for_publishes(2)
    assert postgres.terminate_all() == 1  # its own, kept since the first message
    databases[store].close()
    assert slow.wait()
    eventually(lambda: column(store, "id") == [])


def test_a_database_that_is_away_costs_nobody_anything(
    store: str, send: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    asked: list[int] = []

    def away(_: str, rows: Any) -> None:
        asked.append(len(rows))
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(transitions, "complete_confirmed", away)
        send()
        assert after_commit.flush(PATIENCE)
    assert asked == [1, 1]  # the second time on another connection
    assert "the relay will send the stored messages (OperationalError)" in caplog.text
    assert column(store, "state") == ["pending"]
    send()
    eventually(lambda: len(column(store, "id")) == 1)


def test_an_outage_is_told_now_and_then(
    store: str, send: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Nobody reads forty lines a second, and they would push out the others."""
    now = [1000.0]
    monkeypatch.setattr(completer, "monotonic", lambda: now[0])
    monkeypatch.setattr(outages, "monotonic", lambda: 1000.0)  # the outage stays young
    monkeypatch.setattr(completer, "_failures", defaultdict(completer.FailureCount))
    settings.RMQ_URL = "amqp://127.0.0.1:1"
    for _ in range(3):
        send()
        assert after_commit.flush(PATIENCE)
    now[0] += completer.LOG_SECONDS
    send()
    assert after_commit.flush(PATIENCE)
    lines = [text for text in caplog.messages if "will be retried" in text]
    assert [re.findall(r"for (\d+ stored messages?),", line) for line in lines] == [
        ["1 stored message"],
        ["3 stored messages"],
    ]


def test_after_its_death_the_next_message_starts_another(
    store: str, send: Any, amqp: Amqp, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(background_sender.RowSender, "collect", lambda _: 1 / 0)
        send()
        assert after_commit.flush(PATIENCE)
    assert "the background sender failed with ZeroDivisionError" in caplog.text
    assert column(store, "state") == ["pending"]
    sent = send()
    assert after_commit.flush(PATIENCE)
    assert sent in received(amqp, queue, 2)
    assert len(column(store, "id")) == 1


# -- notifications ---------------------------------------------------------------------------------


@pytest.fixture
def heard(store: str, postgres: DatabaseServer) -> Iterator[Callable[[float], bool]]:
    """Whether relays were notified within so many seconds."""
    with closing(postgres.connect()) as connection:
        connection.execute("LISTEN rmq_publisher")
        yield lambda seconds: any(True for _ in connection.notifies(timeout=seconds, stop_after=1))


@ON_POSTGRES
def test_relays_are_told_of_what_is_left_to_them(rmq: Any, send: Any, heard: Any) -> None:
    rmq.RMQ_OUTBOX_GRACE = 0
    send()
    assert heard(PATIENCE)


@ON_POSTGRES
def test_relays_are_not_told_before_the_commit(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes rows due in a transaction tells them too early: they would look in vain."""
    told: list[str] = []
    monkeypatch.setattr(after_commit._sender, "notify", told.append)
    with transaction.atomic(using=store):
        after_commit.notify(store)
    assert told == []
    after_commit.notify(store)
    assert told == [store]


@ON_POSTGRES
def test_relays_are_told_of_what_does_not_fit(
    send: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_sender, "MAX_ROWS", 0)
    send()
    assert heard(PATIENCE)


@ON_POSTGRES
def test_relays_are_told_when_a_keyed_row_makes_way(store: str, send: Any, heard: Any) -> None:
    store_rows(store, key=lambda _: "k", available_at=DatabaseNow(60))
    send(ordering_key="k")
    assert heard(PATIENCE)


@ON_POSTGRES
def test_relays_are_not_told_of_what_was_sent(store: str, send: Any, heard: Any) -> None:
    send()
    assert after_commit.flush(PATIENCE)
    assert column(store, "id") == []
    assert not heard(0.1)


@ON_POSTGRES
def test_relays_are_not_told_where_no_broker_is(
    rmq: Any, store: str, send: Any, heard: Any, proxy: Proxy
) -> None:
    proxy.refuse()
    rmq.RMQ_URL = proxy.url
    send()
    eventually(lambda: connections["default"].status().state == "down")
    rmq.RMQ_OUTBOX_GRACE = 0
    send()
    assert after_commit.flush(PATIENCE)
    assert not heard(0.1)
    assert len(column(store, "id")) == 2


# -- processes -------------------------------------------------------------------------------------

_PRELUDE = """
import json, os, sys, threading, time
from django.conf import settings
url, queue, database = json.loads(sys.argv[1])
settings.configure(RMQ_URL=url, DATABASES={"default": database}, USE_TZ=True,
                   INSTALLED_APPS=["rmq_publisher"])
import django
django.setup()
from rmq_publisher import publish
from rmq_publisher.outbox import after_commit, transitions
def send():
    return publish(b"x", routing_key=queue, delivery="outbox")
def left():
    return transitions.messages("default").count()
def say(**told):
    os.write(1, (json.dumps(told) + "\\n").encode())
"""


def run(text: str, store: str, queue: str, url: str) -> list[dict[str, Any]]:
    """What a process says that uses the test's database."""
    told = databases[store].settings_dict
    database = {
        name: told[name] for name in ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD")
    }
    database["OPTIONS"] = {
        name: value for name, value in told["OPTIONS"].items() if isinstance(value, str | int)
    }
    told_of = json.dumps([url, queue, database], default=str)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PRELUDE + text, told_of],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_normal_exit_settles(store: str, rmq: Any, amqp: Amqp, queue: str) -> None:
    script = "\nfor _ in range(200): last = send()\nsay(last=last)\n"
    [told] = run(script, store, queue, rmq.RMQ_URL)
    assert column(store, "id") == []
    assert received(amqp, queue, 200)[-1] == told["last"]


_FORK = """
from django.db import connections
send()
after_commit.flush(20)
send()
connections.close_all()
if (child := os.fork()) == 0:
    send()
    say(own=after_commit.flush(20), left=left())
    sys.exit()
os.waitpid(child, 0)
send()
say(own=after_commit.flush(20), left=left())
"""


def test_a_forked_child_has_its_own(store: str, rmq: Any, amqp: Amqp, queue: str) -> None:
    told = run(_FORK, store, queue, rmq.RMQ_URL)
    assert told == [{"own": True, "left": 0}] * 2
    assert len(set(received(amqp, queue, 4))) == 4


def test_many_threads_share_it(store: str, send: Any, amqp: Amqp, queue: str) -> None:
    sent: list[str] = []

    def working() -> None:
        try:
            sent.extend(send() for _ in range(20))
        finally:
            databases[store].close()

    threads = [threading.Thread(target=working) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert after_commit.flush(PATIENCE)
    assert column(store, "id") == []
    assert sorted(received(amqp, queue, 80)) == sorted(sent)


def test_flushing_tells_whether_it_came_to_rest(send: Any, by_proxy: Proxy) -> None:
    slow = by_proxy.delay_acks(1.0)
    send()
    before = monotonic()
    assert not after_commit.flush(0.1)
    assert after_commit.flush(PATIENCE)
    assert slow.hits
    assert monotonic() - before >= 0.5
