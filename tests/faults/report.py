"""The report: on the terminal, and between two marks of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.machine import describe
from tests.bench.table import markdown

from .plan import Size
from .result import Result

BEGIN = "<!-- BEGIN faults: made by `make faults`, not by hand -->"
END = "<!-- END faults -->"


def text(
    size: Size,
    seed: int,
    broker: str,
    load: float,
    seconds: float,
    results: Iterable[tuple[str, Result]],
) -> str:
    """All of it, as Markdown; ``load`` is that of the machine before the run."""
    described = {**dict(describe(broker)), "load when it began": f"{load:.1f}"}
    told = [
        *described.items(),
        ("size", size.name),
        ("seed", str(seed)),
        ("took", f"{seconds / 60:.1f} minutes"),
    ]
    parts = [markdown(["machine and run", ""], told)]
    parts += [scenario(result) for _, result in results]
    return "\n\n".join(parts) + "\n"


def scenario(result: Result) -> str:
    """One scenario."""
    parts = [f"### {result.title}"]
    if result.rows:
        parts.append(_left(result.head, result.rows))
    if result.strikes:
        head = ["fault", "struck", "of these with messages in flight", "in flight each"]
        parts.append(_left(head, _strikes(result)))
    parts.append(_left(["promise", "held", "measured"], _promises(result)))
    return "\n\n".join(parts)


def _strikes(result: Result) -> list[list[str]]:
    rows = []
    for what in dict.fromkeys(strike.what for strike in result.strikes):
        hits = [strike.in_flight for strike in result.strikes if strike.what == what]
        low, high = min(hits), max(hits)
        span = f"{low}" if low == high else f"{low} to {high}"
        rows.append([what, str(len(hits)), str(sum(hit > 0 for hit in hits)), span])
    return rows


def _promises(result: Result) -> list[list[str]]:
    """One row a sentence; where it is kept all over, the figures above say how well."""
    rows = []
    for text in dict.fromkeys(promise.text for promise in result.promises):
        same = [promise for promise in result.promises if promise.text == text]
        broken = [promise for promise in same if not promise.held]
        held = "yes" if not broken else "**NO**"
        shown = broken or (same if len(same) == 1 else [])
        measured = "; ".join(f"{promise.what}: {promise.measured}" for promise in shown)
        count = f"{held}, {len(same) - len(broken)} of {len(same)}" if len(same) > 1 else held
        rows.append([text, count, measured])
    return rows


def _left(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for words: all columns to the left."""
    made = markdown(head, rows).splitlines()
    return "\n".join([made[0], made[1].replace("-:", "--"), *made[2:]])


def write(path: Path, made: str) -> None:
    """Put the report between the marks of a page; without such a page make one."""
    marked = f"{BEGIN}\n\n{made}\n{END}"
    page = path.read_text() if path.exists() else ""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) and page.strip():
        raise SystemExit(f"{path} is a page without the two marks of the report:\n{BEGIN}\n{END}")
    path.write_text(before + marked + (after or "\n"))
