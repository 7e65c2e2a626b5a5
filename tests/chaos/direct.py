"""Publishing now, from several processes, while everything is broken one after the other."""

from __future__ import annotations

import re
import time
from collections import Counter

from tests.faults.result import Result

from . import checker
from .actors import Worker, until
from .journal import read_direct
from .stage import EXCHANGE, Stage
from .storm import KILL, Storm

WINDOW = 64
_NAMES = {
    "+": "confirmed",
    "T": "ConfirmTimeout",
    "U": "BrokerUnavailable",
    "N": "Nacked",
    "R": "Rejected",
    "X": "Unroutable",
}


def direct(stage: Stage) -> Result:
    size = stage.size
    result = Result("Publishing now", ["messages and calls", ""])
    queues = [stage.queue(stage.name("now.")) for _ in range(size.processes)]
    volatile = stage.queue(stage.name("volatile."))
    proxies = [stage.proxy() for _ in range(size.processes // 2)]
    for number, queue in enumerate(queues):
        url = proxies[number].url if number < len(proxies) else ""
        where = (
            {"queue": queue} if number % 2 == 0 else {"exchange": EXCHANGE, "routing_key": queue}
        )
        rmq = stage.rmq(url, MAX_IN_FLIGHT=WINDOW)
        stage.start(
            Worker(
                stage,
                f"w{number}",
                rmq,
                do="direct",
                threads=4,
                publish=where,
                volatile=volatile,
                rest=size.rest,
            )
        )
    began = time.monotonic()
    storm = Storm(stage, result, proxies, queues[1::2], volatile)
    storm.blow(size.faults, size.broker_kills)
    workers = stage.workers()
    until(lambda: sum(worker.done for worker in workers) >= size.publishes, 3600, every=0.1)
    seconds = time.monotonic() - began
    stage.stop_workers()
    stories = [story for worker in workers for story in worker.stories(read_direct)]
    lost = sum(worker.connects for worker in workers) + storm.channels_lost
    arrived = stage.arrived(*queues, volatile)
    deleted = {one for one in checker.gone(stories, arrived) if was_volatile(one)}
    broken = checker.told(stories, arrived, most_duplicates=WINDOW * lost, lost=deleted)
    told: Counter[str] = Counter()
    for story in stories:
        told += story.outcomes()
    killed = sum(len(story.untold) for story in stories if story.killed)
    result.rows += [
        ["messages attempted", f"{sum(len(story.attempted) for story in stories):,}"],
        *([_NAMES.get(letter, letter), f"{count:,}"] for letter, count in told.most_common()),
        ["confirmed, in the queue that was deleted", f"{len(deleted):,}"],
        ["died with their process", f"{killed:,}"],
        ["processes that were there", f"{len(stories):,}"],
        ["connections and channels lost", f"{lost:,}"],
        ["read from the queues", f"{len(arrived.ids):,}"],
        ["duplicates", f"{arrived.duplicates:,}"],
        ["took", f"{seconds:.0f} s"],
    ]
    # All kinds, in a run that is long enough, and the kills.
    _judge(result, stage, broken, told, min(size.faults, len(storm.kinds) - 1) + 1)
    few_duplicates(
        result,
        "publishing now",
        "at most a window of duplicates for each lost connection or channel",
        broken,
        arrived,
        WINDOW * lost,
    )
    return result


def was_volatile(message_id: str) -> bool:
    """Whether a message was sent to the queue that is deleted, as `work.direct` names it."""
    return re.fullmatch(r"\w+-v\d+", message_id) is not None


def _judge(
    result: Result,
    stage: Stage,
    broken: list[checker.Broken],
    told: Counter[str],
    all_kinds: int,
) -> None:
    size = stage.size
    hits = [strike for strike in result.strikes if strike.in_flight]
    kinds = {strike.what for strike in hits}
    kills = sum(strike.what == KILL for strike in hits)
    wanted = size.faults + size.broker_kills
    what = "publishing now"
    held = len(hits) >= wanted and kills >= size.broker_kills and len(kinds) >= all_kinds
    result.promise(
        what,
        f"{wanted} faults of {all_kinds} kinds hit something, {size.broker_kills} of them broker kills",
        held,
        f"{len(hits)} of {len(result.strikes)} of {len(kinds)} kinds, {kills} broker kills",
    )
    enough = told["+"] >= size.publishes
    result.promise(what, f"{size.publishes:,} messages are confirmed", enough, f"{told['+']:,}")
    verdict(
        result,
        what,
        broken,
        {
            "missing": "all that was confirmed is there, but for the queue that was deleted",
            "untold": "every call ended, except in killed processes",
            "outcome": "every call ended with an outcome of the contract",
            "ghost": "no message that was reported as not sent is there",
            "stranger": "each duplicate has its first one's id",
        },
    )


def verdict(
    result: Result, what: str, broken: list[checker.Broken], texts: dict[str, str]
) -> None:
    """A promise for each kind; what is not among them is one as well, where it is broken."""
    by_kind = {one.kind: one for one in broken}
    for kind, text in texts.items():
        found = by_kind.pop(kind, None)
        result.promise(what, text, found is None, found or f"0 {kind}")
    for kind, one in by_kind.items():
        if kind != "duplicate":
            result.promise(what, f"nothing else is wrong ({kind})", False, one)


def few_duplicates(
    result: Result,
    what: str,
    text: str,
    broken: list[checker.Broken],
    arrived: checker.Arrived,
    most: int,
) -> None:
    """Promise that there are no more than allowed, and tell how many there are."""
    found = next((one for one in broken if one.kind == "duplicate"), None)
    result.promise(
        what, text, found is None, found or f"{arrived.duplicates:,} of at most {most:,}"
    )
