"""A small `make chaos`: transactions on SQLite and MariaDB."""

from __future__ import annotations

import pytest

from .stage import Stage
from .test_chaos import shows


@pytest.mark.disturbs
@pytest.mark.timeout(300)
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["sqlite", "mariadb"])
def test_scenario(stage: Stage, name: str) -> None:
    shows(stage, name)
