"""The benchmark's arithmetic and its page; and that it still runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rig.amqp import Amqp
from tests.support.rig.node import PrivateNode

from . import plan, table
from .broker import Queue
from .contest import Contest, Entry, Stage
from .spans import STEPS


def _entry(peer: str, *rates: float) -> Entry:
    rounds = [{"messages": rate, "seconds": 1.0, "cpu": 0.5} for rate in rates]
    return Entry(peer, {}, rounds=rounds)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The last round was slow for both: a ratio of medians would tell something else.
    ours, theirs = _entry("ours", 200, 220, 30), _entry("kombu", 100, 100, 10)
    contest = Contest("one", "", [ours, theirs], 3)
    assert contest.ratios(theirs) == pytest.approx([2.0, 2.2, 3.0])
    assert table.ratio(contest, theirs) == "2.20 (2.00 to 3.00)"
    assert table.ratio(contest, ours) == ""


def test_the_fastest_confirmed_peer_is_no_limit_and_not_ourselves() -> None:
    slow, fast = _entry("kombu", 100), _entry("aio_pika", 200)
    entries = [_entry("ours", 500), slow, fast, _entry("native", 900), _entry("dramatiq")]
    contest = Contest("many", "", entries, 1)
    assert contest.fastest() is fast
    assert contest.fastest(["kombu", "dramatiq"]) is slow
    assert contest.fastest(["dramatiq"]) is None


def test_who_is_not_measured_stands_in_the_table_with_the_reason() -> None:
    absent = Entry("native", {}, error="not installed: librabbitmq-dev")
    text = table.rates(Contest("many", "", [_entry("ours", 1000), absent], 1))
    assert "1,000" in text
    assert "not installed: librabbitmq-dev" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_only_the_marked_part_of_a_page_is_made_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    table.write(page, "first\n")
    page.write_text(f"# Title\n\n{page.read_text()}\nBehind.\n")
    table.write(page, "second\n")
    text = page.read_text()
    assert text == f"# Title\n\n{table.BEGIN}\n\nsecond\n\n{table.END}\n\nBehind.\n"
    page.write_text("No marks.\n")
    with pytest.raises(SystemExit, match="without the two marks"):
        table.write(page, "third\n")
    assert page.read_text() == "No marks.\n"


def test_a_figure_that_falls_short_says_so() -> None:
    ours, theirs = _entry("ours", 100, 100), _entry("kombu", 100, 101)
    contest = Contest("one", "", [ours, theirs], 2)
    [figure] = table.figures({"one": contest})
    assert not figure.short  # 0.995, and the table says 1.00
    theirs.rounds[0]["messages"] = 110
    [figure] = table.figures({"one": contest})
    assert figure.short
    assert "short of it" in figure.row[1]
    theirs.rounds.clear()
    [figure] = table.figures({"one": contest})
    assert (figure.measured, figure.short) == ("not measured", False)


def test_where_the_time_goes(amqp: Amqp, tmp_path: Path) -> None:
    """Every step that is timed is still there and is taken; the steps and the rest are all."""
    stage = Stage(Queue(amqp, "test.profile"), tmp_path)
    taken: set[str] = set()
    for task in ({"do": "each", "threads": 1, "seconds": 0.1}, {"do": "many", "messages": 200}):
        rounds = stage.profile(Entry("ours", task), 1)
        [measured] = rounds
        assert 0 < sum(measured["spent"].values()) < measured["cpu"] * 1.1
        taken.update(step for step, seconds in measured["spent"].items() if seconds > 0)
        text = table.profile(rounds)
        assert "all else in the process" in text
        assert "time from one message to the next" in text
    assert taken == {step for *_, step in STEPS}


def test_every_entry_of_a_contest_has_a_row_of_its_own() -> None:
    for size in (plan.QUICK, plan.FULL):
        for contest in plan.contests(size, beside=True) + plan.tls_contests(size, beside=True):
            labels = [entry.label for entry in contest.entries]
            assert contest.first.ours
            assert len(set(labels)) == len(labels)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "task",
    [
        {"do": "each", "threads": 2, "seconds": 0.05},
        {"do": "many", "messages": 50},
        {"do": "many_awaited", "messages": 50, "tasks": 10},
        {"do": "transaction", "messages": 5, "transactions": 2},
        {"do": "call", "messages": 5, "transactions": 1},
    ],
    ids=lambda task: task["do"],
)
def test_it_measures_what_arrived(amqp: Amqp, tmp_path: Path, task: dict[str, object]) -> None:
    entry = Entry("ours", task)
    stage = Stage(Queue(amqp, f"test.{task['do']}"), tmp_path)
    assert not stage.hold(Contest("test", "A test", [entry], 1)).failed
    assert entry.rounds[0]["messages"] > 0
    assert stage.queue.id_size() > 0


@pytest.mark.thorough
@pytest.mark.parametrize("peer", ["ours", "blocking", "kombu", "aio_pika"])
def test_peers_publish_over_tls(tls_node: PrivateNode, tmp_path: Path, peer: str) -> None:
    entry = Entry(peer, {"do": "each", "threads": 2, "seconds": 0.05})
    if entry.info.missing:
        pytest.skip(f"not installed: {', '.join(entry.info.missing)}")
    amqp = Amqp(tls_node.url())
    try:
        stage = Stage(Queue(amqp, f"test.tls.{peer}", tls_node), tmp_path)
        stage.hold(Contest("tls", "A test", [entry], 1))
        assert entry.error == ""
        assert entry.rounds[0]["messages"] > 0
    finally:
        amqp.close()


def test_what_is_confirmed_and_does_not_arrive_fails_it(amqp: Amqp, tmp_path: Path) -> None:
    queue = Queue(amqp, "test.loses")
    stage = Stage(queue, tmp_path)
    queue.count = lambda name="": 3  # type: ignore[method-assign]
    entry = Entry("ours", {"do": "many", "messages": 50})
    assert stage.hold(Contest("test", "A test", [entry], 1)).failed
    assert entry.error == "5 confirmed, 3 arrived"
    assert not entry.rounds
