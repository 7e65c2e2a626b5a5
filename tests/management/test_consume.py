"""``manage.py rmq_consume`` in processes of its own, on RabbitMQ and PostgreSQL: signals and deaths."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import eventually
from tests.support.consuming.workers import Consuming, ended
from tests.support.rig.amqp import Amqp
from tests.support.rig.ladder import Broker
from tests.support.rig.processes import await_gone, children

pytestmark = pytest.mark.parametrize("store", ["postgres"], indirect=True)
TWENTY = [f"{number:02}" for number in range(20)]


@pytest.fixture
def consuming(
    rmq: Any, broker: Broker, amqp: Amqp, store: str, tmp_path: Path
) -> Iterator[Consuming]:
    queue = amqp.declare_queue(durable=True, arguments={"x-queue-type": "quorum"})
    it = Consuming(broker.url, amqp, queue, store, tmp_path)
    yield it
    it.end()


def test_a_signal_finishes_what_is_at_hand_and_gives_the_rest_back(
    consuming: Consuming, amqp: Amqp, tmp_path: Path
) -> None:
    """SIGTERM with 20 messages in hand: all handled or given back, none lost or handled twice."""
    consuming.send(range(20), wait=True)
    ready = tmp_path / "ready"
    worker = consuming.start(f"--ready-file={ready}", "--threads=4", once=True, prefetch=20)
    consuming.await_started(4)
    assert ready.read_text("utf-8") == f"{worker.pid}\n"
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: not ready.exists())
    consuming.go()
    code, output = ended(worker)
    assert code == 0, output
    assert len(consuming.effects()) == len(consuming.started()) == 4
    assert "handler 'work': handled 4\n" in output
    eventually(lambda: amqp.depth(consuming.queue) == 16)
    code, output = ended(consuming.start("--once", once=True))
    assert code == 0, output
    assert consuming.effects() == TWENTY
    assert amqp.depth(consuming.queue) == 0


def test_killed_in_mid_work_the_broker_has_all_back_and_each_is_done_once(
    consuming: Consuming, amqp: Amqp
) -> None:
    consuming.send(range(20), wait=True)
    worker = consuming.start("--threads=4", once=True, prefetch=20)
    consuming.await_started(4)
    worker.kill()
    ended(worker)
    eventually(lambda: amqp.depth(consuming.queue) == 20)
    assert consuming.effects() == []
    consuming.go()
    code, output = ended(consuming.start("--once", once=True))
    assert code == 0, output
    assert consuming.effects() == TWENTY


def test_a_second_signal_ends_it_at_once(consuming: Consuming, amqp: Amqp) -> None:
    consuming.send([1], wait=True)
    worker = consuming.start()
    consuming.await_started(1)
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: worker.poll() is not None or worker.send_signal(signal.SIGTERM))
    code, _ = ended(worker)
    assert code == -signal.SIGTERM
    eventually(lambda: amqp.depth(consuming.queue) == 1)


def test_a_handler_that_hangs_does_not_keep_it_from_ending(
    consuming: Consuming, amqp: Amqp
) -> None:
    consuming.send([1], wait=True)
    worker = consuming.start("--stop-timeout=0.5")
    consuming.await_started(1)
    worker.send_signal(signal.SIGTERM)
    code, output = ended(worker)
    assert code == 0, output
    assert "1 handlers are still running" in output
    eventually(lambda: amqp.depth(consuming.queue) == 1)


def test_a_process_that_dies_is_replaced_and_all_end_with_their_parent(
    consuming: Consuming, amqp: Amqp
) -> None:
    consuming.send([1], kill=True)
    consuming.send([2, 3], wait=True)
    parent = consuming.start("--processes=2", once=True, prefetch=1, max_attempts=50)
    eventually(lambda: len({pid for number, pid in consuming.started() if number == "01"}) >= 2)
    eventually(lambda: len(children(parent.pid)) == 2)
    workers = children(parent.pid)
    parent.kill()  # its children learn it by the end of their standard input
    consuming.go()
    parent.wait()
    await_gone(workers)
    eventually(lambda: amqp.depth(consuming.queue) >= 1)  # the one that kills
    assert set(consuming.effects()) <= {"02", "03"}


def test_a_process_whose_handler_runs_for_too_long_is_replaced(consuming: Consuming) -> None:
    consuming.send([1], wait=True)
    parent = consuming.start(
        "--processes=1", "--stop-timeout=5", once=True, timeout=0.3, max_attempts=50
    )
    eventually(lambda: len(consuming.started()) >= 2)
    consuming.go()
    eventually(lambda: consuming.effects() == ["01"])
    parent.send_signal(signal.SIGTERM)
    code, output = ended(parent)
    assert code == 0, output
    assert "has been running for more than 0.3 s" in output
    assert "ended with code 75 and is replaced" in output
