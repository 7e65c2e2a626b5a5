"""``manage.py rmq_consume`` on the memory broker: which handlers run, until when, what it says."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from rmq_publisher import QueueConfig, connections, consume, publish
from rmq_publisher.consumer import handlers, lane
from rmq_publisher.management import worker_command
from rmq_publisher.management.worker_command import Status
from rmq_publisher.transport.memory.transport import broker_of
from tests.support.configured import configurer

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = [QueueConfig("a"), QueueConfig("b")]


@pytest.fixture(autouse=True)
def _broker(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(handlers, "_registered", {})
    monkeypatch.setattr(lane, "IDLE_SECONDS", 0.4)  # the memory broker delivers at once
    configurer(settings)(URL="memory://", QUEUES=QUEUES)
    broker_of("default").declare(*QUEUES)


@pytest.fixture
def got() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"a": [], "b": []}

    @consume("a", name="first")
    def first(body: Any, message: Any) -> None:
        found["a"].append(body)

    @consume(QUEUES[1], name="second", threads=2)
    def second(body: Any, message: Any) -> None:
        found["b"].append(body)

    for number in range(3):
        publish(json.dumps(number), queue="a", delivery="now")
        publish(json.dumps(number), queue="b", delivery="now")
    return found


def run(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command("rmq_consume", *arguments, stdout=out, **options)
    return out.getvalue()


def test_all_handlers_run_until_their_queues_are_empty(got: Any) -> None:
    output = run("--once")
    assert sorted(got["a"]) == sorted(got["b"]) == [0, 1, 2]
    assert output.splitlines() == [
        "handler 'first': ready, 1 threads",
        "handler 'second': ready, 2 threads",
        "handler 'first': handled 3",
        "handler 'second': handled 3",
    ]


def test_by_name_queue_and_connection(got: Any) -> None:
    run("first", "--once")
    assert (len(got["a"]), len(got["b"])) == (3, 0)
    run("--queue=b", "--using=default", "--once")
    assert (len(got["a"]), len(got["b"])) == (3, 3)


def test_a_limit_is_of_all_handlers_together(got: Any) -> None:
    run("--limit=4", "--threads=1")
    assert len(got["a"]) + len(got["b"]) == 4


def test_it_is_silent_if_asked(got: Any) -> None:
    assert run("--once", verbosity=0) == ""


MISTAKES = {
    "name": (["third"], "There is no handler 'third'; there are: first, second."),
    "queue": (["--queue=c"], "No handler is of that queue and connection."),
    "connection": (["--using=other"], "other"),
    "reload": (["--autoreload", "--processes=2"], "leave out --processes"),
    "threads": (["--threads=0"], "--threads"),
    "limit": (["--limit=0"], "--limit"),
    "timeout": (["--stop-timeout=0"], "--stop-timeout"),
    "ready file": (["--once", "--ready-file=/none/such"], "--ready-file /none/such: No such file"),
}


@pytest.mark.parametrize(("arguments", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told(got: Any, arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run(*arguments)
    assert got == {"a": [], "b": []}


def test_without_handlers_it_says_how_to_write_one() -> None:
    with pytest.raises(CommandError, match="decorate a function with @consume"):
        run()


def test_handlers_that_contradict_each_other_do_not_run(got: Any) -> None:
    @consume("a", name="first")
    def another(body: Any, message: Any) -> None: ...

    with pytest.raises(CommandError, match="has the name 'first'"):
        run("--once")


def test_a_missing_queue_ends_it_with_the_brokers_words(got: Any) -> None:
    broker_of("default").delete_queue("a")

    @consume("c", name="third")
    def third(body: Any, message: Any) -> None: ...

    with pytest.raises(CommandError, match="404"):
        run("third")
    connections.close()


def test_once_a_minute_it_says_how_it_goes(monkeypatch: pytest.MonkeyPatch, got: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(worker_command, "monotonic", lambda: now[0])
    lines: list[str] = []
    status = Status(lines.append)
    tick = Status.tick

    def ticking(self: Status, worker: Any) -> None:
        now[0] += 100.0
        tick(status, worker)

    monkeypatch.setattr(Status, "tick", ticking)
    run("--once")
    assert lines
    assert lines[-1].startswith("handled ")
    assert "/s, " in lines[-1]
