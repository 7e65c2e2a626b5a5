"""Half a minute of `make faults`: one outcome each, nothing lost, bounds that only show no hanging.

And the harness itself: what it must notice, it does.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pika import BasicProperties

from rmq_publisher import BrokerUnavailable, ConfirmTimeout, QueueConfig
from tests.support.rig.amqp import Received
from tests.support.rig.cluster import Cluster
from tests.support.rig.node import PrivateNode

from . import outages, report
from .ledger import Attempt, Ledger, Reading, counts, median, percentile
from .plan import FULL, SMALL, Size
from .result import Result
from .scenarios import SCENARIOS
from .scene import Scene
from .stage import Stage

SEED = 7
LONG = ("hangs", "nodes")


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, shared_node: PrivateNode) -> Iterator[Stage]:
    """On servers that other tests use as well."""

    def cluster() -> Cluster:
        found: Cluster = request.getfixturevalue("cluster")
        found.heal()
        return found

    shared_node.heal()
    with Stage(SMALL, SEED, node=shared_node, cluster=cluster) as stage:
        yield stage
    shared_node.heal()


@pytest.mark.disturbs
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=[pytest.mark.thorough] * (one in LONG)) for one in SCENARIOS],
)
def test_scenario(stage: Stage, name: str) -> None:
    result = SCENARIOS[name](stage)
    print(f"seed {SEED}", report.scenario(result), sep="\n")
    assert result.strikes
    assert [promise for promise in result.promises if not promise.held] == []


# -- the harness itself -----------------------------------------------------------------------


def received(message_id: str, body: str = "") -> Received:
    inside = (body or message_id).encode() + b"..."
    return Received(None, BasicProperties(message_id=message_id), inside)


def attempt(message_id: str, error: Exception | None = None) -> Attempt:
    return Attempt(message_id, began=1.0, ended=2.0, error=error)


def scene(size: Size) -> Scene:
    """One that nothing happens in."""
    parts: Any = SimpleNamespace(size=size, refuse=lambda: None, accept=lambda: None)
    return Scene("t", parts, Result("t"), parts, QueueConfig("q"), random.Random(0), Ledger(), "")


ALL_WELL = Reading(missing=0, strangers=0, lies=0, duplicates=0)


def test_a_queue_that_holds_what_was_confirmed() -> None:
    told = [attempt("a"), attempt("b"), attempt("c", ConfirmTimeout("unknown"))]
    assert Reading.of(told, [received("a"), received("b")]) == ALL_WELL
    assert Reading.of(told, map(received, "abc")) == ALL_WELL  # unknown is allowed to be there


@pytest.mark.parametrize(
    ("arrived", "noticed"),
    [
        ([received("a")], {"missing": 1}),
        ([received("a"), received("b"), received("b")], {"duplicates": 1}),
        ([received("a"), received("b"), received("x")], {"strangers": 1}),
        ([received("a"), received("b"), received("x", "b")], {"strangers": 1, "duplicates": 1}),
        ([received("a"), received("b"), received("d")], {"lies": 1}),
    ],
)
def test_a_queue_that_does_not(arrived: list[Received], noticed: dict[str, int]) -> None:
    told = [attempt("a"), attempt("b"), attempt("d", BrokerUnavailable("not sent"))]
    found = Reading.of(told, arrived)
    assert {name: value for name, value in vars(found).items() if value} == noticed


def test_a_call_that_never_comes_back_is_noticed() -> None:
    ledger, result = Ledger(), Result("t")
    ledger.attempts = [attempt("a"), Attempt("b", began=1.0)]
    ledger._heard("a")
    result.one_outcome_each("t", ledger, came_back=True)
    assert not result.kept
    assert counts(ledger.attempts) == "1 confirmed, 1 no outcome"


@pytest.mark.parametrize("signals", [[], [("a", None), ("a", None)], [("a", ConfirmTimeout("x"))]])
def test_a_second_or_another_outcome_is_noticed(signals: list[Any]) -> None:
    ledger, result = Ledger(), Result("t")
    ledger.attempts = [attempt("a")]
    for message_id, error in signals:
        ledger._heard(message_id, error)
    result.one_outcome_each("t", ledger, came_back=True)
    assert not result.kept


def test_a_fault_that_hit_nothing_is_none() -> None:
    result = Result("t")
    result.must_hit("cut")
    result.struck("other", 0)
    result.must_hit("other")
    result.struck("third", 0)
    result.struck("third", 5)
    result.must_hit("third")
    assert [promise.held for promise in result.promises] == [False, False, True]
    assert "**NO**, 1 of 3" in report.scenario(result)


def test_the_calls_of_an_outage() -> None:
    ledger = Ledger()
    ledger.attempts = [
        Attempt("over before", began=1.0, ended=2.0),
        Attempt("hit", began=2.0, ended=4.0),
        Attempt("hit, and never back", began=2.0),
        Attempt("inside", began=3.5, ended=4.0),
        Attempt("to the end", began=4.0, ended=7.0),
        Attempt("later", began=6.0, ended=7.0),
    ]

    def during(begun: float, *ended: float) -> list[str]:
        return [attempt.message_id for attempt in ledger.during(begun, *ended)]

    assert during(3.0, 5.0) == ["hit", "hit, and never back", "inside", "to the end"]
    assert during(3.0) == [*during(3.0, 5.0), "later"]
    assert ledger.spanning(3.0) == ledger.attempts[1:3]


def test_an_outage_is_judged_by_the_calls_that_it_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was under way for too long, beside one that ended at once."""
    clock = itertools.count(100.0)  # a second from one look to the next
    time = SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None)
    monkeypatch.setattr(outages, "time", time)
    one = scene(FULL)
    hit = Attempt("hit", began=99.0, ended=200.0, error=ConfirmTimeout("unknown"))
    quick = Attempt("quick", began=100.5, ended=100.501, error=BrokerUnavailable("down"))
    after = Attempt("after", began=101.5, ended=102.0)
    one.ledger.attempts = [hit, quick, after]
    judged: list[str] = []
    stand_ins: dict[str, Any] = {
        "cut": lambda: 1,
        "flowing": lambda **_: SimpleNamespace(stop=lambda _: True),
        "judge": lambda calls, _: judged.extend(call.message_id for call in calls),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(one, name, stand_in)
    monkeypatch.setattr(outages, "until", lambda _: one.ledger.confirms.append(after) or True)
    outages.outage(one, 1)
    assert judged == ["hit", "quick"]
    [row] = one.result.rows
    assert (row[2], row[-2], float(row[6])) == ("2", "1.00", 101_000.0)
    assert [promise.held for promise in one.result.promises] == [True, True]


def test_known_down_without_calls_is_not_kept() -> None:
    one = scene(FULL)
    one.judge_known_down([])
    one.judge_known_down([Attempt("slow", 1.0, 1.006)])
    one.judge_known_down([Attempt("never back", 1.0)])
    one.judge_known_down([Attempt("quick", 1.0, 1.004)])
    assert [promise.held for promise in one.result.promises] == [False, False, False, True]


def test_latencies_count_calls_that_never_came_back() -> None:
    hung = Attempt("hung", began=time.monotonic() - 100)
    calls = [attempt("a"), attempt("b"), hung]
    assert [percentile(calls, share) for share in (0.0, 0.5)] == [1.0, 1.0]
    assert percentile(calls, 1.0) >= 100
    assert median([hung]) >= 100
    assert percentile([], 0.99) == median([]) == 0.0


def test_a_result_without_promises_is_not_kept() -> None:
    assert not Result("t").kept


def test_the_full_size_is_that_of_the_promise() -> None:
    assert (FULL.publishes, FULL.callers, FULL.slack) == (1000, 32, 1)
    assert (FULL.threads * FULL.each, FULL.inputs) == (128_000, 10_000)
    assert FULL.cuts >= 20
    assert FULL.kills == 3
    assert max(FULL.outages) >= 60
    assert FULL.one_in == 1000


def test_only_the_marked_part_of_the_page_is_made_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    report.write(page, "first")
    page.write_text(f"# Title\n\n{page.read_text()}\nBehind.\n")
    report.write(page, "second")
    made = f"{report.BEGIN}\n\nsecond\n{report.END}"
    assert page.read_text() == f"# Title\n\n{made}\n\nBehind.\n"
    page.write_text("No marks.\n")
    with pytest.raises(SystemExit, match="without the two marks"):
        report.write(page, "third")
