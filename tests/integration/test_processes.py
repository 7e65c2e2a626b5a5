"""The engine and the life of processes: forks, normal exits, exit handlers."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rmq_publisher import connections, publish
from rmq_publisher.transport.rabbitmq.transport import AmqpTransport
from tests.support.calls import PATIENCE
from tests.support.rig.amqp import Amqp
from tests.support.rig.proxy import Proxy
from tests.support.servers.running import Script


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
    script.say("go")
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


_FORK_BESIDE_A_HELD_LOCK = """
from rmq_publisher import connections
now()
transport = connections["default"]
held, forked = threading.Event(), threading.Event()
def hold():
    with connections._lock, transport._lock:
        held.set()
        forked.wait()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
if (child := os.fork()) == 0:
    signal.alarm(10)  # a call that waits for a lock has no deadline
    now()
    connections.close()
    say(connects=status().connects)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
forked.set()
holder.join()
now()
say(code=code)
"""


def test_a_lock_that_is_held_at_the_fork(start: Any, amqp: Amqp, queue: str) -> None:
    """The thread that would give it back does not exist in the child."""
    assert start(_FORK_BESIDE_A_HELD_LOCK).end() == [{"connects": 0}, {"code": 0}]
    assert len(ids(amqp, queue, 3)) == 3


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


_THOUSAND = """
from rmq_publisher import PublishManyError, publish_many
def end(number, frame):
    say(signal=number)
    sys.exit(3)
if HANDLED: signal.signal(signal.SIGTERM, end)
def work():
    try:
        publish_many([b"%d" % number for number in range(1000)], queue=queue, delivery="now")
    except PublishManyError as error:
        say(failed=len([one for one in error.outcomes if one]))
    else:
        say(failed=0)
now()
say(ready=True)
sys.stdin.readline()
"""
_ON_A_THREAD = """
threading.Thread(target=work, daemon=DAEMON).start()
while True: time.sleep(60)
"""


_IN_THE_CALL = """
try: work()
except BaseException as error:
    say(ended=type(error).__name__)
    raise
"""


def told_to_end(
    start: Any, proxy: Proxy, script: str, *, window: int = 64, handled: bool = True
) -> Script:
    """A script that got SIGTERM while a thousand messages waited for their confirms."""
    text = _THOUSAND.replace("HANDLED", str(handled)) + script
    started: Script = start(text, RMQ_MAX_IN_FLIGHT=window)
    assert started.line() == {"ready": True}
    stall = proxy.stall("client")
    started.say("go")
    assert proxy.wait_for_publishes(1 + window)
    assert stall.wait()
    started.process.terminate()
    return started


@pytest.mark.parametrize("window", [64, 1000])
@pytest.mark.parametrize("daemon", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_sigterm_with_a_thousand_in_flight(
    start: Any, proxy: Proxy, amqp: Amqp, queue: str, window: int, daemon: bool
) -> None:
    """A handler that calls sys.exit(), as servers have: all are confirmed before the process ends."""
    script = _ON_A_THREAD.replace("DAEMON", str(daemon))
    ending = told_to_end(start, proxy, script, window=window)
    assert ending.line() == {"signal": signal.SIGTERM}
    proxy.resume()
    told = ending.end(code=3)
    # A daemon thread may be gone before it can tell; the messages are not.
    assert told == [{"failed": 0}] or (daemon and not told)
    assert len(set(ids(amqp, queue, 1001))) == 1001
    assert proxy.wait_for_event("client Connection.Close")


def test_sigterm_in_the_call_itself(start: Any, proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """sys.exit() ends the call where it waits: what was not written yet is not sent any more."""
    ending = told_to_end(start, proxy, _IN_THE_CALL)
    assert ending.line() == {"signal": signal.SIGTERM}
    assert ending.line() == {"ended": "SystemExit"}
    proxy.resume()
    assert ending.end(code=3) == []
    assert len(set(ids(amqp, queue, 65))) == 65
    assert proxy.wait_for_event("client Connection.Close")


def test_sigterm_that_nobody_handles(start: Any, proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """It ends the process at once, as kill -9 does: only what was written can arrive."""
    script = _ON_A_THREAD.replace("DAEMON", "True")
    ending = told_to_end(start, proxy, script, handled=False)
    assert ending.process.wait(PATIENCE) == -signal.SIGTERM
    proxy.resume()
    assert proxy.wait_for_open(0)
    assert len(set(ids(amqp, queue, 65))) == 65


_HANDLER = """
def publish_at_exit():
    from rmq_publisher import PublishError
    try:
        say(outcome="confirmed", id=now())
    except PublishError as error:
        say(outcome=type(error).__name__, id=error.message_id, text=str(error))
    gc.collect()  # sockets that were left open are told of
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


@pytest.mark.usefixtures("rmq")
def test_the_process_id_alone_tells_that_the_connection_is_the_parents(amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    publish("parent", queue=queue, delivery="now")
    transport: Any = connections["default"]
    assert isinstance(transport, AmqpTransport)
    parents: Any = transport._thread
    parents.pid = os.getpid() + 1  # as a child finds it, where no hook ran
    try:
        publish("child", queue=queue, delivery="now")
        assert transport._thread is not parents
        assert parents.status().connects == 1  # and nobody touched it
    finally:
        parents.pid = os.getpid()
        parents.close(1.0)
    assert [message.body for message in amqp.drain(queue)] == [b"parent", b"child"]
