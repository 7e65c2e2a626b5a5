"""A small `make chaos`: publishing now, an outage, an alarm."""

from __future__ import annotations

import pytest

from .stage import Stage
from .test_chaos import shows


@pytest.mark.disturbs
@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["direct", "outage", "alarm"])
def test_scenario(stage: Stage, name: str) -> None:
    shows(stage, name)
