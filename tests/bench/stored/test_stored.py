"""That the benchmark of stored messages still runs, and says what it measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rig.postgres import PrivatePostgres

from . import figures
from .__main__ import Stage, StompNode, write
from .figures import Size

TINY = Size(200, 50, 1, 0.2, 5, 1000, 2, 1000)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    node, postgres = StompNode().start(), PrivatePostgres().start()
    made = Stage(node, postgres)
    yield made
    made.amqp.close()
    postgres.discard()
    node.discard()


@pytest.mark.thorough
@pytest.mark.disturbs
@pytest.mark.parametrize("part", figures.PARTS)
def test_every_part_has_its_figures(stage: Stage, part: str) -> None:
    told, text = figures.PARTS[part](stage, TINY)
    assert text.startswith("### ")
    assert told
    for what, measured, _ in told:
        assert what
        assert measured


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
