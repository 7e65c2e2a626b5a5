"""`rmq_relay`: its arguments, its exit code, and its process when it is signalled or killed."""

import ctypes
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db import connections as databases

from rmq_publisher import connections
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.management.commands import rmq_relay
from rmq_publisher.outbox import claims, relay
from rmq_publisher.outbox.relay import Relay
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.memory.transport import MemoryTransport
from tests.support.calls import PATIENCE, eventually
from tests.support.relays import Running, ids, once
from tests.support.rig.amqp import Amqp
from tests.support.rig.dbserver import DatabaseServer
from tests.support.rig.proxy import Proxy, closed_port
from tests.support.rows import change, column, store_rows

pytestmark = pytest.mark.usefixtures("rmq")


@pytest.fixture
def queue(amqp: Amqp) -> str:
    return amqp.declare_queue()


ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


# -- the command -----------------------------------------------------------------------------------


def command(store: str, *arguments: str) -> None:
    call_command("rmq_relay", "--database", store, *arguments, stdout=StringIO())


def test_once_ends_when_nothing_is_due(store: str, amqp: Amqp, queue: str) -> None:
    store_rows(store, 3, queue=queue)
    command(store, "--once")
    assert column(store, "id") == []
    assert len(ids(amqp, queue, 3)) == 3
    command(store, "--once")


@ON_SQLITE
def test_once_complains_of_a_broker_that_is_away(rmq: Any, store: str) -> None:
    rmq.RMQ_URL = f"amqp://guest@127.0.0.1:{closed_port()}/"
    store_rows(store, queue="q")
    with pytest.raises(CommandError, match=r"RabbitMQ connection 'default': .* refused"):
        command(store, "--once")
    assert column(store, "token") == [0]


@ON_SQLITE
@pytest.mark.usefixtures("store")
def test_once_complains_of_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("could not connect")

    monkeypatch.setattr(claims, "claim", away)
    with pytest.raises(CommandError, match="database 'default': could not connect"):
        command("default", "--once")


@ON_SQLITE
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("interval", ["0", "-1", "soon", "inf"])
def test_an_interval_that_is_none(interval: str) -> None:
    with pytest.raises(CommandError, match="poll-interval"):
        command("default", "--once", f"--poll-interval={interval}")


@ON_SQLITE
@pytest.mark.usefixtures("store")
def test_an_error_that_nobody_expected_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "claim", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("default", "--poll-interval=3600")


class PlayedRelay:
    """One whose database fails, or that works until it is stopped."""

    failing = ""
    left = ""

    def __init__(self, database: str, **_: Any) -> None:
        self.database, self.sent, self.unreachable = database, 0, []
        self._stopped = threading.Event()

    def run(self) -> None:
        if self.database == self.failing:
            raise OperationalError("no such host")
        assert self._stopped.wait(PATIENCE), "nobody stopped it"

    def stop(self) -> None:
        self._stopped.set()


