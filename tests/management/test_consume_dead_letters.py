"""``rmq_consume --dead-letters``: what it stores, and what it says where it cannot."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from rmq_publisher import QueueConfig, publish
from rmq_publisher.consumer import dead_letter_work, dead_letters
from rmq_publisher.testing import MemoryBroker, memory_broker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker(settings: Any) -> MemoryBroker:
    settings.RMQ_URL = "memory://"
    broker = memory_broker()
    broker.reset()
    return broker


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("rmq_consume", "--once", *arguments, stdout=out)
    return out.getvalue()


def test_it_empties_dead_letter_queues(broker: MemoryBroker) -> None:
    for name in ("dead", "lost"):
        broker.declare(QueueConfig(name))
        publish(b"1", queue=name, delivery="now", message_id=name)
    said = run("--dead-letters", "dead", "--dead-letters", "lost", "--threads", "2")
    assert "dead letters of queue 'dead': ready, 2 threads" in said
    assert "dead letters of queue 'lost': handled 1" in said
    found = dead_letters.rows("default").values_list("message_id", "dead_letter_queue", "queue")
    assert set(found) == {("dead", "dead", ""), ("lost", "lost", "")}
    assert (broker.depth("dead"), broker.depth("lost")) == (0, 0)


def test_a_limit_ends_it(broker: MemoryBroker) -> None:
    broker.declare(QueueConfig("dead"))
    for _ in range(3):
        publish(b"1", queue="dead", delivery="now")
    assert "handled 2" in run("--dead-letters", "dead", "--limit", "2")
    assert (dead_letters.rows("default").count(), broker.depth("dead")) == (2, 1)


def test_it_runs_no_handlers_besides(broker: MemoryBroker) -> None:
    for arguments in (["name"], ["--queue", "q"]):
        with pytest.raises(CommandError, match="leave out NAME and --queue"):
            run("--dead-letters", "dead", *arguments)


def test_with_several_connections_it_wants_to_know_which(settings: Any) -> None:
    settings.RMQ_CONNECTIONS = {"a": {"URL": "memory://"}, "b": {"URL": "memory://"}}
    with pytest.raises(CommandError, match="name one with --using"):
        run("--dead-letters", "dead")


def test_a_queue_that_does_not_exist(broker: MemoryBroker) -> None:
    with pytest.raises(CommandError, match="404"):
        run("--dead-letters", "nowhere")


def test_a_missing_table_is_said_at_the_start(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> Any:
        raise OperationalError("no such table: rmq_publisher_deadletter")

    monkeypatch.setattr(dead_letters, "rows", missing)
    monkeypatch.setattr(dead_letter_work, "is_table_missing", lambda _: True)
    with pytest.raises(CommandError, match="migrate rmq_publisher"):
        run("--dead-letters", "dead")


def test_what_cannot_be_stored_ends_it_at_last(
    broker: MemoryBroker, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.declare(QueueConfig("dead"))
    publish(b"x" * 100, queue="dead", delivery="now")
    settings.RMQ_MAX_BODY_SIZE = 10
    monkeypatch.setattr(dead_letter_work, "LEFT_MAX", 0)
    with pytest.raises(CommandError, match="RMQ_MAX_BODY_SIZE allows 10"):
        run("--dead-letters", "dead")
    assert broker.depth("dead") == 1
