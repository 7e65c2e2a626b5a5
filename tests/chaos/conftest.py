"""A stage for each of the modules, whose tests share its servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .plan import SMALL
from .stage import Stage

SEED = 7


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Small, and the same at each run as far as a seed can see to it."""
    print(f"seed {SEED}")
    with Stage(SMALL, SEED) as stage:
        yield stage
