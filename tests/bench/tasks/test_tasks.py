"""That the benchmark of sending tasks still runs, and says what it measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.stored.__main__ import Stage, StompNode
from tests.support.rig.postgres import PrivatePostgres

from . import figures

TINY = figures.Size(1, 0.05, 5)


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
