"""That the benchmark of stored messages still runs, and says what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import figures
from .__main__ import write


def test_a_figure_that_falls_short_says_so() -> None:
    assert figures.verdict(0.5, 0.6) == "0.50, short of it"
    assert figures.verdict(0.6, 0.6) == "0.60"
    assert figures.verdict(1.2, 1.0, most=True) == "1.20, short of it"
    assert figures.ratio([2, 9, 4], [1, 3, 4]) == 2


def test_only_a_section_of_a_page_is_made_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "<!-- BEGIN tasks: made by `make bench`, not by hand -->", "<!-- END tasks -->"
    page.write_text(f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n")
    write(page, "tasks", "new")
    assert page.read_text() == f"before\n{marks[0]}\n\nnew\n\n{marks[1]}\nafter\n"
    with pytest.raises(SystemExit, match="without the two marks of consuming"):
        write(page, "consuming", "new")
