"""Real servers whose workers publish: gunicorn, uvicorn, uWSGI, and gevent's patched world."""

import json
import signal
import socket
import sys
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from rmq_publisher import QueueConfig, connections, publish
from rmq_publisher.models import OutboxMessage
from tests.support.calls import PATIENCE, Call, eventually
from tests.support.rig import wire
from tests.support.rig.amqp import Amqp
from tests.support.rig.faults import Fault, Step, Verdict
from tests.support.rig.ladder import Broker
from tests.support.rig.link import Link
from tests.support.rig.ports import closed_port, free_port, release_port
from tests.support.rig.proxy import Proxy
from tests.support.servers.running import Crowd, Script, Server

GUNICORN = ["-m", "gunicorn", "--bind=127.0.0.1:PORT", "--no-control-socket"]
UVICORN = [
    "-m",
    "uvicorn",
    "--port=PORT",
    "--no-access-log",
    "tests.support.servers.app:asgi_application",
]
UWSGI = [
    *("-c", "from pyuwsgi import run; run()", "--http-socket=127.0.0.1:PORT", "--need-app"),
    *(
        "--module=tests.support.servers.app:application",
        "--master",
        "--die-on-term",
        "--processes=2",
    ),
]
PATCHED = "from gevent import monkey; monkey.patch_all({})\n"


class Heartbeats(Fault):
    """Breaks nothing; counts the client's heartbeats."""

    def from_client(self, link: Link, frame: wire.Frame, step: Step) -> Verdict:
        if frame.kind == wire.HEARTBEAT:
            self.hit()
        return Verdict.PASS


@pytest.fixture
def queue(amqp: Amqp) -> str:
    return amqp.declare_queue()


def ids(amqp: Amqp, queue: str, expected: int = 1) -> list[str]:
    return [str(message.properties.message_id) for message in amqp.drain(queue, expected)]


def answered(answers: list[dict[str, Any]]) -> set[str]:
    return {message_id for answer in answers for message_id in answer["ids"]}


# -- gunicorn --------------------------------------------------------------------------------------


