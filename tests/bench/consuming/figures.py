"""What is measured of consuming, and the tables of it."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.stored.figures import RATES, Rows, rate, ratio, verdict
from tests.bench.table import markdown

if TYPE_CHECKING:
    from tests.bench.stored.__main__ import Process, Stage

Measured = dict[str, Any]
HEAD = ["", RATES, "CPU µs/message"]
CONSUMER, WORKER = "rmq_publisher, Consumer", "rmq_publisher, a handler of rmq_consume"
PIKA, KOMBU, CELERY = "pika, BlockingConnection", "kombu, Consumer", "Celery, a worker (solo)"
BARE, ONCE, BATCH = "a bare loop of atomic()", "once=True", "once=True, once_batch=20"


@dataclass(frozen=True)
class Size:
    """How much of it."""

    messages: int
    tasks: int
    handled: int
    rounds: int
    later: int  # messages after which memory is looked at again

    @classmethod
    def quick(cls) -> Size:
        return cls(5_000, 1_000, 500, 3, 45_000)

    @classmethod
    def full(cls) -> Size:
        return cls(20_000, 5_000, 2_000, 5, 180_000)


class Rounds:
    """What was measured in each round, by who was measured."""

    def __init__(self) -> None:
        self.found: dict[str, list[Measured]] = {}

    def add(self, who: str, measured: Measured) -> None:
        self.found.setdefault(who, []).append(measured)

    def rates(self, who: str) -> list[float]:
        return [rate(measured) for measured in self.found[who]]

    def cpu(self, who: str) -> list[float]:
        return [measured["cpu"] / measured["messages"] * 1e6 for measured in self.found[who]]

    def table(self) -> str:
        rows = [
            [who, f"{statistics.median(self.rates(who)):,.0f}", f"{_middle(self.cpu(who))}"]
            for who in self.found
        ]
        return markdown(HEAD, rows)

    def figure(self, who: str, other: str, aim: float) -> tuple[str, str, str]:
        found = verdict(ratio(self.rates(who), self.rates(other)), aim)
        return f"{who} ÷ {other}", found, f"{aim:g}"


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values):.0f}"


def clients(stage: Stage, size: Size) -> tuple[Rows, str]:
    """Messages with an empty handler, each settled by itself."""
    rounds = Rounds()
    with contextlib.ExitStack() as stack:
        filler, ours, pika, kombu = (
            stack.enter_context(stage.peer(f"consuming.{name}"))
            for name in ("ours", "ours", "pika_blocking", "kombu_consumer")
        )
        turns = [
            (CONSUMER, ours, "consume"), (WORKER, ours, "handle"), (PIKA, pika, "consume"),
            (KOMBU, kombu, "consume"),
        ]  # fmt: skip
        for number in range(size.rounds):
            # Each time another one begins, so that none always comes after the same one.
            start = number % len(turns)
            for who, peer, do in turns[start:] + turns[:start]:
                _fill(stage, filler, "fill", size.messages)
                rounds.add(who, peer.run(do=do, messages=size.messages))
                _check_empty(stage)
            _fill(stage, filler, "fill_tasks", size.tasks)
            with stage.peer("consuming.celery_worker") as worker:
                rounds.add(CELERY, worker.run(do="consume", messages=size.tasks))
    faster = max((PIKA, KOMBU), key=lambda who: statistics.median(rounds.rates(who)))
    told = [
        rounds.figure(CONSUMER, faster, 1.2),
        (
            f"{CONSUMER} ÷ {PIKA}, processor time",
            verdict(ratio(rounds.cpu(CONSUMER), rounds.cpu(PIKA)), 0.85, most=True),
            "at most 0.85",
        ),
        rounds.figure(CONSUMER, CELERY, 4),
        rounds.figure(WORKER, CELERY, 4),
    ]
    ordered = Rounds()
    ordered.found = {who: rounds.found[who] for who in (CONSUMER, WORKER, PIKA, KOMBU, CELERY)}
    title = f"### {size.messages:,} messages of 1 KB, prefetch 100, each settled by itself"
    return told, f"{title}\n\n{ordered.table()}"


def _fill(stage: Stage, filler: Process, how: str, messages: int) -> None:
    stage.amqp.channel.queue_purge(stage.queue)
    filler.run(do=how, messages=messages)


def _check_empty(stage: Stage) -> None:
    left = stage.amqp.depth(stage.queue)
    assert left == 0, f"{left} messages were not settled"


def once(stage: Stage, size: Size) -> tuple[Rows, str]:
    """A handler that writes a row: with the inbox, and in a bare loop of transactions."""
    rounds = Rounds()
    tasks: dict[str, Measured] = {
        BARE: {"do": "bare"},
        ONCE: {"do": "handle", "row": True, "once": True},
        BATCH: {"do": "handle", "row": True, "once": True, "batch": 20},
    }
    with stage.peer("consuming.ours") as ours:
        for number in range(size.rounds):
            turns = list(tasks)
            start = number % len(turns)
            for who in turns[start:] + turns[:start]:
                ours.run(do="empty")
                if who != BARE:
                    _fill(stage, ours, "fill", size.handled)
                rounds.add(who, ours.run(**tasks[who], messages=size.handled))
                _check_empty(stage)
    told = [rounds.figure(ONCE, BARE, 0.8), rounds.figure(BATCH, ONCE, 1.5)]
    ordered = Rounds()
    ordered.found = {who: rounds.found[who] for who in tasks}
    title = f"### {size.handled:,} messages whose handler writes a row in PostgreSQL, one thread"
    return told, f"{title}\n\n{ordered.table()}"


def memory(stage: Stage, size: Size) -> tuple[Rows, str]:
    """What a consumer holds after many messages, and after many more."""
    with stage.peer("consuming.ours") as filler, stage.peer("consuming.ours") as ours:
        _fill(stage, filler, "fill", size.messages + size.later)
        held = ours.run(do="memory", messages=size.messages, later=size.later)
    grown = held["after"] - held["before"]
    total = size.messages + size.later
    told = [
        (
            f"MiB after {total:,} messages - after {size.messages:,}",
            verdict(grown, 2, most=True),
            "at most 2",
        )
    ]
    rows = [
        [f"{size.messages:,}", f"{held['before']:.1f}"],
        [f"{total:,}", f"{held['after']:.1f}"],
    ]
    return (
        told,
        f"### What a consumer's process holds\n\n{markdown(['after messages', 'MiB'], rows)}",
    )


PARTS: dict[str, Callable[[Stage, Size], tuple[Rows, str]]] = {
    "clients": clients, "once": once, "memory": memory,
}  # fmt: skip
