"""A small `make chaos` of consumers, and consumers that lie."""

from __future__ import annotations

import pytest

from .consumed import lie
from .consuming_liars import LIARS
from .plan import FULL
from .stage import Stage
from .test_chaos import shows

REPORTED = {
    "acknowledges_before_the_commit": "effectless",
    "has_no_unique_row": "repeated",
    "acknowledges_a_retry_before_its_confirm": "effectless",
}


@pytest.mark.disturbs
@pytest.mark.timeout(300)
def test_each_effect_once(stage: Stage) -> None:
    shows(stage, "consumed")


@pytest.mark.disturbs
@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("liar", ["", *REPORTED])
def test_a_liar_is_reported(stage: Stage, liar: str) -> None:
    try:
        found = {one.kind: one for one in lie(stage, liar)}
    finally:
        stage.clear()
    print(*found.values(), sep="\n")
    if not liar:
        assert found == {}
    else:
        assert found[REPORTED[liar]].evidence


def test_each_liar_is_tried() -> None:
    assert set(REPORTED) == set(LIARS)


def test_the_full_size_is_that_of_the_promise() -> None:
    assert FULL.consumed == 50_000
    assert sum(FULL.consumer_faults) == 100
    assert min(FULL.consumer_faults) > 0
