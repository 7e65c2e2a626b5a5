"""Writers that serialise per key, and relays that are killed: the first arrivals are in order."""

from __future__ import annotations

import time

from tests.faults.result import Result

from . import checker
from .actors import Worker, until
from .checker import Broken
from .direct import few_duplicates, verdict
from .stage import Stage
from .stored import BATCH, BROKER, DUPLICATES, RELAY, WORKER, Killer, StalledRelay
from .stores import Postgres

_PROCESSES = 4
_RELAYS = 4


def order(stage: Stage) -> Result:
    size = stage.size
    store = stage.use("postgres", keys=size.keys)
    assert isinstance(store, Postgres)
    result = Result("Order", ["rows and keys", ""])
    queue = stage.queue(stage.name("ordered."))
    for number in range(_PROCESSES):
        own = {} if number % 2 else {"OUTBOX_GRACE": 0}
        rmq = stage.rmq(OUTBOX_BATCH_SIZE=BATCH, **{**size.times, **own})
        threads = size.writers // _PROCESSES
        worker = Worker(
            stage, f"w{number}", rmq, do="ordered", threads=threads, keys=size.keys,
            pause=size.pause, publish={"queue": queue},
        )  # fmt: skip
        stage.start(worker)
    for number in range(_RELAYS):
        stage.start(StalledRelay(stage, f"r{number}", OUTBOX_BATCH_SIZE=BATCH, **size.times))
    began = time.monotonic()
    killer = Killer(stage, result, stage.chance("order"))
    few = size.relay_kills // 10
    kills = {RELAY: size.relay_kills, WORKER: few, BROKER: few}
    killer.kill(kills)
    until(lambda: len(store.committed()) >= size.rows, 1800, every=0.5)
    stage.stop_workers()
    all_sent = stage.all_sent(30)
    stage.stop_relays()
    arrived, committed = stage.arrived(queue), store.committed()
    most = killer.most_duplicates
    broken = checker.stored(committed, arrived, most_duplicates=most)
    broken += checker.order(committed, arrived)
    broken += checker.audit(store.audit())
    if not all_sent:
        broken += Broken.of("left", store.left())
    result.rows += [
        ["writers, relays", f"{size.writers}, {_RELAYS}"],
        ["rows committed", f"{len(committed):,}"],
        ["keys", f"{size.keys:,}"],
        ["duplicates", f"{arrived.duplicates:,} of at most {most:,}"],
        ["took", f"{time.monotonic() - began:.0f} s"],
    ]
    for what, count in kills.items():
        if count:
            result.must_hit(what, count)
    enough = len(committed) >= size.rows
    result.promise("order", f"{size.rows:,} rows", enough, f"{len(committed):,}")
    texts = {
        "skipped": "none is skipped",
        "order": "none is out of order within its key at first delivery",
        "missing": "all that was committed arrived",
        "ghost": "nothing that was rolled back arrived",
        "left": "nothing is left to be sent",
        "thief": "nobody changed a row that somebody else held",
        "backwards": "no state went backwards",
    }
    verdict(result, "order", broken, texts)
    few_duplicates(result, "order", DUPLICATES, broken, arrived, most)
    return result
