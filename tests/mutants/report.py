"""The table of a run: each breakage, what it breaks, and which test noticed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .catalogue import GROUPS
from .trial import Outcome

PAGE = Path("docs/explanation/mutants.md")
BEGIN = "<!-- BEGIN mutants: made by `make mutants`, not by hand -->"
END = "<!-- END mutants -->"


def noticed_by(outcome: Outcome) -> str:
    """The test that noticed, without its parameters."""
    if outcome.passed:
        return "**nobody**"
    test = outcome.test.partition("[")[0].replace(".py::", "::")
    named = f"`{test}`" if test else ""
    return f"{named} (hung)".strip() if outcome.how == "hung" else named


def table(outcomes: Mapping[str, Outcome], seconds: float, jobs: int) -> str:
    """The page's part that is made; `outcomes` by the mutants' names."""
    survivors = sum(outcome.passed for outcome in outcomes.values())
    took = f"The run took {seconds / 60:.0f} minutes, {jobs} at a time."
    lines = [f"{len(outcomes)} breakages, {survivors or 'none'} survived. {took}"]
    for title, mutants in GROUPS.items():
        lines += [f"\n### {title}\n", "| breakage | what it breaks | noticed by | s |"]
        lines.append("| --- | --- | --- | --: |")
        for mutant in mutants:
            outcome = outcomes[mutant.name]
            cells = (mutant.name, mutant.promise, noticed_by(outcome), f"{outcome.seconds:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(page: Path, made: str) -> None:
    """Put the table between the marks of a page."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} lacks the two marks of the table:\n{BEGIN}\n{END}")
    page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", "utf-8")
