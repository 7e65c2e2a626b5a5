"""The report: on the terminal, and between two marks of a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.bench.machine import describe
from tests.faults.report import scenario
from tests.faults.result import Result

from .plan import Size

BEGIN = "<!-- BEGIN chaos: made by `make chaos`, not by hand -->"
END = "<!-- END chaos -->"

__all__ = ["scenario", "text", "write"]


def text(
    size: Size, seed: int, broker: str, seconds: float, results: Iterable[tuple[str, Result]]
) -> str:
    """All of it, as Markdown."""
    told = [
        *describe(broker),
        ("size", size.name),
        ("seed", str(seed)),
        ("took", f"{seconds / 60:.1f} minutes"),
    ]
    rows = [
        "| machine and run | |",
        "|---|---|",
        *(f"| {what} | {value} |" for what, value in told),
    ]
    return "\n\n".join(["\n".join(rows), *(scenario(result) for _, result in results)]) + "\n"


def write(path: Path, made: str) -> None:
    """Put the report between the marks of a page; without such a page make one."""
    marked = f"{BEGIN}\n\n{made}\n{END}"
    page = path.read_text() if path.exists() else ""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) and page.strip():
        raise SystemExit(f"{path} is a page without the two marks of the report:\n{BEGIN}\n{END}")
    path.write_text(before + marked + (after or "\n"))
