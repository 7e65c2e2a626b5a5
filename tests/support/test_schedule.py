"""How the tests of a parallel run are handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.schedule import GROUPS, LONG, rank, scope

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "beginning", [*(one for group in GROUPS.values() for one in group), *LONG]
)
def test_what_is_named_is_there(beginning: str) -> None:
    assert list(ROOT.glob(f"{beginning.rstrip('/')}*"))


def test_files_stay_whole_and_some_go_together() -> None:
    assert scope("tests/amqp/test_encoding.py::test_a[x::y]") == "tests/amqp/test_encoding.py"
    assert scope("tests/browser/test_page.py::test_a") == scope("tests/browser/test_story.py::b")
    assert scope("tests/chaos/test_liars.py::a") != scope("tests/chaos/test_chaos.py::a")


def test_the_longest_begin() -> None:
    ids = [
        "tests/amqp/test_encoding.py::a",
        "tests/bench/test_bench.py::a",
        "tests/faults/b.py::a",
    ]
    assert sorted(ids, key=rank) == ids[::-1]
