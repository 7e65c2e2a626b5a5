"""Poison: messages over which the broker closes the channel, among many that are well."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rmq_publisher import QueueConfig, Rejected
from tests.support.rig.amqp import Amqp

from .cuts import Closes, arm
from .ledger import Attempt, Ledger, Load, Reading, counts, percentile
from .result import Result
from .stage import PATIENCE, Stage

THREADS = 16
SECONDS = 10  # of a call: none comes near it
NEIGHBOURS = 12  # so that some are on the wire when the channel is closed
MORE = 20  # rounds at most, until a channel is closed while a neighbour's message is on the wire
VIEW_PAUSE = 0.01  # seconds between two calls of the view that may not
SLOWED = 0.9
_USER, _PASSWORD = "writer", "writes"


def poison(stage: Stage) -> Result:
    """Each of the three codes in a run of its own, then the view that keeps on."""
    head = [
        "code",
        "messages",
        "poisonous",
        "outcomes",
        "channels closed",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "duplicates",
    ]
    result = Result("Poison", head)
    stage.node.add_user(_USER, _PASSWORD, write="^(amq\\.default|.*allowed.*)$")
    for code in (403, 404, 406):
        _one_code(stage, result, code)
    _neighbour(stage, result)
    return result


def _login(url: str) -> str:
    return url.replace("guest:guest", f"{_USER}:{_PASSWORD}")


@contextmanager
def _exchanges(stage: Stage, queue: str, kind: str, count: int) -> Iterator[list[str]]:
    """Fanout exchanges in front of the queue."""
    amqp = Amqp(stage.node.url())
    names = [stage.name(kind) for _ in range(count)]
    amqp.declare_queue(queue)
    amqp.names.queues.clear()  # read later
    for name in names:
        amqp.declare_exchange(name, "fanout")
        amqp.bind(queue, name)
    yield names
    amqp.close()


def _one_code(stage: Stage, result: Result, code: int) -> None:
    size, what = stage.size, f"poison {code}"
    queue = QueueConfig(stage.name(f"poison{code}"))
    wanted = _places(stage.chance(what), size.messages, size.one_in)
    with (
        _exchanges(
            stage, queue.name, "mayallowed" if code == 404 else "maynot", len(wanted)
        ) as exchanges,
        stage.proxy() as proxy,
        stage.library(_login(proxy.url), PUBLISH_TIMEOUT=SECONDS, CONNECT_TIMEOUT=SECONDS),
        Ledger() as ledger,
    ):
        ledger.publish("first", queue=queue)
        if code == 404:  # they pass every check, and are gone afterwards
            for number, name in enumerate(exchanges):
                ledger.publish(f"before{number}", exchange=name)
            _delete(stage, exchanges)
        closes = arm(proxy, Closes())
        bad = {
            f"m{place}": _bad(code, queue, name)
            for place, name in zip(wanted, exchanges, strict=True)
        }
        good = {"queue": queue}
        load = Load(ledger, THREADS, lambda name: bad.get(name, good), left=size.messages).start()
        came_back = load.join(3 * PATIENCE)
    for over in closes.closed_over:
        result.struck(f"channel closed ({code})", over - 1)  # besides the culprit
    received = stage.read(stage.node.url(), queue.name, len(ledger.confirms))
    _judge(result, what, ledger, came_back, bad, code)
    reading = Reading.of(ledger.attempts, received)
    result.read_back(what, reading, 64 * len(closes.closed_over))
    result.must_hit(f"channel closed ({code})")
    calls = [one for one in ledger.attempts if one.message_id.startswith("m")]  # not the set-up
    times = [f"{percentile(calls, share) * 1000:.1f}" for share in (0.5, 0.99, 1)]
    result.rows.append(
        [
            str(code),
            f"{size.messages:,}",
            str(len(bad)),
            counts(calls),
            str(len(closes.closed_over)),
            *times,
            str(reading.duplicates),
        ]
    )


def _places(chance: random.Random, messages: int, one_in: int) -> list[int]:
    """One in each so many, at random."""
    return [start + chance.randint(1, one_in) for start in range(0, messages, one_in)]


def _delete(stage: Stage, exchanges: list[str]) -> None:
    amqp = Amqp(stage.node.url())
    for name in exchanges:
        amqp.delete_exchange(name)
    amqp.close()


def _bad(code: int, queue: QueueConfig, exchange: str) -> dict[str, Any]:
    if code == 406:
        return {"queue": queue, "user_id": "somebody"}  # not who has logged in
    return {"exchange": exchange}


def _judge(
    result: Result, what: str, ledger: Ledger, came_back: bool, bad: dict[str, Any], code: int
) -> None:
    result.one_outcome_each(what, ledger, came_back)

    def is_rejected(attempt: Attempt) -> bool:
        return isinstance(attempt.error, Rejected) and attempt.error.reply_code == code

    hurt = [one for one in ledger.attempts if one.message_id not in bad and one.error is not None]
    spared = [one for one in ledger.attempts if one.message_id in bad and not is_rejected(one)]
    result.promise(what, "all others are confirmed", not hurt, counts(hurt))
    result.promise(
        what,
        f"the poison alone is Rejected, with {code}",
        not spared,
        f"{len(bad) - len(spared)} of {len(bad)}",
    )


def _neighbour(stage: Stage, result: Result) -> None:
    """A view keeps publishing where it may not; rounds with it and without it take turns."""
    size, what = stage.size, "next to a forbidden exchange"
    queue = QueueConfig(stage.name("neighbour"))
    rates: dict[bool, list[float]] = {False: [], True: []}
    refused: list[Attempt] = []
    with (
        _exchanges(stage, queue.name, "maynot", 1 + MORE) as (exchange, *others),
        stage.proxy() as proxy,
        stage.library(_login(proxy.url), PUBLISH_TIMEOUT=SECONDS, CONNECT_TIMEOUT=SECONDS),
        Ledger() as ledger,
    ):
        ledger.publish("first", queue=queue)  # while nobody connects, calls fail at once
        closes = arm(proxy, Closes())
        for number in range(2 * size.rounds + 1):
            beside = number % 2 == 1
            before = len(ledger.confirms)
            load = Load(ledger, NEIGHBOURS, lambda _: {"queue": queue}, prefix=f"r{number}.")
            began = time.monotonic()
            load.start()
            refused += _view(ledger, f"v{number}.", exchange, size.round_seconds, beside)
            came_back = load.stop(PATIENCE)
            if number:  # the first warms up
                confirmed = len(ledger.confirms) - before
                rates[beside].append(confirmed / (time.monotonic() - began))
        for number, other in enumerate(others):
            if any(over > 1 for over in closes.closed_over):
                break  # besides the culprit
            load = Load(ledger, NEIGHBOURS, lambda _: {"queue": queue}, prefix=f"m{number}.")
            load.start()
            refused += _view(ledger, f"w{number}.", other, size.round_seconds, publishing=True)
            came_back = load.stop(PATIENCE) and came_back
    for over in closes.closed_over:
        result.struck(what, over - 1)
    result.must_hit(what)
    result.one_outcome_each(what, ledger, came_back)
    alone, slowed = statistics.median(rates[False]), statistics.median(rates[True])
    wrong = [one for one in refused if not isinstance(one.error, Rejected)]
    hurt = len(ledger.attempts) - len(ledger.confirms) - len(refused)
    result.promise(
        what,
        "the view is Rejected, and nobody else",
        not wrong and not hurt,
        f"{len(refused)} calls of it, {len(wrong)} ended otherwise; {hurt} others",
    )
    least = SLOWED / size.slack
    result.promise(
        what,
        f"another queue keeps {least:.2f} of its rate",
        slowed >= least * alone,
        f"{slowed / alone:.2f} ({alone:,.0f}/s alone, {slowed:,.0f}/s next to it)",
    )
    stage.node.delete_queue(queue.name)


def _view(
    ledger: Ledger, prefix: str, exchange: str, seconds: float, publishing: bool
) -> list[Attempt]:
    """A hundred calls a second, or none, for so long."""
    pause, made = threading.Event(), []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if publishing:
            made.append(ledger.publish(f"{prefix}{len(made)}", exchange=exchange))
        pause.wait(min(left, VIEW_PAUSE))
    return made