def test_gunicorn_preloaded_with_eight_workers(proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """One connection each, and nothing lost at a reload or at the end, both in mid-stream."""
    command = [
        *GUNICORN, "--preload", "--workers=8", "--threads=4", "tests.support.servers.app:application",
    ]  # fmt: skip
    with Server(command, proxy, queue, preload=True) as server:
        crowd = Crowd(server, "/some", 16)
        crowd.wait(lambda answers: len({answer["pid"] for answer in answers}) >= 8)
        server.process.send_signal(signal.SIGHUP)
        crowd.wait(lambda answers: len({answer["pid"] for answer in answers}) >= 16)
        delay = proxy.delay_acks(0.2)
        late = server.get("/behind")
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0, server.said
        answers = crowd.stop()
    assert delay.hits
    assert {answer["connects"] for answer in answers} == {1}
    assert proxy.connections_made == 1 + 16  # the master's own, of the preloading
    assert proxy.wait_for_open(0)
    expected = answered([*answers, late])
    arrived = ids(amqp, queue, len(expected))
    assert len(set(arrived)) == len(arrived)
    assert expected - set(arrived) == set()


@pytest.mark.thorough
def test_gunicorn_with_gevent_workers(proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """Many greenlets of a worker share its connection."""
    command = [
        *GUNICORN,
        "--worker-class=gevent",
        "--workers=2",
        "tests.support.servers.app:application",
    ]
    with Server(command, proxy, queue) as server:
        crowd = Crowd(server, "/some", 16)
        crowd.wait(lambda answers: len({answer["pid"] for answer in answers}) == 2)
        delay = proxy.delay_acks(0.2)
        late = server.get("/behind")
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0, server.said
        answers = crowd.stop()
    assert delay.hits
    assert {answer["connects"] for answer in answers} == {1}
    assert proxy.connections_made == 2
    expected = answered([*answers, late])
    assert expected - set(ids(amqp, queue, len(expected))) == set()


# -- ASGI ------------------------------------------------------------------------------------------


def test_an_asgi_view_publishes_a_hundred_at_once(proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """While they wait for their confirms, the loop of the one process turns and serves others."""
    with Server(UVICORN, proxy, queue) as server:
        first = server.get("/burst")
        stall = proxy.stall("client")
        call = Call(lambda: server.get("/burst"))
        assert proxy.wait_for_publishes(100 + 64)  # as many as may be in flight
        assert stall.wait()
        assert server.get("/flight")["in_flight"] == 64
        assert not call.done
        server.process.send_signal(signal.SIGTERM)  # it finishes what was asked before
        proxy.resume()
        second = call.value()
        server.ended()
    assert second["turns"] > 5  # held up, the loop would turn once or twice
    assert second["connects"] == 1
    assert proxy.connections_made == 1
    assert sorted(ids(amqp, queue, 200)) == sorted([*first["ids"], *second["ids"]])


# -- uWSGI -----------------------------------------------------------------------------------------


def states(port: int) -> set[str]:
    """What uWSGI's workers do, by its statistics server."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as connection,
        connection.makefile("rb") as answer,
    ):
        told = json.load(answer)
    return {worker["status"] for worker in told["workers"]}


def test_uwsgi_whose_master_has_published(proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """It forks without Python's fork hooks: the workers find out by themselves. Its end drains."""
    stats = free_port()
    command = [*UWSGI, f"--stats=127.0.0.1:{stats}"]
    with Server(command, proxy, queue, preload=True) as server:
        crowd = Crowd(server, "/some", 8)
        crowd.wait(lambda answers: len({answer["pid"] for answer in answers}) == 2)
        answers = crowd.stop()
        delay = proxy.delay_acks(0.2)
        late = server.get("/behind")
        # A worker that has answered is busy for another moment, and of a busy one uWSGI runs no atexit
        # hooks. The master tells who is busy; a request that asked would make its own worker busy.
        eventually(lambda: states(stats) == {"idle"})
        server.process.send_signal(signal.SIGTERM)
        server.ended()
    release_port(stats)
    assert delay.hits
    assert {answer["connects"] for answer in answers} == {1}
    assert proxy.connections_made == 1 + 2
    expected = answered([*answers, late])
    assert expected - set(ids(amqp, queue, len(expected) + 1)) == set()


@pytest.fixture
def unused(settings: Any) -> None:
    """A broker that nothing was published to: no transport to it has been made."""
    settings.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}"


def refusal() -> str:
    """The words of the first publish."""
    with pytest.raises(ImproperlyConfigured) as caught:
        publish("x", queue="q", delivery="now")
    return str(caught.value)


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What uWSGI 2.0.26 puts there when it runs without enable-threads."""
    module = SimpleNamespace(has_threads=0, version=b"2.0.26", opt={"master": True})
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return module


def test_uwsgi_without_threads_is_refused(unused: None, uwsgi: SimpleNamespace) -> None:
    assert "set enable-threads = true" in refusal()
    with pytest.raises(ImproperlyConfigured, match="RabbitMQ alias 'default': uWSGI"):
        connections["default"].status()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("delivery", ["on_commit", "outbox"])
def test_it_is_refused_before_the_commit(
    unused: None, uwsgi: SimpleNamespace, delivery: str
) -> None:
    """The caller learns it, and nothing is stored that nobody could send."""
    for block in (transaction.atomic, nullcontext):
        with pytest.raises(ImproperlyConfigured, match="enable-threads"), block():
            publish("x", queue="q", delivery=delivery)
    assert not OutboxMessage.objects.exists()


def test_uwsgi_with_threads(unused: None, uwsgi: SimpleNamespace) -> None:
    uwsgi.has_threads = 1
    assert connections["default"].status().state == "closed"


def test_the_memory_broker_needs_no_thread(settings: Any, uwsgi: SimpleNamespace) -> None:
    settings.RMQ_URL = "memory://"
    publish("x", queue=QueueConfig("q"), delivery="now")
    assert connections["default"].status().state == "open"


# -- greenlets -------------------------------------------------------------------------------------

_GREENLETS = """
from rmq_publisher import Message, publish_many
sent = []
def work():
    sent.extend(now() for _ in range(50))
threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
many = [Message("many", message_id=f"many-{number}") for number in range(1000)]
batch = threading.Thread(target=publish_many, args=(many,), kwargs={"queue": queue, "delivery": "now"})
batch.daemon = True  # its copy in the child waits for nothing
batch.start()
waiting = status().waiting
if (child := os.fork()) == 0:
    say(who="child", sent=[now() for _ in range(10)], connects=status().connects)
    sys.exit()
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
batch.join()
sent += [message.options["message_id"] for message in many] + [now() for _ in range(10)]
say(who="parent", sent=sent, connects=status().connects, code=code, waiting=waiting)
atexit.register(lambda: say(who="exit", sent=[now()], connects=status().connects))
"""


def test_gevents_greenlets(proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """Threads are greenlets there, the I/O thread among them; a fork copies it, alive, into the child."""
    with Script(_GREENLETS, proxy, queue, before=PATCHED.format("")) as script:
        told = script.end()
    assert [one["who"] for one in told] == ["child", "parent", "exit"]
    assert {one["connects"] for one in told} == {1}
    assert (told[1]["code"], told[1]["waiting"]) == (0, 1000)
    assert proxy.connections_made == 2
    sent = [message_id for one in told for message_id in one["sent"]]
    assert sorted(ids(amqp, queue, len(sent))) == sorted(sent)


_REFUSED = """
try: now()
except Exception as error: say(kind=type(error).__name__, text=str(error))
"""


@pytest.mark.parametrize("half", ["thread=False", "select=False"])
def test_half_patched_by_gevent_is_refused(proxy: Proxy, queue: str, half: str) -> None:
    with Script(_REFUSED, proxy, queue, before=PATCHED.format(half)) as script:
        [told] = script.end()
    assert told["kind"] == "ImproperlyConfigured"
    assert "gevent.monkey.patch_all()" in told["text"]
    assert proxy.connections_made == 0


@pytest.mark.thorough
def test_unpatched_beside_gevent(proxy: Proxy, amqp: Amqp, queue: str) -> None:
    """Neither threads nor poll() are gevent's: all is as it is without."""
    before = PATCHED.format("thread=False, select=False")
    with Script("say(id=now())", proxy, queue, before=before) as script:
        [told] = script.end()
    assert ids(amqp, queue) == [told["id"]]


@pytest.mark.parametrize("patched", ["select", "thread"])
def test_eventlet_is_refused(unused: None, monkeypatch: pytest.MonkeyPatch, patched: str) -> None:
    module = SimpleNamespace(is_monkey_patched=lambda name: name == patched)
    monkeypatch.setitem(sys.modules, "eventlet.patcher", module)
    assert "eventlet" in (text := refusal())
    assert "gthread" in text


# -- idle ------------------------------------------------------------------------------------------

_IDLE = """
import select
now()
say(ready=True)
select.select([sys.stdin], [], [])  # not readline(), in which no greenlet runs
now()
say(connects=status().connects)
"""


@pytest.mark.thorough
def test_idle_past_three_heartbeats(broker: Broker, amqp: Amqp, queue: str) -> None:
    """The connection is alive, with real threads, with greenlets, and between uWSGI's requests."""
    options: dict[str, Any] = {"RMQ_HEARTBEAT": 2}
    command = [*UWSGI[:-1], "--processes=1"]
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy.to(broker.url)) for _ in range(3)]
        plain = stack.enter_context(Script(_IDLE, proxies[0], queue, **options))
        green = stack.enter_context(
            Script(_IDLE, proxies[1], queue, before=PATCHED.format(""), **options)
        )
        server = stack.enter_context(Server(command, proxies[2], queue, **options))
        assert plain.line() == green.line() == {"ready": True}
        server.get("/some")
        for heartbeats in [proxy._arm(Heartbeats()) for proxy in proxies]:
            assert heartbeats.wait(PATIENCE, 7)  # one comes every half of the two seconds
        assert plain.end() == green.end() == [{"connects": 1}]
        assert server.get("/some")["connects"] == 1
        assert [proxy.connections_made for proxy in proxies] == [1, 1, 1]
    assert len(ids(amqp, queue, 24)) == 24
