"""What is measured of sending Celery tasks, and the tables of it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.consuming.figures import Rounds
from tests.bench.stored.figures import Rows, ratio, verdict
from tests.bench.table import markdown

if TYPE_CHECKING:
    from tests.bench.stored.__main__ import Process, Stage

Measured = dict[str, Any]
OURS, APP = 'CeleryTask, delivery="now"', 'a Celery app with AMQP, delivery="now"'
COMMIT = "CeleryTask, in the transaction"
CONFIRMED, UNCONFIRMED = "Celery, confirm_publish", "Celery, unconfirmed"
TRANSACTION = 200
ARRIVAL = 30.0  # seconds in which the messages must have arrived


@dataclass(frozen=True)
class Size:
    """How much of it."""

    rounds: int
    seconds: float
    calls: int

    @classmethod
    def quick(cls) -> Size:
        return cls(5, 0.3, 300)

    @classmethod
    def full(cls) -> Size:
        return cls(15, 1.0, 1_000)


@contextlib.contextmanager
def _senders(stage: Stage) -> Iterator[dict[str, Process]]:
    with contextlib.ExitStack() as stack:
        ways = {CONFIRMED: "confirmed", UNCONFIRMED: "unconfirmed", APP: "amqp"}
        senders = {OURS: stack.enter_context(stage.peer("tasks.ours"))}
        for who, way in ways.items():
            settings = {"way": way, "RMQ_CELERY_DELIVERY": "now"}
            senders[who] = stack.enter_context(stage.peer("tasks.celery_app", **settings))
        yield senders


def _compete(stage: Stage, senders: dict[str, Process], rounds: int, task: Measured) -> Rounds:
    found = Rounds()
    for number in range(rounds + 1):
        start = number % len(senders)
        names = list(senders)
        for who in names[start:] + names[:start]:
            measured = _counted(stage, senders[who], task)
            if number:  # the first round opens connections
                found.add(who, measured)
    found.found = {who: found.found[who] for who in senders}
    return found


def _counted(stage: Stage, sender: Process, task: Measured) -> Measured:
    """Run a task on an empty queue; every message must be there afterwards."""
    sender.run(do="empty")
    stage.amqp.channel.queue_purge(stage.queue)
    measured = sender.run(**task)
    deadline = time.monotonic() + ARRIVAL  # what is not confirmed may be on its way
    while (arrived := stage.amqp.depth(stage.queue)) < measured["messages"]:
        assert time.monotonic() < deadline, f"{arrived} of {measured['messages']} arrived"
        time.sleep(0.05)
    return measured


def rates(stage: Stage, size: Size) -> tuple[Rows, str]:
    """One task after the other."""
    told: Rows = []
    texts = []
    with _senders(stage) as senders:
        for threads, aim, through in ((1, 1.3, 1.0), (16, 2.5, 1.1)):
            task = {"do": "each", "threads": threads, "seconds": size.seconds}
            found = _compete(stage, senders, size.rounds, task)
            whose = f"from {threads} thread{'s' if threads > 1 else ''}"
            for who, least in ((OURS, aim), (APP, through)):
                what, value, wanted = found.figure(who, CONFIRMED, least)
                told.append((f"{what}, {whose}", value, wanted))
            texts.append(f"### Tasks one after the other {whose}\n\n{found.table()}")
    return told, "\n\n".join(texts)


def transactions(stage: Stage, size: Size) -> tuple[Rows, str]:
    """Many tasks in one transaction."""
    with _senders(stage) as senders:
        task = {"do": "transaction", "messages": TRANSACTION}
        chosen = {COMMIT: senders[OURS], **{who: senders[who] for who in (CONFIRMED, UNCONFIRMED)}}
        found = _compete(stage, chosen, size.rounds, task)
    told = [found.figure(COMMIT, CONFIRMED, 5), found.figure(COMMIT, UNCONFIRMED, 1)]
    title = f"### {TRANSACTION} tasks in a transaction, to the last one sent"
    return told, f"{title}\n\n{found.table()}"


def costs(stage: Stage, size: Size) -> tuple[Rows, str]:
    """What `delay` costs in a transaction, beside a bare `publish` of the same size."""
    told: Rows = []
    rows = []
    with stage.peer("tasks.ours") as ours:
        for delivery, aim in (("on_commit", 4.0), ("outbox", 1.5)):
            found = [
                ours.run(do="cost", delivery=delivery, messages=size.calls)
                for _ in range(size.rounds)
            ]
            delay, bare = ([one[name] for one in found] for name in ("delay", "publish"))
            what = f"delay() ÷ publish(), in a transaction, {delivery}"
            told.append((what, verdict(ratio(delay, bare), aim, most=True), f"at most {aim:g}"))
            medians = (statistics.median(taken) for taken in (delay, bare))
            rows.append([delivery, *(f"{taken:.0f}" for taken in medians)])
    head = ["delivery", "delay(), µs", "publish(), µs"]
    return told, f"### The call in a transaction\n\n{markdown(head, rows)}"


PARTS: dict[str, Callable[[Stage, Size], tuple[Rows, str]]] = {
    "rates": rates, "transactions": transactions, "costs": costs,
}  # fmt: skip
