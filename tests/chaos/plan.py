"""How large a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The figures of one run.

    Attributes:
        slack: what bounds of time are multiplied by; in the suite they prove "does not hang" only.
        times: short, so that what a killed process held is soon another one's.
    """

    name: str
    slack: float
    times: dict[str, float]  # RMQ_ settings of stored messages, in seconds
    # direct
    processes: int
    publishes: int
    faults: int  # besides kills of the broker
    broker_kills: int
    rest: float  # seconds between two calls of a thread
    # outbox: by database, transactions and kills of workers, relays, the database and the broker
    web: int  # processes that publish
    transactions: dict[str, int]
    kills: dict[str, tuple[int, int, int, int]]
    pause: float  # seconds that a transaction may last besides
    # outage
    outage: float  # seconds
    # order
    writers: int  # threads, in four processes
    rows: int
    keys: int
    relay_kills: int
    # alarm
    attempts: int
    liars: int  # transactions of each
    # consumers
    consumed: int  # messages
    work: float  # seconds of each handler, so that faults find it at work
    consumer_faults: tuple[int, int, int, int]  # workers, connections, the database, the broker


def _times(hold: float, timeout: float) -> dict[str, float]:
    return {
        "OUTBOX_GRACE": hold,
        "OUTBOX_LEASE": hold,
        "PUBLISH_TIMEOUT": timeout,
        "RETRY_MAX_BACKOFF": 2,
    }


SMALL = Size(
    name="small",
    slack=20,
    times=_times(2.5, 1.5),
    processes=2,
    publishes=4000,
    faults=11,
    broker_kills=1,
    rest=0.01,
    web=3,
    transactions={"postgres": 500, "sqlite": 100, "mariadb": 150},
    kills={"postgres": (3, 3, 1, 1), "sqlite": (2, 2, 0, 0), "mariadb": (2, 2, 1, 0)},
    pause=0.06,
    outage=4,
    writers=8,
    rows=400,
    keys=20,
    relay_kills=4,
    attempts=1000,
    liars=40,
    consumed=280,
    work=0.15,
    consumer_faults=(2, 1, 1, 1),
)
FULL = Size(
    name="full",
    slack=1,
    times=_times(5, 2),
    processes=8,
    publishes=1_000_000,
    faults=275,
    broker_kills=30,
    rest=0.08,
    web=6,
    transactions={"postgres": 100_000, "sqlite": 20_000, "mariadb": 20_000},
    kills={"postgres": (80, 80, 20, 20), "sqlite": (15, 15, 0, 4), "mariadb": (15, 15, 6, 4)},
    pause=0.06,
    outage=40,
    writers=16,
    rows=20_000,
    keys=200,
    relay_kills=40,
    attempts=100_000,
    liars=200,
    consumed=50_000,
    work=0.04,
    consumer_faults=(50, 30, 10, 10),
)
SIZES = {size.name: size for size in (SMALL, FULL)}
