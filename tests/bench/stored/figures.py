"""What is measured of stored messages, and the tables of it."""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.contest import say
from tests.bench.table import markdown

if TYPE_CHECKING:
    from .__main__ import Process, Stage

Rows = list[tuple[str, str, str]]  # figure, measured, aim
Measured = dict[str, Any]
RATES = "messages/s"


@dataclass(frozen=True)
class Size:
    """How much of it."""

    rows: int
    slow_rows: int  # of those who would need minutes for as many
    rounds: int
    seconds: float
    messages: int
    delivered: int
    claims: int
    waiting: int  # rows that are due tomorrow

    @classmethod
    def quick(cls) -> Size:
        return cls(4_000, 500, 3, 0.5, 100, 100_000, 20, 100_000)

    @classmethod
    def full(cls) -> Size:
        return cls(20_000, 2_000, 5, 2.0, 500, 5_000_000, 200, 1_000_000)


def rate(measured: Measured) -> float:
    return float(measured["messages"] / measured["seconds"])


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def verdict(value: float, aim: float, *, most: bool = False) -> str:
    short = value > aim if most else value < aim
    return f"{value:.2f}{', short of it' if short else ''}"


def relays(stage: Stage, size: Size) -> tuple[Rows, str]:
    """20,000 rows through one relay, beside what others do and beside no table at all."""
    slow = size.slow_rows
    tasks: dict[str, tuple[str, Measured]] = {
        "relay": ("rmq_publisher, one relay, confirmed", {"do": "relay", "messages": size.rows}),
        "many": (
            "rmq_publisher, publish_many without the table",
            {"do": "many", "messages": size.rows},
        ),
        "pattern": ("django-outbox-pattern, unconfirmed", {"do": "relay", "messages": size.rows}),
        "jaiminho": ("jaiminho's way, confirmed", {"do": "relay", "messages": slow}),
    }
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(stage.peer("stored.ours"))
        peers = {"relay": ours, "many": ours}
        if importlib.util.find_spec("django_outbox_pattern"):
            peers["pattern"] = stack.enter_context(stage.peer("stored.outbox_pattern"))
        peers["jaiminho"] = stack.enter_context(stage.peer("stored.jaiminho"))
        rates: dict[str, list[float]] = {key: [] for key in tasks}
        cpu: dict[str, list[float]] = {key: [] for key in tasks}
        for _ in range(size.rounds):
            for key, peer in peers.items():
                measured = stage.counted(peer, **tasks[key][1])
                rates[key].append(rate(measured))
                cpu[key].append(measured["cpu"] / measured["messages"] * 1e6)
    told = [
        _figure(rates, "pattern", "the relay ÷ django-outbox-pattern", 4),
        _figure(rates, "jaiminho", "the relay ÷ jaiminho's way", 20),
        _figure(rates, "many", "the relay ÷ publish_many", 0.6),
    ]
    rows = [
        [label, f"{statistics.median(rates[key]):,.0f}", f"{statistics.median(cpu[key]):.0f}"]
        if rates[key]
        else [label, "not installed", ""]
        for key, (label, _) in tasks.items()
    ]
    title = f"### {size.rows:,} rows through one relay"
    return told, f"{title}\n\n{markdown(['', RATES, 'CPU µs/message'], rows)}"


def _figure(
    rates: dict[str, list[float]], other: str, what: str, aim: float
) -> tuple[str, str, str]:
    if not rates[other]:
        return what, "not measured", f"{aim:g}"
    return what, verdict(ratio(rates["relay"], rates[other]), aim), f"{aim:g}"


REQUESTS = {
    "": "nothing published", "on_commit": "on_commit", "outbox": "outbox",
    "written": "outbox, of which nothing is sent",
}  # fmt: skip


