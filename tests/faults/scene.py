"""One state of a broker about to be brought about, and how its calls are judged."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rmq_publisher import QueueConfig
from tests.support.rig.proxy import Proxy

from .cuts import After, arm
from .ledger import Attempt, Ledger, Load, Reading, counts, median, percentile
from .result import Result
from .stage import PATIENCE, Stage, until

TIMEOUT = 1.0  # of every call
BEYOND = 0.3  # what the slowest hundredth may take beyond it
KNOWN_DOWN = 0.005
BACK = 3.0
HEAD = (
    "state",
    "in flight",
    "calls",
    "outcomes",
    "p50 ms",
    "p99 ms",
    "longest ms",
    "known down, ms",
    "back after s",
)
NOT_MEASURED = "-"


@dataclass
class Scene:
    """A queue behind a proxy, the library pointed at it, and a ledger of all calls."""

    name: str
    stage: Stage
    result: Result
    proxy: Proxy
    queue: QueueConfig
    chance: random.Random
    ledger: Ledger
    url: str  # of the broker itself

    def load(self, prefix: str = "m", **options: Any) -> Load:
        """Have all callers begin."""
        where, callers = {"queue": self.queue}, self.stage.size.callers
        return Load(self.ledger, callers, lambda _: where, prefix=prefix, **options).start()

    def flowing(self, **options: Any) -> Load:
        """The same; return once messages are being confirmed."""
        load = self.load(**options)
        until(lambda: len(self.ledger.confirms) > 100)
        return load

    # -- striking -----------------------------------------------------------------------------

    def cut(self) -> int:
        """Cut the connection in mid-stream; tell how many messages were in flight."""
        fault = arm(self.proxy, After(self.chance.randint(5, 50), True))
        return int(fault.in_flight) if fault.wait(PATIENCE) else 0

    def unanswered(self, strike: Callable[[], object]) -> Callable[[], int]:
        """Strike; what was hit shows when the calls have ended."""
        strike()
        moment = time.monotonic()
        return lambda: self.ledger.hit_at(moment)

    # -- judging ------------------------------------------------------------------------------

    def judge(self, calls: Sequence[Attempt], came_back: bool, most: int | None = None) -> None:
        """One outcome each, in time, and the queue agrees."""
        slack, ledger = self.stage.size.slack, self.ledger
        self.result.one_outcome_each(self.name, ledger, came_back)
        for text, share, limit in (
            ("every call", 1.0, 2 * TIMEOUT * slack),
            ("99 of 100 calls", 0.99, (TIMEOUT + BEYOND) * slack),
        ):
            took = percentile(calls, share)
            self.promise(f"{text} within {limit:.1f} s", took <= limit, f"{took:.2f} s")
        received = self.stage.read(self.url, self.queue.name, len(ledger.confirms))
        self.result.read_back(self.name, Reading.of(ledger.attempts, received), most)

    def judge_known_down(self, calls: Sequence[Attempt]) -> None:
        """Calls that need not be waited for; none of them means that it was not noticed."""
        limit, took = KNOWN_DOWN * self.stage.size.slack, median(calls)
        told = f"{took * 1000:.2f} ms" if calls else "it was not noticed"
        text = f"known down: median under {limit * 1000:.0f} ms"
        self.promise(text, bool(calls) and took < limit, told)

    def judge_back(self, seconds: float, limit: float) -> None:
        """Publishing works again in time."""
        text = f"publishing again within {limit:.0f} s"
        self.promise(text, seconds < limit, f"{seconds:.2f} s")

    def promise(self, text: str, held: bool, measured: object) -> None:
        """Note whether a promise held here."""
        self.result.promise(self.name, text, held, measured)

    def row(
        self, label: str, in_flight: int, calls: Sequence[Attempt], known: str, back: str
    ) -> None:
        """The figures."""
        times = [f"{percentile(calls, share) * 1000:.1f}" for share in (0.5, 0.99, 1)]
        cells = [label, str(in_flight), f"{len(calls):,}", counts(calls), *times, known, back]
        self.result.rows.append(cells)


@contextmanager
def set_up(stage: Stage, result: Result, name: str, *, quorum: bool = False) -> Iterator[Scene]:
    """Set one up on the node, or on the first node of the cluster."""
    url = stage.cluster.urls[0] if quorum else stage.node.url()
    queue = QueueConfig(stage.name("states"), queue_type="quorum" if quorum else None)
    with (
        stage.proxy(url) as proxy,
        stage.library(proxy.url, PUBLISH_TIMEOUT=TIMEOUT),
        Ledger() as ledger,
    ):
        yield Scene(name, stage, result, proxy, queue, stage.chance(name), ledger, url)
