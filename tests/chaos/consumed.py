"""Messages that are handled once, while workers, connections, the database and the broker are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pika import BasicProperties

from tests.faults.result import Result
from tests.support.rig.amqp import Amqp

from .actors import ROOT, Actor, ActorError, Relay, seen, until
from .checker import Broken
from .direct import verdict
from .stage import Stage
from .stores import Postgres, Store

KILL, CUT, DATABASE, BROKER = (
    "worker: kill -9",
    "network: cut",
    "database: kill -9",
    "broker: kill -9",
)
_TEXTS = {
    "effectless": "each message had its effect",
    "repeated": "no message had its effect twice",
    "missing": "each effect's own message arrived, under its id",
    "ghost": "no message arrived without an effect",
    "waiting": "no message is left unacknowledged or waiting",
    "left": "no stored message is left to be sent",
    "dead letter": "no message was given up",
}
_FAILS = 10  # one message in so many fails at first
_WORKERS = 2


class Consumers(Actor):
    """``manage.py rmq_consume`` with two threads, behind a proxy of its own."""

    def __init__(self, stage: Stage, name: str, told: dict[str, Any]) -> None:
        self.proxy = stage.proxy()
        self._consuming = told
        super().__init__(stage, name, stage.rmq(self.proxy.url, **stage.size.times))

    def _command(self) -> list[str]:
        return ["manage.py", "rmq_consume", "--threads", "2"]

    def _told(self) -> dict[str, Any]:
        return {"consuming": self._consuming}

    @property
    def handling(self) -> int:
        """Handlers of this process that are inside of their transaction."""
        return _busy(self.stage.store, self.life)

    def manage(self, *arguments: str) -> None:
        """Run a command of manage.py, as this worker would."""
        subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, check=True,
            env=self.environment(f"{self.name}i0"),
        )  # fmt: skip

    def end(self) -> None:
        """SIGTERM: what is at hand is finished, the rest given back."""
        os.kill(self.pid, signal.SIGTERM)
        self.await_end()


def _busy(store: Store, life: str) -> int:
    found = store.query(
        "SELECT COUNT(*) FROM pg_stat_activity "
        f"WHERE application_name LIKE '{life}' AND state <> 'idle' AND pid <> pg_backend_pid()"
    )
    return int(found[0][0])


class Play:
    """A queue of messages, the workers that handle them, and what came of it."""

    def __init__(self, stage: Stage, liar: str = "", *, seconds: float, count: int) -> None:
        self.stage, self.count = stage, count
        self.store = stage.use("postgres")
        assert isinstance(self.store, Postgres)
        self.store.query("CREATE TABLE IF NOT EXISTS chaos_effect (message_id TEXT)")
        self.store.query(
            "TRUNCATE chaos_effect, rmq_publisher_inboxmessage, rmq_publisher_deadletter"
        )
        self.queue, self.out = stage.name("consumed."), stage.queue(stage.name("effects."))
        told = {"queue": self.queue, "out": self.out, "seconds": seconds, "liar": liar}
        self.workers = [Consumers(stage, f"c{number}", told) for number in range(_WORKERS)]
        self._declare()
        self._send()

    def _declare(self) -> None:
        self.workers[0].manage("rmq_declare", "-v0")
        # Which queues there are, the broker writes to disk every three minutes: these are younger.
        self.stage.node.eval("[dets:sync(Table) || Table <- dets:all()]")

    def _send(self) -> None:
        amqp = Amqp(self.stage.node.url())
        amqp.channel.confirm_delivery()
        for number in range(self.count):
            body = b'"fails at first"' if number % _FAILS == 0 else b'"works"'
            properties = BasicProperties(
                message_id=f"m{number}", content_type="application/json", delivery_mode=2
            )
            amqp.publish(body, self.queue, properties=properties)
        amqp.close()

    def begin(self) -> None:
        for worker in self.workers:
            self.stage.start(worker)
        if not until(self.effects):
            raise ActorError(f"nothing is handled: {self.workers[0].log()[-2000:]}")

    def effects(self) -> int:
        return int(self.store.query("SELECT COUNT(*) FROM chaos_effect")[0][0])

    def finish(self, patience: float = 30.0) -> list[Broken]:
        """Wait until all is handled, or nothing has moved for so long; return what is wrong."""
        left, since = -1, time.monotonic()
        while (found := self._left()) and time.monotonic() - since < patience:
            if found != left:
                left, since = found, time.monotonic()
            time.sleep(0.2)
        for worker in self.workers:
            worker.end()
        self.stage.all_sent(30)
        self.stage.stop_relays()
        return self._judge()

    def _left(self) -> int:
        """Messages without their effect, and those that are in queues; liars never have all."""
        return self.count - len(self._effects()) + sum(self._waiting().values())

    def _waiting(self) -> dict[str, int]:
        """Messages by queue, those that wait for another attempt among them."""
        amqp = Amqp(self.stage.node.url())
        found = {name: amqp.depth(name) for name in (self.queue, f"{self.queue}.retry.200")}
        amqp.close()
        return {name: depth for name, depth in found.items() if depth}

    def _effects(self) -> Counter[str]:
        return Counter(row[0] for row in self.store.query("SELECT message_id FROM chaos_effect"))

    def _judge(self) -> list[Broken]:
        effects = self._effects()
        wanted = {f"m{number}" for number in range(self.count)}
        arrived = set(self.stage.arrived(self.out).ids)
        expected = {f"{one}.out" for one in effects}
        dead = self.store.query("SELECT message_id FROM rmq_publisher_deadletter")
        return [
            *Broken.of("effectless", sorted(wanted - set(effects))),
            *Broken.of("repeated", sorted(one for one, times in effects.items() if times > 1)),
            *Broken.of("missing", sorted(expected - arrived)),
            *Broken.of("ghost", sorted(arrived - expected)),
            *Broken.of("waiting", self._waiting().items()),
            *Broken.of("left", self.store.left()),
            *Broken.of("dead letter", dead),
        ]


class Storm:
    """Strikes while handlers are inside of their transactions."""

    def __init__(self, play: Play, result: Result, chance: random.Random) -> None:
        self._play, self._result, self._chance = play, result, chance

    def blow(self, strikes: dict[str, int]) -> None:
        """All of these, in random order; what hit nothing is tried again."""
        kinds: dict[str, Callable[[], int]] = {
            KILL: self._kill,
            CUT: self._cut,
            DATABASE: self._database,
            BROKER: self._broker,
        }
        deck = [what for what, count in strikes.items() for _ in range(count)]
        self._chance.shuffle(deck)
        for what in deck:
            for _ in range(6):
                hit = kinds[what]()
                self._result.struck(what, hit)
                if hit:
                    break
            time.sleep(self._chance.uniform(0, 0.3))

    def _one(self) -> Consumers:
        worker = self._chance.choice(self._play.workers)
        worker.check()
        return worker

    def _kill(self) -> int:
        worker = self._one()
        seen(lambda: worker.handling)
        worker.freeze()
        hit = worker.handling
        if not hit:
            worker.thaw()
            return 0
        worker.kill()
        worker.start()
        return hit

    def _cut(self) -> int:
        worker = self._one()
        hit = seen(lambda: worker.handling)
        return hit if worker.proxy.cut(self._chance.random() < 0.5) else 0

    def _database(self) -> int:
        seen(lambda: _busy(self._play.store, "c%"))
        return self._play.store.kill_backend()

    def _broker(self) -> int:
        hit = seen(lambda: _busy(self._play.store, "c%"))
        self._play.stage.kill_broker()
        return hit


def consumed(stage: Stage) -> Result:
    size = stage.size
    result = Result("Messages that are handled once", ["messages and effects", ""])
    play = Play(stage, seconds=size.work, count=size.consumed)
    stage.start(Relay(stage, "r0", stage.rmq(**size.times)))
    began = time.monotonic()
    play.begin()
    strikes = dict(zip((KILL, CUT, DATABASE, BROKER), size.consumer_faults, strict=True))
    Storm(play, result, stage.chance("consumed")).blow(strikes)
    broken = play.finish()
    for what, count in strikes.items():
        if count:
            result.must_hit(what, count)
    result.rows += [
        ["handled", f"{size.consumed:,} by {_WORKERS} workers of two threads"],
        ["of which failed at first", f"{-(-size.consumed // _FAILS):,}"],
        ["took", f"{time.monotonic() - began:.0f} s"],
    ]
    verdict(result, "consumers", broken, _TEXTS)
    return result


def lie(stage: Stage, liar: str, *, count: int = 40) -> list[Broken]:
    """What is wrong where consumers that may lie are killed in mid-work, and a worker goes on."""
    play = Play(stage, liar, seconds=0.05, count=count)
    stage.start(Relay(stage, "r0", stage.rmq(**stage.size.times)))
    play.begin()
    for worker in play.workers:
        seen(lambda worker=worker: worker.handling)  # type: ignore[misc]
        worker.restart()
    if liar != "has_no_unique_row":
        return play.finish(10)
    # Its effects are repeated where a message comes again after its commit.
    for worker in play.workers:
        seen(lambda worker=worker: worker.handling)  # type: ignore[misc]
        worker.proxy.stall("broker")
    time.sleep(0.5)
    for worker in play.workers:
        worker.proxy.cut(True)
        worker.proxy.resume()
    return play.finish(10)