def requests(stage: Stage, size: Size) -> tuple[Rows, str]:
    """What a request that inserts one row pays for publishing one message."""
    told: Rows = []
    rows = []
    with stage.peer("stored.ours") as ours:
        for threads in (1, 8):
            p50: dict[str, list[float]] = {"": [], "on_commit": [], "outbox": [], "written": []}
            for _ in range(size.rounds):
                for delivery, taken in p50.items():
                    measured = stage.counted(
                        ours,
                        do="request",
                        delivery=delivery,
                        threads=threads,
                        seconds=size.seconds,
                    )
                    taken.append(measured["p50"])
            added = {
                name: [value - nothing for value, nothing in zip(p50[name], p50[""], strict=True)]
                for name in ("on_commit", "outbox", "written")
            }
            what = f"what outbox adds to a request ÷ what on_commit adds, {threads} threads"
            value = ratio(added["outbox"], added["on_commit"])
            told.append((what, verdict(value, 1.0, most=True), "at most 1"))
            value = ratio(added["written"], added["on_commit"])
            told.append((f"of that, the row alone, of which nothing is sent, {threads} threads",
                         f"{value:.2f}", ""))  # fmt: skip
            rows += [
                [
                    f"{REQUESTS[delivery]}, {threads} threads",
                    f"{statistics.median(taken):.2f}",
                ]
                for delivery, taken in p50.items()
            ]
    return told, f"### A request that inserts one row\n\n{markdown(['', 'p50 ms'], rows)}"


def arrivals(stage: Stage, size: Size) -> tuple[Rows, str]:
    """From commit to a consumer, sent by the writer and by a relay alone."""
    rows = []
    told: Rows = []
    messages = size.messages
    with (
        stage.peer("stored.ours") as writer,
        stage.peer("stored.ours", RMQ_OUTBOX_GRACE=0) as lazy,
    ):
        lazy.run(do="start_relay")
        taken: dict[str, list[Measured]] = {"confirmed": [], "writer": [], "relay": []}
        for _ in range(size.rounds):
            stage.amqp.channel.queue_purge(stage.queue)
            taken["confirmed"].append(writer.run(do="confirmed", messages=messages))
            for name, process in (("writer", writer), ("relay", lazy)):
                stage.amqp.channel.queue_purge(stage.queue)
                taken[name].append(process.run(do="arrival", messages=messages))
        lazy.run(do="end_relay")
    base = [measured["p50"] for measured in taken["confirmed"]]
    labels = {"confirmed": "one confirmed publish", "writer": "sent by the writer",
              "relay": "by a relay alone (grace 0, NOTIFY)"}  # fmt: skip
    for name, measured in taken.items():
        p50 = statistics.median(one["p50"] for one in measured)
        p99 = statistics.median(one.get("p99", 0.0) for one in measured)
        rows.append([labels[name], f"{p50:.2f}", f"{p99:.2f}" if p99 else ""])
        if name != "confirmed":
            times = ratio([one["p50"] for one in measured], base)
            told.append(
                (f"commit to consumer, {labels[name]} ÷ confirmed publish", f"{times:.2f}", "")
            )
    return told, f"### From commit to a consumer\n\n{markdown(['', 'p50 ms', 'p99 ms'], rows)}"


def claims(stage: Stage, size: Size) -> tuple[Rows, str]:
    """A claim of 256 of 1,000 pending rows, alone and beside millions of delivered ones."""
    with stage.peer("stored.ours") as ours:
        say(f"  {size.delivered:,} delivered rows")
        small = ours.run(do="claim", delivered=0, pending=1000, rounds=size.claims)["p50"]
        large = ours.run(do="claim", delivered=size.delivered, pending=1000, rounds=size.claims)[
            "p50"
        ]
    what = f"claim beside {size.delivered:,} delivered rows ÷ alone"
    rows = [
        ["alone", f"{small:.2f}"],
        [f"beside {size.delivered:,} delivered rows", f"{large:.2f}"],
    ]
    table = markdown(["256 of 1,000 pending rows", "p50 ms"], rows)
    return [
        (what, verdict(large / small, 1.5, most=True), "at most 1.5")
    ], f"### The claim\n\n{table}"


