"""That the benchmark of consuming still runs, and says what it measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.stored.__main__ import Stage, StompNode
from tests.support.rig.postgres import PrivatePostgres

from . import figures
from .rounds import Clock

TINY = figures.Size(200, 50, 60, 1, 400)


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


def test_the_clock_runs_from_the_first_message_to_the_last() -> None:
    clock = Clock(3)
    assert [clock.tick() for _ in range(3)] == [False, False, True]
    assert clock.measured["messages"] == 2
    assert clock.measured["seconds"] > 0


def test_a_figure_is_the_median_of_the_rounds_own_ratios() -> None:
    rounds = figures.Rounds()
    for ours, theirs in ((200, 100), (220, 100), (30, 10)):
        rounds.add("ours", {"messages": ours, "seconds": 1.0, "cpu": 0.5})
        rounds.add("theirs", {"messages": theirs, "seconds": 1.0, "cpu": 0.5})
    assert rounds.figure("ours", "theirs", 2) == ("ours ÷ theirs", "2.20", "2")
    assert rounds.figure("ours", "theirs", 2.5)[1] == "2.20, short of it"
