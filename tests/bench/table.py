"""The tables of a run, as Markdown that is readable on a terminal too."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .contest import Contest, Entry, Measured
from .extras import Import
from .peers import PEERS
from .plan import BLOCKING, TASKS, THREADS, TRANSACTION, WINDOW
from .spans import STEPS

BEGIN = "<!-- BEGIN benchmark: made by `make bench`, not by hand -->"
END = "<!-- END benchmark -->"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are aligned; all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def ratio(contest: Contest, entry: Entry, ours: Entry | None = None) -> str:
    """The median, and between what the middle half of the rounds was."""
    found = contest.ratios(entry, ours)
    if not found or entry is contest.first:
        return ""
    quarter = len(found) // 4
    low, high = found[quarter], found[-1 - quarter]
    return f"{statistics.median(found):.2f} ({low:.2f} to {high:.2f})"


def rates(contest: Contest) -> str:
    """Of messages published as fast as it goes."""
    waits = any("latencies" in m for entry in contest.entries for m in entry.rounds)
    head = ["client", "messages/s", "CPU µs/message", "ours ÷ it"]
    if waits:
        head[2:2] = ["p50 ms", "p99 ms"]
    rows = []
    for entry in contest.entries:
        if entry.error:
            rows.append([entry.label, entry.error, *[""] * (len(head) - 2)])
            continue
        row = [entry.label, f"{contest.scored(entry):,.0f}"]
        if waits:
            known = "latencies" in entry.rounds[0]
            row += [f"{entry.percentile(share):.2f}" if known else "" for share in (0.5, 0.99)]
        rows.append([*row, f"{entry.cpu_per_message:.0f}", ratio(contest, entry)])
    return markdown(head, rows)


def transactions(contest: Contest) -> str:
    head = ["client", "p50 ms", "p99 ms", "CPU µs/message", "ours ÷ it"]
    rows = []
    for entry in contest.entries:
        if entry.error:
            rows.append([entry.label, entry.error, "", "", ""])
            continue
        row = [entry.label, *(f"{entry.percentile(share):.1f}" for share in (0.5, 0.99))]
        rows.append([*row, f"{entry.cpu_per_message:.0f}", ratio(contest, entry)])
    return markdown(head, rows)


def share(entry: Entry) -> float:
    """The call before the commit over one confirmed publish."""
    return statistics.median(m["call"] / m["confirmed"] for m in entry.rounds)


def calls(contest: Contest) -> str:
    head = ["client", "the call, µs", "mean", "confirmed publish, µs", "share"]
    rows = []
    for entry in contest.entries:
        if entry.error:
            rows.append([entry.label, entry.error, "", "", ""])
            continue
        times = [f"{entry.median(what):.0f}" for what in ("call", "call_mean", "confirmed")]
        rows.append([entry.label, *times, f"{share(entry):.3f}"])
    return markdown(head, rows)


def footprints(entries: Sequence[Entry]) -> str:
    head = ["client", "connections", "threads", "MiB", "of these by publishing"]
    rows = []
    for entry in entries:
        if entry.error:
            rows.append([entry.label, entry.error, "", "", ""])
            continue
        held = entry.rounds[0]
        counts = [str(held["connections"]), str(held["threads"])]
        rows.append([entry.label, *counts, f"{held['memory']:.1f}", f"{held['grown']:.1f}"])
    return markdown(head, rows)


def imports(rows: Sequence[Import]) -> str:
    head = ["import", "ms", "modules"]
    cells = [
        [row.label, row.error or f"{row.milliseconds:.0f}", "" if row.error else str(row.modules)]
        for row in rows
    ]
    return markdown(head, cells)


@dataclass(frozen=True)
class Figure:
    """Something that is aimed at.

    Attributes:
        key: of the contest that it is of.
        short: whether it falls short of the aim.
    """

    key: str
    what: str
    measured: str
    aim: str
    short: bool = False

    @property
    def row(self) -> tuple[str, str, str]:
        return self.what, f"{self.measured}{', short of it' if self.short else ''}", self.aim


def figures(contests: dict[str, Contest]) -> list[Figure]:
    """All that is aimed at in these contests."""
    found = []

    def compare(
        key: str, what: str, aim: float, *names: str, window: int | None = None, wide: bool = False
    ) -> None:
        """Put ours beside the fastest of some peers; without names, of all confirmed ones."""
        if (contest := contests.get(key)) is None:
            return
        other = contest.fastest(names, window)
        ours = contest.ours(window if wide else None)
        if other is None or ours is None or not ours.rounds:
            whom = ", ".join(PEERS[name].label for name in names) or "the fastest peer"
            found.append(Figure(key, f"{what} ÷ {whom}", "not measured", f"{aim:g}"))
        else:
            short = round(statistics.median(contest.ratios(other, ours)), 2) < aim
            measured = ratio(contest, other, ours)
            found.append(Figure(key, f"{what} ÷ {other.label}", measured, f"{aim:g}", short))

    compare("one", "one thread", 1)
    compare("threads", f"{THREADS} threads", 2, *BLOCKING, "blocking")
    aio_pika = ("aio_pika", "aio_pika_uvloop")
    compare("many", "many at once", 2, *aio_pika)
    compare("many", f"many at once, window {TASKS},", 2, *aio_pika, window=TASKS, wide=True)
    compare("many", "many at once", 1, "native", window=WINDOW)
    compare("many", f"many at once, window {TASKS},", 1, "native", window=TASKS, wide=True)
    compare("transaction", f"{TRANSACTION} in a transaction", 6, "flask_rmq", "blocking")
    if (call := contests.get("call")) is not None and call.first.rounds:
        worst = max(share(entry) for entry in call.entries if entry.ours and entry.rounds)
        what = "publish() before the commit ÷ confirmed publish"
        found.append(Figure("call", what, f"{worst:.3f}", "< 0.1", worst >= 0.1))
    return found


def profile(rounds: Sequence[Measured]) -> str:
    """Where the time of a message goes: our steps, what else we do, and what we wait for."""

    def per_message(seconds: Callable[[Measured], float]) -> float:
        return statistics.median(seconds(m) / m["messages"] * 1e6 for m in rounds)

    steps: dict[str, float] = {}
    for step in dict.fromkeys(step for *_, step in STEPS):
        steps[step] = per_message(lambda m, step=step: m["spent"].get(step, 0.0))  # type: ignore[misc]
    steps["all else in the process"] = per_message(lambda m: m["cpu"] - sum(m["spent"].values()))
    spent, wall = per_message(lambda m: m["cpu"]), per_message(lambda m: m["seconds"])
    rows = [[step, f"{taken:.1f}"] for step, taken in steps.items() if taken >= 0.05]
    rows.append(["processor time in all, on all threads", f"{spent:.1f}"])
    rows.append(["time from one message to the next", f"{wall:.1f}"])
    return markdown(["step", "µs/message"], rows)


def write(path: Path, text: str) -> None:
    """Put the tables between their marks in a page; without such a page make one."""
    marked = f"{BEGIN}\n\n{text}\n{END}\n"
    page = path.read_text() if path.exists() else ""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        marked = before + marked.rstrip("\n") + after
    elif page.strip():
        raise SystemExit(
            f"{path} is a page without the two marks of the benchmark:\n{BEGIN}\n{END}"
        )
    path.write_text(marked)
