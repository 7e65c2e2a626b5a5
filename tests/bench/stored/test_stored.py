"""That the benchmark of stored messages still runs, and says what it measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rig.postgres import PrivatePostgres

from . import figures
from .__main__ import Stage, StompNode
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
