"""In which order a process forks and ends, however its parts were imported."""

import subprocess
import sys
import textwrap

import pytest

from rmq_publisher.monitoring import broker_status
from rmq_publisher.outbox import after_commit
from rmq_publisher.process import lifecycle
from rmq_publisher.process.lifecycle import AtExit, InChild
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.transport.handler import connections
from rmq_publisher.transport.rabbitmq import consume_thread


def said_by(program: str) -> list[str]:
    """The lines that a new process writes, its children's included."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("order", ["", "reversed"])
def test_a_process_drains_then_closes_then_counts(order: str) -> None:
    assert said_by(f"""
        from rmq_publisher.process.lifecycle import AtExit, register
        for step in {order or "list"}(AtExit):
            register(step, lambda name=step.name: print(name, flush=True))
    """) == ["BACKGROUND_SENDER", "CONNECTIONS", "PUBLISH_COUNTS"]


def test_what_registers_later_by_itself_still_finds_all_open() -> None:
    assert said_by("""
        import atexit
        from rmq_publisher.process.lifecycle import AtExit, register
        register(AtExit.CONNECTIONS, lambda: print("closed"))
        atexit.register(print, "published")
    """) == ["published", "closed"]


def test_a_step_that_raises_keeps_no_other_from_running() -> None:
    assert said_by("""
        from rmq_publisher.process.lifecycle import AtExit, register
        register(AtExit.BACKGROUND_SENDER, lambda: 1 / 0)
        register(AtExit.CONNECTIONS, lambda: print("closed"))
    """) == ["closed"]


def test_a_child_lets_go_in_the_order_of_the_steps() -> None:
    assert said_by("""
        import os
        from rmq_publisher.process.lifecycle import InChild, register
        for step in reversed(InChild):
            if step is not InChild.LOCKS:
                register(step, lambda name=step.name: print(name, flush=True))
        if pid := os.fork():
            os.waitpid(pid, 0)
        else:
            os._exit(0)
    """) == [step.name for step in InChild if step is not InChild.LOCKS]


def test_a_lock_is_held_while_forking_and_free_on_both_sides() -> None:
    assert said_by("""
        import os, threading
        from rmq_publisher.process.lifecycle import hold_over_fork
        lock = threading.Lock()
        hold_over_fork(lock)
        if pid := os.fork():
            os.waitpid(pid, 0)
            print("parent", lock.locked(), sep="=", flush=True)
        else:
            print("child", lock.locked(), sep="=", flush=True)
            os._exit(0)
    """) == ["child=False", "parent=False"]


def test_a_lock_is_taken_once_and_given_back_on_both_sides() -> None:
    assert said_by("""
        import os, threading
        from rmq_publisher.process.lifecycle import hold_over_fork
        class Lock:
            def __enter__(self): os.write(1, b"held\\n")
            def __exit__(self, *_): os.write(1, b"free\\n")
        hold_over_fork(Lock())
        if pid := os.fork():
            os.waitpid(pid, 0)
        else:
            os._exit(0)
    """) == ["held", "free", "free"]


def test_every_part_is_registered_for_its_own_step() -> None:
    assert lifecycle._calls[AtExit.BACKGROUND_SENDER] is after_commit._at_exit
    assert lifecycle._calls[AtExit.CONNECTIONS] == connections.close
    assert lifecycle._calls[AtExit.PUBLISH_COUNTS] is publish_counts._at_exit
    assert lifecycle._calls[InChild.CONNECTIONS] == connections._after_fork
    assert lifecycle._calls[InChild.BACKGROUND_SENDER] is after_commit._after_fork
    assert lifecycle._calls[InChild.PUBLISH_COUNTS] is publish_counts._after_fork
    assert lifecycle._calls[InChild.BROKER_STATUS] is broker_status._after_fork
    assert lifecycle._calls[InChild.CONSUMERS] is consume_thread._after_fork
    assert set(lifecycle._calls) == {*AtExit, *InChild}
