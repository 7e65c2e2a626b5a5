"""How large a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The figures of one run.

    Attributes:
        slack: what bounds of time are multiplied by; in the suite they prove "does not hang" only.
    """

    name: str
    slack: float
    publishes: int  # in each state of a broker that is not there
    callers: int
    known: int  # more of them, once it is known to be down
    outages: tuple[float, ...]  # seconds
    threads: int
    each: int  # messages of each of these threads
    cuts: int
    messages: int  # of each kind of poison
    one_in: int
    rounds: int  # of the queue next to a forbidden exchange
    round_seconds: float
    inputs: int
    pieces: int  # messages over a torn stream
    kills: int


SMALL = Size(
    name="small",
    slack=4,
    publishes=32,
    callers=32,
    known=100,
    outages=(0.5,),
    threads=16,
    each=200,
    cuts=5,
    messages=900,
    one_in=100,
    rounds=2,
    round_seconds=0.5,
    inputs=150,
    pieces=1000,
    kills=1,
)
FULL = Size(
    name="full",
    slack=1,
    publishes=1000,
    callers=32,
    known=1000,
    outages=(1, 1, 1, 1, 10, 60),
    threads=64,
    each=2000,
    cuts=24,
    messages=20_000,
    one_in=1000,
    rounds=6,
    round_seconds=6,  # longer than a refusal is remembered: each round meets the broker's once
    inputs=10_000,
    pieces=20_000,
    kills=3,
)
SIZES = {size.name: size for size in (SMALL, FULL)}