@pytest.mark.parametrize("failing", ["default", "other"])
def test_one_that_fails_ends_them_all_and_is_named(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A supervisor starts them again; half a command that goes on would not be noticed."""
    monkeypatch.setattr(rmq_relay, "Relay", PlayedRelay)
    monkeypatch.setattr(PlayedRelay, "failing", failing)
    with pytest.raises(CommandError, match=f"^database '{failing}': no such host$"):
        command("default", "--database", "other")


class Blocked(MemoryTransport):
    """The way to a broker with an alarm."""

    def status(self) -> Status:
        return replace(super().status(), state="open", blocked="low on memory")


@ON_SQLITE
def test_once_complains_of_a_broker_that_blocks(store: str) -> None:
    store_rows(store, queue="q")
    with connections.replaced(Blocked):
        words = r"RabbitMQ connection 'default': blocked: low on memory"
        with pytest.raises(CommandError, match=words):
            command(store, "--once")
    assert column(store, "state", token=0) == ["pending"]


# -- processes -------------------------------------------------------------------------------------


_COMMAND = """
import json, sys
from django.conf import settings
url, database, options = json.loads(sys.argv[1])
settings.configure(RMQ_URL=url, DATABASES={"default": database}, USE_TZ=True,
                   INSTALLED_APPS=["rmq_publisher"], **options)
import django
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "rmq_relay", *sys.argv[2:]])
"""


@pytest.fixture
def spawn(store: str, proxy: Proxy) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Run the command in a process, through the proxy."""
    spawned: list[subprocess.Popen[str]] = []
    told = databases[store].settings_dict
    database = {
        name: told[name] for name in ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD")
    }
    database["OPTIONS"] = {
        name: value for name, value in told["OPTIONS"].items() if isinstance(value, str | int)
    }

    def spawning(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
        given = json.dumps([proxy.url, database, options], default=str)
        spawned.append(
            subprocess.Popen(
                [sys.executable, "-c", _COMMAND, given, *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return spawned[-1]

    yield spawning
    for process in spawned:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_batch_leaves_nothing_half_done(
    store: str, spawn: Any, proxy: Proxy, amqp: Amqp, queue: str, number: signal.Signals
) -> None:
    store_rows(store, 500, queue=queue)
    store_rows(store, 50, queue=queue, key=lambda number: f"k{number % 2}")
    expected = column(store, "message_id")
    slow = proxy.delay_acks(0.3)
    process = spawn(RMQ_OUTBOX_BATCH_SIZE=100)
    assert proxy.wait_for_publishes(20, PATIENCE)
    assert slow.wait()
    process.send_signal(number)
    assert ended(process) == (0, "")
    left = column(store, "message_id")
    assert 0 < len(left) < 550
    assert column(store, "token") == [0] * len(left)
    assert sorted([*ids(amqp, queue), *left]) == sorted(expected)


@ON_SQLITE
def test_a_signal_ends_it_whichever_thread_it_is_given_to(
    store: str, spawn: Any, proxy: Proxy
) -> None:
    """The kernel chooses one: after a SIGCONT often another than the first."""
    process = spawn()
    assert proxy.wait_for_event("broker Confirm.SelectOk", PATIENCE)
    threads = {int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir()}
    tgkill = ctypes.CDLL(None, use_errno=True).tgkill
    assert tgkill(process.pid, max(threads - {process.pid}), signal.SIGTERM) == 0
    assert ended(process) == (0, "")


@ON_SQLITE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    store: str, spawn: Any, proxy: Proxy, queue: str, number: signal.Signals
) -> None:
    store_rows(store, 3, queue=queue)
    proxy.swallow_acks(None)
    process = spawn(RMQ_PUBLISH_TIMEOUT=25)
    assert proxy.wait_for_publishes(1, PATIENCE)

    first = signal.SIGTERM if number == signal.SIGINT else signal.SIGINT
    process.send_signal(first)

    def ends() -> bool:
        process.send_signal(number)
        return process.poll() is not None

    eventually(ends)
    assert ended(process)[0] == -number
    assert len(column(store, "id", token__gt=0)) == 3


def test_a_killed_relay_loses_nothing(
    store: str, spawn: Any, proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    store_rows(store, 300, queue=queue)
    expected = column(store, "message_id")
    slow = proxy.delay_acks(0.3)
    process = spawn(RMQ_OUTBOX_BATCH_SIZE=100)
    assert proxy.wait_for_publishes(20, PATIENCE)
    assert slow.wait()
    process.kill()
    process.wait()
    held = column(store, "id", token__gt=0)
    assert 0 < len(held) <= 100
    change(store, held, available_at=DatabaseNow(-1))  # the lease comes to its end
    working = Running(Relay(store, poll_interval=0.05))
    eventually(lambda: column(store, "id") == [])
    working.end()
    arrived = ids(amqp, queue, 300)
    assert set(arrived) == set(expected)
    assert len(arrived) <= 300 + len(held)


def test_the_process_ends_with_one_where_something_is_away(store: str, spawn: Any) -> None:
    process = spawn("--once", RMQ_CONNECTIONS={"away": {"URL": "amqp://guest@127.0.0.1:9/"}})
    code, errors = ended(process)
    assert code == 1
    assert "RabbitMQ connection 'away'" in errors


@ON_SQLITE
def test_a_relay_for_each_database(
    rmq: Any, store: str, postgres: DatabaseServer, amqp: Amqp, queue: str
) -> None:
    from tests.support.rig.stores import attached, migrate  # noqa: PLC0415

    with attached("second", postgres) as second:
        migrate(second, "rmq_publisher")
        store_rows(store, 2, queue=queue)
        store_rows(second, 2, queue=queue)
        call_command("rmq_relay", "--once", "--database", store, "--database", second)
        assert len(ids(amqp, queue, 4)) == 4
        assert column(store, "id") == column(second, "id") == []


def test_it_says_when_it_begins_and_ends_and_nothing_of_bodies(
    store: str, queue: str, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    store_rows(store, 2, queue=queue, body=b"secret")
    store_rows(store, 2, queue="nobody takes it", body=b"secret")
    once(store)
    told = [record.getMessage() for record in caplog.records if record.name == relay.logger.name]
    assert told[0].endswith("started")
    assert told[-1].endswith("ended, 2 sent")
    assert len(told) == 2
    assert "secret" not in caplog.text


@pytest.fixture
def left(store: str, queue: str) -> None:
    """Two rows that are due, two that wait, one that is dead."""
    store_rows(store, 5, queue=queue)
    first, second, third, *_ = column(store, "id")
    change(store, [first], available_at=DatabaseNow(20))
    change(store, [second], available_at=DatabaseNow(3600), state="failed")
    change(store, [third], available_at=None, state="dead")


def test_at_its_end_it_says_what_it_sent_and_what_is_left(store: str, left: None) -> None:
    output = StringIO()
    call_command("rmq_relay", "--database", store, "--once", stdout=output)
    [line] = output.getvalue().splitlines()
    seconds = re.fullmatch(rf"database '{store}': sent 2; 2 not due for (\d+) s, 1 dead", line)
    assert seconds, line
    assert int(seconds[1]) <= 20


def test_what_is_due_and_cannot_be_sent_is_named(rmq: Any, store: str, left: None) -> None:
    rmq.RMQ_URL = f"amqp://guest@127.0.0.1:{closed_port()}/"
    output = StringIO()
    with pytest.raises(CommandError):
        call_command("rmq_relay", "--database", store, "--once", stdout=output)
    assert f"'{store}': sent 0; 2 due, 2 not due for " in output.getvalue()


def test_a_running_relay_reports_when_nothing_is_due(store: str, left: None, queue: str) -> None:
    lines: list[str] = []
    working = Running(Relay(store, poll_interval=0.05, say=lines.append))
    eventually(lambda: len(lines) == 1 and "sent 2; 2 not due for " in lines[0])
    store_rows(store, queue=queue)
    eventually(lambda: len(lines) == 2 and "sent 1; 2 not due for " in lines[1])
    working.end()
    assert len(lines) == 2
