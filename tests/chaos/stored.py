"""Transactions whose messages are rows, while workers, relays, databases and brokers are killed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.faults.result import Result

from . import checker
from .actors import Actor, Relay, Worker, seen, until
from .checker import Arrived, Broken
from .direct import few_duplicates, verdict
from .journal import read_stored
from .stage import Stage
from .stores import TABLE, Postgres

BATCH = 64
DUPLICATES = "at most a batch of duplicates for each kill and sending process"
WORKER, RELAY, DATABASE, BROKER = (
    "worker: kill -9",
    "relay: kill -9",
    "database: kill -9",
    "broker: kill -9",
)


class StalledRelay(Relay):
    """A relay whose way to the broker can be stalled, so that it holds rows when it is killed."""

    def __init__(self, stage: Stage, name: str, **settings: Any) -> None:
        self.proxy = stage.proxy()
        super().__init__(stage, name, stage.rmq(self.proxy.url, **settings))


class Killer:
    """Kills, and counts how many duplicates each kill may cost."""

    def __init__(self, stage: Stage, result: Result, chance: random.Random) -> None:
        self.most_duplicates = 0
        self._stage = stage
        self._result = result
        self._chance = chance
        self._senders = len(stage.actors)

    def kill(self, kills: dict[str, int]) -> None:
        """All of these, in random order; what hit nothing is tried again."""
        deck = [what for what, count in kills.items() for _ in range(count)]
        self._chance.shuffle(deck)
        strikes: dict[str, Callable[[], int]] = {
            WORKER: self._worker,
            RELAY: self._relay,
            DATABASE: self._database,
            BROKER: self._broker,
        }
        for what in deck:
            for _ in range(6):
                self._flowing()
                hit = strikes[what]()
                self._result.struck(what, hit)
                if hit:
                    break
            time.sleep(self._chance.uniform(0, 0.3))

    def _flowing(self) -> None:
        """Wait until transactions are committed and something is being sent."""
        for actor in self._stage.actors:
            actor.check()
        workers = self._stage.workers()
        before = sum(worker.done for worker in workers)
        until(lambda: sum(worker.done for worker in workers) > before + len(workers), 20)

    def _replace(self, actor: Actor) -> int:
        actor.kill()
        hit = self._held(actor)
        self.most_duplicates += BATCH
        actor.start()
        return hit

    def _held(self, actor: Actor) -> int:
        store = self._stage.store
        if isinstance(actor, Worker):
            return store.leased(f"token = {actor.gauge.token}")
        writers = [worker.gauge.token for worker in self._stage.workers()]
        return store.held_by_relay(actor.life, writers)

    def _worker(self) -> int:
        worker = self._chance.choice(self._stage.workers())
        under_way = seen(lambda: worker.gauge.under_way)
        return max(under_way, self._replace(worker))

    def _relay(self) -> int:
        """While it holds rows whose messages or confirms are on their way."""
        relay = self._chance.choice(self._stage.relays())
        assert isinstance(relay, StalledRelay)
        sent = relay.proxy.publishes
        until(
            lambda: relay.proxy.publishes > sent, 20
        )  # it has come up, and has something to send
        relay.proxy.stall(self._chance.choice(("broker", "client")))
        until(lambda: self._is_frozen_in_flight(relay), 10, every=0.05)
        hit = self._replace(relay)
        relay.proxy.resume()
        return hit

    def _is_frozen_in_flight(self, relay: Actor) -> bool:
        """Frozen first: what was under way before the stall may end between a look and the kill."""
        relay.freeze()
        if not (holds := bool(self._held(relay))):
            relay.thaw()
        return holds

    def _database(self) -> int:
        self.most_duplicates += BATCH * self._senders
        seen(lambda: sum(worker.gauge.under_way for worker in self._stage.workers()))
        return self._stage.store.kill_backend()

    def _broker(self) -> int:
        self.most_duplicates += BATCH * self._senders
        hit = self._stage.store.leased()
        self._stage.kill_broker()
        return hit


def outbox(stage: Stage, kind: str) -> Result:
    """On one kind of database."""
    size = stage.size
    store = stage.use(kind)
    queue = stage.queue(stage.name("stored."))
    result = Result(f"Stored messages: {store.describe()}", ["transactions and messages", ""])
    many = kind != "sqlite"
    for number in range(size.web if many else 3):
        # Half of them leave all sending to the relays.
        own = {} if number % 2 else {"OUTBOX_GRACE": 0}
        rmq = stage.rmq(OUTBOX_BATCH_SIZE=BATCH, **{**size.times, **own})
        worker = Worker(
            stage,
            f"w{number}",
            rmq,
            do="stored",
            threads=2 if many else 1,
            publish={"queue": queue},
            pause=size.pause if many else 0.003,
        )
        stage.start(worker)
    for number in range(2):
        stage.start(StalledRelay(stage, f"r{number}", OUTBOX_BATCH_SIZE=BATCH, **size.times))
    began = time.monotonic()
    kills = dict(zip((WORKER, RELAY, DATABASE, BROKER), size.kills[kind], strict=True))
    killer = Killer(stage, result, stage.chance(f"kills {kind}"))
    killer.kill(kills)
    wanted, workers = size.transactions[kind], stage.workers()
    until(lambda: sum(worker.done for worker in workers) >= wanted, 1800, every=0.1)
    stage.stop_workers()
    sent = time.monotonic()
    all_sent = stage.all_sent(30)
    result.rows.append(["until the table was empty", f"{time.monotonic() - sent:.1f} s"])
    stage.stop_relays()
    arrived = stage.arrived(queue)
    broken = _read(stage, result, arrived, killer.most_duplicates, began)
    _count(result, kills, wanted)
    if not all_sent:
        broken += Broken.of("left", store.left())
    _promises(result, store.kind, broken)
    few_duplicates(result, store.kind, DUPLICATES, broken, arrived, killer.most_duplicates)
    return result


def _read(stage: Stage, result: Result, arrived: Arrived, most: int, began: float) -> list[Broken]:
    store = stage.store
    stories = [story for worker in stage.workers() for story in worker.stories(read_stored)]
    committed = store.committed()
    broken = checker.stored(committed, arrived, most_duplicates=most)
    broken += checker.kept_word(stories, committed)
    if isinstance(store, Postgres):
        changes = store.audit()
        result.rows.append(["changes of rows looked at", f"{len(changes):,}"])
        broken += checker.audit(changes)
    ends: Counter[str] = Counter()
    for story in stories:
        # One id each: the first message of a transaction.
        ends += Counter(end for one, end in story.told.items() if one.endswith(".0"))
    result.rows += [
        ["transactions committed", f"{ends['C']:,}"],
        ["rolled back on purpose", f"{ends['R']:,}"],
        ["ended by an error of the database", f"{ends['D']:,}"],
        ["messages committed", f"{len(committed):,}"],
        ["read from the queue", f"{len(arrived.ids):,}"],
        ["duplicates", f"{arrived.duplicates:,} of at most {most:,}"],
        ["dead", f"{store.count(_DEAD):,}"],
        ["took", f"{time.monotonic() - began:.0f} s"],
    ]
    return broken


_DEAD = "state = 'dead'"


def _count(result: Result, kills: dict[str, int], wanted: int) -> None:
    for what, count in kills.items():
        if count:
            result.must_hit(what, count)
    ended = sum(int(row[1].replace(",", "")) for row in result.rows[-8:-5])
    result.promise("stored", f"{wanted:,} transactions", ended >= wanted, f"{ended:,}")


def _promises(result: Result, kind: str, broken: list[Broken]) -> None:
    texts = {
        "missing": "all that was committed arrived",
        "ghost": "nothing that was rolled back arrived",
        "stranger": "each duplicate has its first one's id",
        "left": "nothing is left to be sent",
    }
    if kind == Postgres.kind:
        texts |= {
            "thief": "nobody changed a row that somebody else held",
            "backwards": "no state went backwards",
        }
    verdict(result, kind, broken, texts)


def outage(stage: Stage) -> Result:
    """The broker takes nothing for longer than all attempts together may last."""
    result = Result("An outage longer than all attempts", ["during the outage", ""])
    store, node = stage.use("postgres"), stage.node
    queue = stage.queue(stage.name("outage."))
    attempts = 2
    short = {"PUBLISH_TIMEOUT": 1, "RETRY_MAX_BACKOFF": 1}
    rmq = stage.rmq(**{**stage.size.times, **short}, MAX_ATTEMPTS=attempts)
    where = {"queue": queue}
    worker = Worker(stage, "w", rmq, do="failing", threads=4, publish=where, rest=0.05)
    stage.start(worker)
    stage.start(Relay(stage, "r", rmq))
    until(lambda: worker.done > 20)
    node.block()
    began = time.monotonic()
    unanswered, held = 0, 0
    # Each new connection looks fit until it publishes: so the relay tries, and gets no answer.
    while time.monotonic() - began < stage.size.outage or unanswered <= attempts:
        time.sleep(1.5)
        node.close_all_connections()
        found = store.query(f"SELECT MAX(unanswered), COUNT(*) FROM {TABLE}")[0]
        unanswered, held = found[0] or 0, max(held, found[1])
        if time.monotonic() - began > 4 * stage.size.outage + 30:
            break
    result.rows += [
        ["lasted", f"{time.monotonic() - began:.0f} s"],
        ["rows that waited", f"{held:,}"],
        ["attempts of one row without an answer", f"{unanswered}; RMQ_MAX_ATTEMPTS = {attempts}"],
    ]
    result.struck("broker: memory alarm and closed connections", held)
    stage.stop_workers()
    node.unblock()
    stage.all_sent(20)
    stage.stop_relays()
    dead = store.left()
    arrived = stage.arrived(queue)
    committed = store.committed()
    broken = checker.stored(committed, arrived, most_duplicates=10**6, left=dead)
    broken += checker.audit(store.audit()) if isinstance(store, Postgres) else []
    result.rows.append(
        ["messages committed, arrived", f"{len(committed):,}, {len(arrived.ids):,}"]
    )
    result.must_hit("broker: memory alarm and closed connections")
    result.promise(
        "outage",
        "it lasted longer than all attempts",
        unanswered > attempts,
        f"{unanswered} tries",
    )
    texts = {
        "missing": "all that was committed arrived",
        "ghost": "nothing else arrived",
        "left": "nothing is dead, nothing is left to be sent",
        "thief": "nobody changed a row that somebody else held",
        "backwards": "no state went backwards",
    }
    verdict(result, "outage", broken, texts)
    return result


outbox_on_postgres = partial(outbox, kind="postgres")
outbox_on_sqlite = partial(outbox, kind="sqlite")
outbox_on_mariadb = partial(outbox, kind="mariadb")
