"""What is measured, in which sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .contest import Contest, Entry
from .peers import PEERS
from .peers.ours import WINDOW

THREADS = 16
TASKS = 200
TRANSACTION = 100
PROFILED = 5  # rounds that tell where the time goes

BLOCKING = ("flask_rmq", "django_rmq", "kombu", "dramatiq")


@dataclass(frozen=True)
class Size:
    """How much of it.

    Attributes:
        turns: rounds of those contests whose rounds are short, so that a disk which is slow for a
            while is slow for all.
        seconds: of such a round, in which messages are published one after another.
        batches: rounds of the contest of batches.
        many: messages of one batch.
        one_by_one: messages of those who have no batch, in the same contest.
        peers: the blocking ones that take part.
        thorough: whether everything else takes part too.
    """

    turns: int
    seconds: float
    batches: int
    many: int
    one_by_one: int
    peers: Sequence[str]
    thorough: bool


QUICK = Size(31, 0.12, 3, 20_000, 500, ("flask_rmq", "kombu"), thorough=False)
FULL = Size(81, 0.15, 9, 20_000, 1_000, BLOCKING, thorough=True)


def contests(size: Size, *, beside: bool) -> list[Contest]:
    """All contests of a run; ``beside``: another checkout of the library takes part."""
    also = ["beside"] if beside else []
    peers = [_present(name) for name in size.peers]
    return [
        _one(size, peers, also),
        _threads(size, peers, also),
        _many(size, peers, also),
        _transaction(size, peers, also),
        _call(size, also),
    ]


def tls_contests(size: Size, *, beside: bool) -> list[Contest]:
    """The contests over TLS, which have a node of their own."""
    also = ["beside"] if beside else []
    task = {"do": "each", "threads": THREADS, "seconds": size.seconds}
    threads = _ours(also, task, 'publish(delivery="now"), one connection')
    threads += [Entry(name, task, f"{THREADS} connections") for name in ("blocking", "kombu")]
    threads.append(Entry("aio_pika", task, f"{THREADS} tasks, one connection"))
    batch = {"do": "many", "messages": size.many}
    many = _ours(also, batch, f'publish_many(delivery="now"), window {WINDOW}')
    tasks = {"do": "many", "messages": size.many // 2, "tasks": TASKS}
    many.append(Entry("aio_pika", tasks, f"{TASKS} tasks"))
    one_by_one = {"do": "many", "messages": size.one_by_one}
    many += [Entry(name, one_by_one, "one by one") for name in ("blocking", "kombu")]
    return [
        Contest(
            "tls", f"Over TLS: {THREADS} threads, each one after another", threads, size.turns
        ),
        Contest("tls_many", f"Over TLS: {size.many:,} messages at once", many, size.batches),
    ]


def _present(name: str) -> str:
    """Where Flask-RMQ is not installed, its algorithm takes part as what it is: pika's."""
    return "blocking" if name == "flask_rmq" and PEERS[name].missing else name


def _ours(also: Sequence[str], task: dict[str, Any], way: str) -> list[Entry]:
    return [Entry(name, task, way) for name in ("ours", *also)]


def _one(size: Size, peers: Sequence[str], also: Sequence[str]) -> Contest:
    task = {"do": "each", "threads": 1, "seconds": size.seconds}
    entries = _ours(also, task, 'publish(delivery="now")')
    if size.thorough:
        entries.append(Entry("ours", task, "Producer.publish()", {"way": "producer"}))
        label = "publish() outside a transaction"
        entries.append(Entry("ours", task, label, {"way": "on_commit"}))
    entries += [Entry(name, task) for name in peers]
    if size.thorough:
        entries += [Entry("aio_pika", task), Entry("aio_pika_uvloop", task)]
        window = {"do": "many", "messages": size.one_by_one // 3, "window": 1}
        entries.append(Entry("native", window, "window 1"))
    return Contest("one", "One thread, one message after another", entries, size.turns)


def _threads(size: Size, peers: Sequence[str], also: Sequence[str]) -> Contest:
    task = {"do": "each", "threads": THREADS, "seconds": size.seconds}
    entries = _ours(also, task, 'publish(delivery="now"), one connection')
    if size.thorough:
        label = "Producer.publish(), one connection"
        entries.append(Entry("ours", task, label, {"way": "producer"}))
    connections = f"{THREADS} connections"
    entries += [Entry(name, task, connections) for name in peers]
    if size.thorough:
        tasks = f"{THREADS} tasks, one connection"
        entries += [Entry("aio_pika", task, tasks), Entry("aio_pika_uvloop", task, tasks)]
        window = {"do": "many", "messages": size.many // 10, "window": THREADS}
        entries.append(Entry("native", window, f"window {THREADS}"))
    return Contest("threads", f"{THREADS} threads, each one after another", entries, size.turns)


def _many(size: Size, peers: Sequence[str], also: Sequence[str]) -> Contest:
    batch = {"do": "many", "messages": size.many}
    entries = _ours(also, batch, f'publish_many(delivery="now"), window {WINDOW}')
    if size.thorough:
        awaited = {"do": "many_awaited", "messages": size.many // 2, "tasks": TASKS}
        entries += _ours([], awaited, f"apublish(), {TASKS} tasks")
    # As many on their way as aio-pika has.
    entries.append(Entry("ours", batch, f"publish_many, window {TASKS}", {"window": TASKS}))
    tasks = {"do": "many", "messages": size.many // 2, "tasks": TASKS}
    entries.append(Entry("aio_pika", tasks, f"{TASKS} tasks"))
    entries.append(Entry("aio_pika_uvloop", tasks, f"{TASKS} tasks"))
    for window in (WINDOW, TASKS):
        task = {"do": "many", "messages": size.many, "window": window}
        entries.append(Entry("native", task, f"window {window}"))
    one_by_one = {"do": "many", "messages": size.one_by_one}
    entries += [Entry(name, one_by_one, "one by one") for name in peers]
    return Contest("many", f"{size.many:,} messages at once", entries, size.batches)


def _transaction(size: Size, peers: Sequence[str], also: Sequence[str]) -> Contest:
    task = {"do": "transaction", "messages": TRANSACTION, "transactions": 1}
    entries = _ours(also, task, "publish()")
    entries += [Entry(name, task, "on_commit(publish)") for name in peers]
    title = f"{TRANSACTION} messages in a transaction (SQLite in memory; to the last confirm)"
    return Contest("transaction", title, entries, size.turns)


def _call(size: Size, also: Sequence[str]) -> Contest:
    entries = []
    for messages in (1, TRANSACTION):
        task = {"do": "call", "messages": messages, "transactions": TRANSACTION // messages}
        entries += _ours(also, task, f"{messages} in a transaction")
    return Contest("call", "publish() before the commit", entries, size.turns // 3)
