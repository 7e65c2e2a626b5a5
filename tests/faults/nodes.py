"""A cluster of three nodes: each is killed in turn while a quorum queue is published to."""

from __future__ import annotations

import itertools
import time

from rmq_publisher import QueueConfig, connections

from .ledger import Ledger, Load, Reading, counts, percentile
from .result import Result
from .stage import PATIENCE, Stage, until

THREADS = 16
PAUSE = 0.005  # seconds; few enough messages to be read back
BACK = 5.0
_WHAT = "node killed"


def nodes(stage: Stage) -> Result:
    """The first node killed is the one that the connection is on."""
    size, cluster = stage.size, stage.cluster
    head = ["killed", "we were on it", "in flight", "first confirm after s", "longest gap s"]
    result = Result("A cluster of three nodes", head)
    queue = QueueConfig(stage.name("cluster"), queue_type="quorum")
    with stage.library(cluster.urls, PUBLISH_TIMEOUT=10), Ledger() as ledger:
        load = Load(ledger, THREADS, lambda _: {"queue": queue}, pause=PAUSE).start()
        for number in range(size.kills):
            _moves_on(ledger, 500 if size.slack == 1 else 100)
            _kill(result, stage, ledger, number)
        came_back = load.stop(PATIENCE)
    expected = len(ledger.confirms)
    received = stage.read(cluster.urls[0], queue.name, expected)
    reading = Reading.of(ledger.attempts, received)
    result.must_hit(_WHAT)
    result.one_outcome_each(_WHAT, ledger, came_back)
    result.read_back(_WHAT, reading, 64 * size.kills)
    times = [f"{percentile(ledger.attempts, share) * 1000:.1f} ms" for share in (0.5, 0.99, 1)]
    result.promise(
        _WHAT,
        "messages are confirmed before, between and after",
        expected > 100,
        f"{counts(ledger.attempts)}; p50, p99, longest {', '.join(times)}",
    )
    return result


def _kill(result: Result, stage: Stage, ledger: Ledger, number: int) -> None:
    cluster = stage.cluster
    on_it = connections["default"].status().node.endswith(f":{cluster.nodes[number].port}")
    until(lambda: connections["default"].status().in_flight > 1)
    killed = time.monotonic()
    cluster.kill(number)
    hit = [one for one in ledger.spanning(time.monotonic()) if one.began < killed]
    until(lambda: ledger.confirms[-1].began > killed)
    _moves_on(ledger, 500 if stage.size.slack == 1 else 100)
    moments = [killed, *(one.ended for one in tuple(ledger.confirms) if one.ended > killed)]
    moments.append(time.monotonic())
    gap = max(later - earlier for earlier, later in itertools.pairwise(moments))
    first = next((one.ended for one in ledger.confirms if one.began > killed), killed + PATIENCE)
    result.struck(_WHAT, len(hit))
    limit = BACK * stage.size.slack
    result.promise(
        f"{_WHAT} ({number + 1})",
        f"publishing again within {limit:.0f} s",
        max(gap, first - killed) < limit,
        f"{max(gap, first - killed):.2f} s",
    )
    result.rows.append(
        [
            f"node {number + 1}",
            "yes" if on_it else "no",
            str(len(hit)),
            f"{first - killed:.2f}",
            f"{gap:.2f}",
        ]
    )
    cluster.restart(number)
    cluster.wait_joined()


def _moves_on(ledger: Ledger, count: int) -> bool:
    before = len(ledger.confirms)
    return until(lambda: len(ledger.confirms) > before + count)
