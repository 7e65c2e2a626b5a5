"""That each part of the benchmark's pages still runs, and says what it measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.rig.postgres import PrivatePostgres

from .consuming import figures as consuming
from .stored import figures as stored
from .stored.__main__ import Stage, StompNode
from .tasks import figures as tasks

TINY: list[tuple[Any, Any]] = [
    (consuming, consuming.Size(200, 50, 60, 1, 400)),
    (stored, stored.Size(200, 50, 1, 0.2, 5, 1000, 2, 1000)),
    (tasks, tasks.Size(1, 0.05, 5)),
]


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
@pytest.mark.parametrize(
    ("play", "size"),
    [
        pytest.param(play, size, id=f"{figures.__name__.split('.')[-2]}: {part}")
        for figures, size in TINY
        for part, play in figures.PARTS.items()
    ],
)
def test_every_part_has_its_figures(stage: Stage, play: Any, size: Any) -> None:
    told, text = play(stage, size)
    assert text.startswith("### ")
    assert told
    for what, measured, _ in told:
        assert what
        assert measured
