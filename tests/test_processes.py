"""The engine and the life of processes: forks, normal exits, exit handlers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.calls import PATIENCE
from tests.rig.amqp import Amqp
from tests.rig.proxy import Proxy

_PRELUDE = """
import atexit, json, os, sys, threading, time
from django.conf import settings
url, queue, options = json.loads(sys.argv[1])
settings.configure(RMQ_URL=url, **{"RMQ_PUBLISH_TIMEOUT": 20, **options})
import django
django.setup()

def say(**told):
    os.write(1, (json.dumps(told) + "\\n").encode())  # one write, whole lines from all processes

def now(body=b"x"):
    from rmq_publisher import publish
    return publish(body, queue=queue, delivery="now")

def status():
    from rmq_publisher import connections
    return connections["default"].status()
"""


class Script:
    """A process that publishes through the proxy, and what it said."""

    def __init__(self, text: str, proxy: Proxy, queue: str, **options: Any) -> None:
        arguments = json.dumps([proxy.url, queue, options])
        self.process = subprocess.Popen(
            # Python 3.12 and later warn of every fork beside threads; forking beside them is the point.
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PRELUDE + text, arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> dict[str, Any]:
        """The next thing that it says."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def end(self, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Let it come to its end, and return the rest of what it said."""
        out, err = self.process.communicate("go\n", timeout=timeout)
        assert (self.process.returncode, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def queue(amqp: Amqp) -> str:
    return amqp.declare_queue()


@pytest.fixture
def start(proxy: Proxy, queue: str) -> Iterator[Any]:
    """Start a script; it is ended with the test."""
    scripts: list[Script] = []

    def starting(text: str, **options: Any) -> Script:
        scripts.append(Script(text, proxy, queue, **options))
        return scripts[-1]

    yield starting
    for script in scripts:
        script.kill()


def ids(amqp: Amqp, queue: str, expected: int) -> list[str]:
    return [message.properties.message_id for message in amqp.drain(queue, expected)]


# -- forks -----------------------------------------------------------------------------------------

_FORK_IN_MID_STREAM = """
stop = threading.Event()
sent = []
def work():
    while not stop.is_set():
        sent.append(now())
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
children = []
for number in range(3):
    while len(sent) < 200 * (number + 1): time.sleep(0.001)
    if (child := os.fork()) == 0:
        mine = [now() for _ in range(20)]
        say(who="child", sent=mine, connects=status().connects)
        if number: sys.exit()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
before = len(sent)
while len(sent) < before + 200: time.sleep(0.001)
stop.set()
for thread in threads: thread.join()
say(who="parent", sent=sent, connects=status().connects, codes=codes)
"""


def test_fork_in_mid_stream(start: Any, proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """The parent's connection goes on; each child makes its own and leaves in its own way."""
    told = start(_FORK_IN_MID_STREAM).end()
    assert sorted(one["who"] for one in told) == ["child", "child", "child", "parent"]
    assert {one["connects"] for one in told} == {1}
    assert told[-1]["codes"] == [0, 0, 0]
    assert proxy.connections_made == 4
    sent = [message_id for one in told for message_id in one["sent"]]
    assert sorted(ids(amqp, queue, len(sent))) == sorted(sent)


_FORK_AND_DO_NOTHING = """
now()
if (child := os.fork()) == 0:
    sys.exit()
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
now()
say(connects=status().connects, code=code)
"""


def test_a_child_that_publishes_nothing_leaves_the_parents_connection_alone(
    start: Any, proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    assert start(_FORK_AND_DO_NOTHING).end() == [{"connects": 1, "code": 0}]
    assert proxy.connections_made == 1
    assert len(ids(amqp, queue, 2)) == 2


_OUTLIVING_CHILD = """
now()
if os.fork() == 0:
    say(who="child", pid=os.getpid())
    sys.stdin.readline()
    now()
    say(connects=status().connects)
    sys.exit()
time.sleep(60)
"""


def test_a_child_does_not_keep_a_dead_parents_connection_open(
    start: Any, proxy: Proxy, amqp: Amqp, queue: str
) -> None:
    script = start(_OUTLIVING_CHILD)
    assert script.line()["who"] == "child"
    assert proxy.connections_open == 1
    os.kill(script.process.pid, signal.SIGKILL)
    assert proxy.wait_for_open(0)
    assert script.process.stdin is not None
    script.process.stdin.write("go\n")
    script.process.stdin.flush()
    assert script.line() == {"connects": 1}
    assert proxy.wait_for_open(0)
    assert len(ids(amqp, queue, 2)) == 2


_PREFORK = """
import multiprocessing
now()
context = multiprocessing.get_context("fork")
def work():
    for _ in range(25): now()
    say(connects=status().connects)
children = [context.Process(target=work) for _ in range(4)]
for child in children: child.start()
for child in children: child.join()
say(codes=[child.exitcode for child in children])
"""


def test_forked_workers(start: Any, proxy: Proxy, amqp: Amqp, queue: str) -> None:
    told = start(_PREFORK).end()
    assert told == [{"connects": 1}] * 4 + [{"codes": [0] * 4}]
    assert proxy.connections_made == 5
    assert len(set(ids(amqp, queue, 101))) == 101


# -- exits -----------------------------------------------------------------------------------------

_EXIT_IN_FLIGHT = """
from rmq_publisher import publish_many
now()
def work():
    publish_many([b"%d" % number for number in range(3000)], queue=queue, delivery="now")
threading.Thread(target=work, daemon=True).start()
while not status().in_flight: time.sleep(0)
say(in_flight=status().in_flight)
"""


def test_a_normal_exit_drains(start: Any, proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """The main thread ends while another one's messages are on their way."""
    [told] = start(_EXIT_IN_FLIGHT).end()
    assert told["in_flight"]
    assert len(set(ids(amqp, queue, 3001))) == 3001
    assert proxy.wait_for_event("client Connection.Close")


_EXIT_WHILE_STALLED = """
now()
say(ready=True)
sys.stdin.readline()
def work():
    try: now()
    except Exception as error: say(outcome=type(error).__name__)
threading.Thread(target=work, daemon=True).start()
while not status().in_flight: time.sleep(0.001)
"""


def test_an_exit_does_not_wait_longer_than_a_call(start: Any, proxy: Proxy) -> None:
    script = start(_EXIT_WHILE_STALLED, RMQ_PUBLISH_TIMEOUT=1)
    assert script.line() == {"ready": True}
    stall = proxy.stall()
    began = time.monotonic()
    assert script.end() in ([{"outcome": "ConfirmTimeout"}], [])  # as far as it came to speak
    assert stall.hits
    assert time.monotonic() - began < 15


_HANDLER = """
def publish_at_exit():
    from rmq_publisher import PublishError
    try:
        say(outcome="confirmed", id=now())
    except PublishError as error:
        say(outcome=type(error).__name__, id=error.message_id, text=str(error))
    try:
        threading.Thread(target=len, args=("",)).start()
    except RuntimeError:
        say(threads_start=False)
    else:
        say(threads_start=True)
"""
_FIRST_IN_HANDLER = f"{_HANDLER}\natexit.register(publish_at_exit)"
_BEFORE_IMPORT = f"{_HANDLER}\natexit.register(publish_at_exit)\nnow()"
_AFTER_IMPORT = f"{_HANDLER}\nnow()\natexit.register(publish_at_exit)"


@pytest.mark.parametrize(
    ("script", "needs_a_thread", "earlier"),
    [(_FIRST_IN_HANDLER, True, 0), (_BEFORE_IMPORT, True, 1), (_AFTER_IMPORT, False, 1)],
)
def test_a_publish_in_an_exit_handler(
    start: Any, amqp: Amqp, queue: str, script: str, needs_a_thread: bool, earlier: int
) -> None:
    """Some versions of Python start no thread there (cpython#113964): it fails at once, and says so."""
    began = time.monotonic()
    told, threads = start(script).end()
    assert time.monotonic() - began < 15
    if needs_a_thread and not threads["threads_start"]:
        assert told["outcome"] == "BrokerUnavailable"
        assert "shutting down" in told["text"]
        assert told["id"]
    else:
        assert told["outcome"] == "confirmed"
        assert told["id"] in ids(amqp, queue, earlier + 1)
