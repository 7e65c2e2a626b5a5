"""That the benchmark of consuming still runs, and says what it measured."""

from __future__ import annotations

from . import figures
from .rounds import Clock


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
