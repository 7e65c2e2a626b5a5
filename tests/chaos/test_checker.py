"""The checker by itself: what it must report, and what not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.result import Promise, Result

from . import checker
from .checker import Arrived, figures
from .direct import few_duplicates, was_volatile
from .journal import Gauge, Journal, Story, read_direct, read_stored


def story(told: str, *, untold: str = "", killed: bool = False) -> Story:
    """Ids a, b, c ... with these outcomes; those in ``untold`` have none."""
    outcomes = {chr(97 + number): letter for number, letter in enumerate(told)}
    return Story("w", killed, {*outcomes, *untold}, outcomes, set(untold))


def arrived(*ids: str, strangers: tuple[str, ...] = ()) -> Arrived:
    return Arrived(list(ids), list(strangers))


def test_all_well() -> None:
    stories = [story("++TU", untold="z", killed=True)]
    for there in (arrived("a", "b"), arrived("b", "a", "c", "z", "a")):
        assert checker.told(stories, there, most_duplicates=1) == []
    assert checker.stored({"a", "b"}, arrived("a", "b", "a"), most_duplicates=1) == []


@pytest.mark.parametrize(
    ("stories", "there", "kind"),
    [
        (story("++"), arrived("a"), "missing"),
        (story("+U"), arrived("a", "b"), "ghost"),
        (story("+R"), arrived("a", "b"), "ghost"),
        (story("+"), arrived("a", "x"), "stranger"),
        (story("+"), arrived("a", strangers=("b as a",)), "stranger"),
        (story("+", untold="z"), arrived("a"), "untold"),
        (story("+?"), arrived("a"), "outcome"),
        (story("++"), arrived("a", "a", "b", "b"), "duplicate"),
    ],
)
def test_what_calls_were_told_is_wrong(stories: Story, there: Arrived, kind: str) -> None:
    broken = checker.told([stories], there, most_duplicates=1)
    assert figures(broken) == {kind: 2 if kind == "duplicate" else 1}


def test_a_deleted_queue_excuses_its_messages_only() -> None:
    stories = [Story("w", told={"w-1": "+", "w-v2": "+"}, attempted={"w-1", "w-v2"})]
    assert checker.gone(stories, arrived()) == {"w-1", "w-v2"}
    assert checker.gone(stories, arrived("w-1")) == {"w-v2"}
    broken = checker.told(stories, arrived(), most_duplicates=0, lost={"w-v2"})
    assert [one.evidence for one in broken] == [("w-1",)]


@pytest.mark.parametrize(
    ("one", "there"),
    [("w0i1-v17", True), ("w0i1f3-v17", True), ("w0i1-17", False), ("w-v0i1-17", False)],
)
def test_which_messages_were_in_the_queue_that_is_deleted(one: str, there: bool) -> None:
    assert was_volatile(one) is there


def test_few_duplicates_are_told_with_their_bound() -> None:
    result = Result("a scenario")
    few_duplicates(result, "order", "few", [], arrived("a", "a", "b"), 6464)
    few_duplicates(
        result, "order", "few", checker.too_many(arrived("a", "a"), 0), arrived("a", "a"), 0
    )
    assert result.promises == [
        Promise("order", "few", "1 of at most 6,464", held=True),
        Promise("order", "few", "1 duplicate: a 2 times", held=False),
    ]


@pytest.mark.parametrize(
    ("there", "left", "kind"),
    [
        (arrived("a"), (), "missing"),
        (arrived("a", "b", "c"), (), "ghost"),
        (arrived("a", "b", strangers=("b as x",)), (), "stranger"),
        (arrived("a", "b"), ("row",), "left"),
        (arrived("a", "b", "b", "b"), (), "duplicate"),
    ],
)
def test_what_was_committed_is_not_what_arrived(there: Arrived, left: Any, kind: str) -> None:
    broken = checker.stored({"a", "b"}, there, most_duplicates=1, left=left)
    assert figures(broken) == {kind: 1}


def test_a_database_that_forgets_is_noticed() -> None:
    stories = [Story("w", told={"x.0": "C", "x.1": "C", "y.0": "R"})]
    assert figures(checker.kept_word(stories, {"x.1"})) == {"forgotten by the database": 1}
    assert checker.kept_word(stories, {"x.0"}) == []


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (["1:1:a", "2:1:d", "1:2:b", "1:4:c"], {}),
        (["1:1:a", "1:2:b", "1:1:a", "2:1:d", "1:4:c"], {}),  # a duplicate may come late
        (["1:2:b", "1:1:a", "2:1:d", "1:4:c"], {"order": 1}),
        (["1:1:a", "2:1:d", "1:4:c"], {"skipped": 1}),
    ],
)
def test_order(ids: list[str], found: dict[str, int]) -> None:
    committed = {"1:1:a", "1:2:b", "1:4:c", "2:1:d"}
    assert figures(checker.order(committed, arrived(*ids))) == found


def change(op: str, who: str, states: str, tokens: tuple[int, int], live: bool = False) -> Any:
    old, _, new = states.partition(">")
    return (1, "m", op, who, old or None, new or None, *tokens, live, old == "failed")


WRITTEN = change("I", "w", ">pending", (0, 5))


@pytest.mark.parametrize(
    "changes",
    [
        [WRITTEN, change("D", "w", "pending>", (5, 0), live=True)],
        [WRITTEN, change("D", "w", "pending>", (5, 0))],  # late, but nobody has taken it
        [
            WRITTEN,
            change("U", "r", "pending>pending", (5, 7)),
            change("U", "r", "pending>failed", (7, 0), live=True),
            change("U", "s", "failed>failed", (0, 8)),
            change("U", "s", "failed>delivered", (8, 0), live=True),
        ],
    ],
)
def test_changes_that_are_right(changes: Any) -> None:
    assert checker.audit(changes) == []


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (change("D", "r", "pending>", (5, 0)), "thief"),  # without a claim
        (change("U", "r", "pending>failed", (5, 0)), "thief"),
        (change("U", "r", "pending>pending", (5, 7), live=True), "thief"),  # before its time
        (change("U", "r", "failed>failed", (0, 7), live=True), "thief"),  # in its backoff
        (change("D", "w", "pending>", (0, 0)), "thief"),  # held by nobody
        (change("U", "w", "delivered>failed", (5, 0)), "backwards"),
        (change("U", "w", "failed>pending", (5, 0)), "backwards"),
        (change("D", "w", "failed>", (5, 0)), "backwards"),  # with its history
        (change("I", "w", ">delivered", (0, 0)), "backwards"),
    ],
)
def test_changes_that_are_not(last: Any, kind: str) -> None:
    assert figures(checker.audit([WRITTEN, last])) == {kind: 1}


def test_a_journal_that_ends_in_the_middle(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "w.journal")
    journal.write("B", "w-", 0, 2)
    journal.write("E", "w-", 0, "+T")
    journal.write("B", "w-", 2, 1)
    found = read_direct("w", tmp_path / "w.journal", killed=True)
    assert found.told == {"w-0": "+", "w-1": "T"}
    assert found.untold == {"w-2"}
    assert found.attempted == {"w-0", "w-1", "w-2"}


def test_the_journal_of_transactions(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "w.journal")
    for line in ("B a.0 a.1", "C a.0 a.1", "B b.0", "R b.0", "B c.0"):
        journal.write(line)
    found = read_stored("w", tmp_path / "w.journal", killed=False)
    assert found.told == {"a.0": "C", "a.1": "C", "b.0": "R"}
    assert found.untold == {"c.0"}


def test_the_gauge_outlives_its_process(tmp_path: Path) -> None:
    ours = Gauge(tmp_path / "w.gauge", make=True)
    its = Gauge(tmp_path / "w.gauge")
    its.begin(3, 50)
    ours.order(2)
    assert (ours.under_way, its.take_order(), ours.ordered) == (50, 2, False)
    its.end(3, 49)
    its.close()
    assert (ours.under_way, ours.done) == (0, 49)
    ours.close()