def scheduled(stage: Stage, size: Size) -> tuple[Rows, str]:
    """What a million messages for tomorrow cost, how late one is, and who wins a race with `cancel`."""
    with stage.peer("stored.ours") as ours:
        say(f"  {size.waiting:,} rows that wait")
        alone = ours.run(do="waiting", waiting=0, rounds=size.claims)["p50"]
        beside = ours.run(do="waiting", waiting=size.waiting, rounds=size.claims)["p50"]
        late = ours.run(do="lateness", messages=size.messages // 5, waiting=size.waiting)
        race = stage.counted(ours, do="race", messages=2 * size.messages)
    many = f"beside {size.waiting:,} for tomorrow"
    both = 2 * size.messages - race["messages"] - race["cancelled"] - race["left"]
    early = "none" if late["first"] >= 0 else f"{late['first']:.3f} s, short of it"
    told: Rows = [
        (f"claim {many} ÷ alone", verdict(beside / alone, 1.5, most=True), "at most 1.5"),
        ("earliest of countdown=2", early, "none early"),
        ("latest of countdown=2, s", verdict(late["last"], 1.0, most=True), "at most 1.0"),
        (
            "both sent and cancelled, or neither",
            "none" if not both else f"{both}, short of it",
            "none",
        ),
    ]
    claims = markdown(
        ["256 of 1,000 pending rows", "p50 ms"],
        [["alone", f"{alone:.2f}"], [many, f"{beside:.2f}"]],
    )
    lateness = markdown(
        ["countdown=2, seconds after its time", ""],
        [[name, f"{late[key]:.3f}"] for name, key in
         (("earliest", "first"), ("median", "p50"), ("latest", "last"))],
    )  # fmt: skip
    raced = markdown(
        ["a race for messages that are due", ""],
        [["sent", f"{race['messages']:,}"], ["cancelled", f"{race['cancelled']:,}"]],
    )
    return told, f"### Scheduled messages\n\n{claims}\n\n{lateness}\n\n{raced}"


KEYS = {1000: 1 / 2, 20: 1 / 3, 1: 1 / 20}


def keys(stage: Stage, size: Size) -> tuple[Rows, str]:
    """Rows with ordering keys through one relay, and the claims that are known to go wrong."""
    counts = {0: size.rows, 1000: size.rows, 20: size.rows // 2, 1: size.rows // 10}
    rates: dict[int, list[float]] = {count: [] for count in counts}
    told: Rows = []
    with stage.peer("stored.ours") as ours:
        for _ in range(size.rounds):
            for count, messages in counts.items():
                rates[count].append(
                    rate(stage.counted(ours, do="relay", messages=messages, keys=count))
                )
        for count, aim in KEYS.items():
            told.append(
                (
                    f"the relay with {count} keys ÷ without",
                    verdict(ratio(rates[count], rates[0]), aim),
                    f"{aim:.2f}",
                )
            )
        rows = [
            [f"{count} keys" if count else "without keys", f"{statistics.median(taken):,.0f}"]
            for count, taken in rates.items()
        ]
        bad = _bad_claims(ours, size)
    for case, (_, worst) in bad.items():
        text = f"{worst:.0f} ms{', short of it' if worst > 100 else ''}"
        told.append((f"longest claim, {case}", text, "100 ms"))
    cases = [[case, f"{p50:.1f}", f"{worst:.1f}"] for case, (p50, worst) in bad.items()]
    tables = [
        markdown(["", RATES], rows),
        markdown(["claim of keyed rows", "p50 ms", "longest ms"], cases),
    ]
    return told, "### With ordering keys\n\n" + "\n\n".join(tables)


def _bad_claims(ours: Process, size: Size) -> dict[str, tuple[float, float]]:
    found = {}
    for case in ("every head leased", "half of the rows share one key"):
        measured = ours.run(do="bad_keys", case=case, rows=size.rows)
        found[case] = measured["p50"], measured["max"]
    return found


PARTS: dict[str, Callable[[Stage, Size], tuple[Rows, str]]] = {
    "relays": relays, "requests": requests, "arrivals": arrivals, "claims": claims, "keys": keys,
    "scheduled": scheduled,
}  # fmt: skip
