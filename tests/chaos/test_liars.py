"""What is broken on purpose is reported; the honest package, on the same stage, is not."""

from __future__ import annotations

import pytest

from .liars import LIARS
from .lies import LIES
from .stage import Stage


@pytest.mark.disturbs
@pytest.mark.timeout(120)
@pytest.mark.thorough
@pytest.mark.parametrize("name", LIES)
def test_a_liar_is_reported(stage: Stage, name: str) -> None:
    lie = LIES[name]
    try:
        assert lie.shows(stage, "") == []
        stage.clear()
        for _ in range(3):  # on a loaded machine a lie may miss the moment in which it shows
            found = {one.kind: one for one in lie.shows(stage, name)}
            stage.clear()
            if lie.kind in found:
                break
    finally:
        stage.clear()
    print(*found.values(), sep="\n")
    assert found[lie.kind].evidence


def test_each_liar_has_its_stage() -> None:
    assert set(LIES) == set(LIARS)
