"""Many threads: one connection for all of them, cut again and again."""

from __future__ import annotations

import time
from collections import Counter

from rmq_publisher import QueueConfig, connections

from .cuts import cut_at
from .ledger import Ledger, Load, Reading, counts, percentile
from .result import Result
from .stage import PATIENCE, Stage

WINDOW = 64  # RMQ_MAX_IN_FLIGHT, and so the most duplicates of a cut
_CUT = "cut under many threads"
_WHAT = "many threads"


def many_threads(stage: Stage) -> Result:
    """So many threads times so many messages; the cuts come spread over all of them."""
    size, chance = stage.size, stage.chance("threads")
    head = [
        "threads",
        "messages",
        "cuts",
        "outcomes",
        "messages/s",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "duplicates",
    ]
    result = Result("Many threads", head)
    queue = QueueConfig(stage.name("threads"))
    total = size.threads * size.each
    with (
        stage.proxy() as proxy,
        stage.library(proxy.url, PUBLISH_TIMEOUT=PATIENCE, MAX_IN_FLIGHT=WINDOW),
        Ledger() as ledger,
    ):
        began = time.monotonic()
        load = Load(ledger, size.threads, lambda _: {"queue": queue}, left=total).start()
        spread = total // (size.cuts + 2)
        for number in range(size.cuts):
            # What was cut off comes first on the next connection: it is not hit a second time.
            n = chance.randint(max(2 * WINDOW, spread // 4), spread // 2)
            fault = cut_at(proxy, n, chance)
            while load.running and not fault.wait(1):
                pass
            if not fault.hits:
                break
            result.struck(_CUT, fault.in_flight)
            proxy.wait_for_connections(number + 2, PATIENCE)
        came_back = load.join(3 * PATIENCE)
        seconds = time.monotonic() - began
        connects = connections["default"].status().connects
    received = stage.read(stage.node.url(), queue.name, len(ledger.confirms))
    cuts = len(result.strikes)
    reading = Reading.of(ledger.attempts, received)
    result.must_hit(_CUT, size.cuts)
    result.one_outcome_each(_WHAT, ledger, came_back and len(ledger.attempts) == total)
    result.read_back(_WHAT, reading, WINDOW * cuts)
    lost = total - len(ledger.confirms)
    result.promise(
        _WHAT,
        "what was cut off once is sent again and confirmed",
        not lost,
        f"{lost} of {total:,} not confirmed",
    )
    result.promise(
        _WHAT,
        "a cut costs one reconnection",
        connects == cuts + 1,
        f"{connects} connections, {cuts} cuts",
    )
    times = [f"{percentile(ledger.attempts, share) * 1000:.1f}" for share in (0.5, 0.99, 1)]
    result.rows.append(
        [
            str(size.threads),
            f"{total:,}",
            str(cuts),
            counts(ledger.attempts),
            f"{total / seconds:,.0f}",
            *times,
            str(reading.duplicates),
        ]
    )
    most = Counter(message.properties.message_id for message in received).most_common(1)
    result.promise(
        _WHAT,
        "no message more than twice",
        not most or most[0][1] <= 2,
        f"{most[0][1] if most else 0} times",
    )
    return result
