"""A stage for each lie on which it cannot but show, and the same stage with the honest package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.faults.result import Result
from tests.support.rig.proxy import Proxy

from . import checker
from .actors import Relay, Worker, until
from .checker import Arrived, Broken
from .stage import EXCHANGE, Stage
from .stores import Postgres

LONG = 20.0


class Lie(NamedTuple):
    """Where it shows, and as what."""

    kind: str
    shows: Callable[[Stage, str], list[Broken]]


def _judge(stage: Stage, queue: str, *, patience: float = LONG) -> list[Broken]:
    """What the checker says, where no duplicate is allowed."""
    store = stage.store
    assert isinstance(store, Postgres)
    stage.all_sent(patience)
    stage.stop_relays()
    arrived: Arrived = stage.arrived(queue)
    committed = store.committed()
    broken = checker.stored(committed, arrived, most_duplicates=0, left=store.left())
    if any(one.count(":") == 2 for one in committed):
        broken += checker.order(committed, arrived)
    return broken + checker.audit(store.audit())


def _prepare(stage: Stage, keys: int = 0) -> str:
    stage.use("postgres", keys=keys)
    return stage.queue(stage.name("lies."))


def _work(stage: Stage, queue: str, liar: str = "", do: str = "stored", **options: Any) -> None:
    """A worker does its quota and ends; what it leaves is a relay's."""
    times = {**stage.size.times, "OUTBOX_GRACE": options.pop("grace", 0)}
    options.setdefault("quota", stage.size.liars)
    options = {"threads": 4, "publish": {"queue": queue}, "pause": 0.003, **options}
    worker = Worker(stage, "w", stage.rmq(**times), do=do, liar=liar, **options)
    stage.start(worker)
    worker.await_end()


def _relay(stage: Stage, name: str, liar: str, url: str = "", **times: Any) -> Relay:
    return stage.start(Relay(stage, name, stage.rmq(url, **{**stage.size.times, **times}), liar))


def rolled_back(stage: Stage, liar: str) -> list[Broken]:
    """Transactions, some of which are rolled back."""
    queue = _prepare(stage)
    _work(stage, queue, liar)
    _relay(stage, "r", "")
    return _judge(stage, queue)


def overlapping(stage: Stage, liar: str) -> list[Broken]:
    """Transactions that commit in another order than they drew their ids in."""
    queue = _prepare(stage)
    _connected(stage, stage.proxy(), "r", liar)
    _work(stage, queue, pause=0.05)
    return _judge(stage, queue, patience=3 if liar else LONG)


def killed_in_flight(stage: Stage, liar: str) -> list[Broken]:
    """A relay dies with messages that have not reached the broker."""
    queue = _prepare(stage)
    proxy = stage.proxy()
    relay = _connected(stage, proxy, "r", liar)
    proxy.stall("broker")
    _work(stage, queue)
    store = stage.store
    until(lambda: store.held_by_relay(relay.life, ()) or not store.count("TRUE"), LONG)
    relay.kill()
    proxy.resume()
    relay.start()
    return _judge(stage, queue)


def _connected(stage: Stage, proxy: Proxy, name: str, liar: str, **times: Any) -> Relay:
    relay = _relay(stage, name, liar, proxy.url, **times)
    if not proxy.wait_for_event("broker Confirm.SelectOk", LONG):
        # The channel for publishing is made with the connection.
        raise RuntimeError(f"{name} did not connect: {relay.log()}")
    return relay


def lost_lease(stage: Stage, liar: str) -> list[Broken]:
    """A relay is frozen until its rows are another one's, and then hears its confirms."""
    queue = _prepare(stage)
    slow, fast = stage.proxy(), stage.proxy()
    first = _connected(stage, slow, "a", liar, PUBLISH_TIMEOUT=4, OUTBOX_LEASE=5)
    slow.stall("client")
    # A single row, so that the second one cannot find another.
    _work(stage, queue, do="late", threads=1, quota=1, late=0)
    until(lambda: stage.store.held_by_relay(first.life, ()), LONG)
    first.freeze()
    slow.resume()
    # Its lease must outlast what the first one does in the meantime.
    second = _connected(stage, fast, "b", liar, PUBLISH_TIMEOUT=30, OUTBOX_LEASE=40)
    fast.stall("client")
    until(lambda: stage.store.held_by_relay(second.life, ()), LONG)
    first.thaw()
    # Before it ends it completes what it had sent, if it dares.
    first.stop()
    first.await_end()
    stage.actors.remove(first)
    fast.resume()
    broken = _judge(stage, queue)
    # What the first one had sent is sent again by the second: that is the promise.
    return [one for one in broken if one.kind != "duplicate"]


def sent_again(stage: Stage, liar: str) -> list[Broken]:
    """A relay sends what the writer did not."""
    queue = _prepare(stage)
    _work(stage, queue)
    _relay(stage, "r", liar)
    return _judge(stage, queue)


def grace_over(stage: Stage, liar: str) -> list[Broken]:
    """Another app's commit hook takes longer than the grace."""
    queue = _prepare(stage)
    _relay(stage, "r", "")
    _work(stage, queue, liar, do="late", quota=4, grace=2.5, late=3.5)
    return _judge(stage, queue)


def first_of_a_key_waits(stage: Stage, liar: str) -> list[Broken]:
    """The first message of each key cannot be routed for a while."""
    queue = _prepare(stage, keys=5)
    key = f"{queue}.late"
    where = {"exchange": EXCHANGE, "routing_key": queue}
    _work(
        stage,
        queue,
        do="ordered",
        quota=40,
        keys=5,
        publish=where,
        first_is_late=True,
        late_key=key,
    )
    _relay(stage, "r", liar)
    until(lambda: stage.store.count("attempts > 0") >= 5, LONG)
    stage.bind(queue, key)
    return _judge(stage, queue)


LIES: dict[str, Lie] = {
    "publishes_before_commit": Lie("ghost", rolled_back),
    "remembers_the_last_id": Lie("missing", overlapping),
    "marks_before_the_confirm": Lie("missing", killed_in_flight),
    "completes_without_the_lease": Lie("thief", lost_lease),
    "retries_with_a_new_id": Lie("stranger", sent_again),
    "sends_past_the_grace": Lie("duplicate", grace_over),
    "sends_two_of_a_key": Lie("order", first_of_a_key_waits),
}


def lies(stage: Stage) -> Result:
    """Each lie is detected, and the same checks report nothing for the unchanged package."""
    result = Result("Liars", ["lie", "reported as", "evidence"])
    for name, lie in LIES.items():
        honest = lie.shows(stage, "")
        stage.clear()
        found = {one.kind: one for one in lie.shows(stage, name)}
        stage.clear()
        words = name.replace("_", " ")
        reported = found.get(lie.kind)
        evidence = reported.evidence[0] if reported else "none"
        others = ", ".join(f"{one.count} {kind}" for kind, one in found.items())
        result.rows.append([words, others, evidence])
        result.promise(words, "each liar is reported", reported is not None, others or "nothing")
        first = "; ".join(map(str, honest)) or "nothing is wrong"
        result.promise(words, "the honest one is not", not honest, first)
    return result
