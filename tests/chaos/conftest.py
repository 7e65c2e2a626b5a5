"""One stage for all of them, on servers that they share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rig.node import PrivateNode

from .plan import SMALL
from .stage import Stage

SEED = 7


@pytest.fixture(scope="package")
def stage(shared_node: PrivateNode) -> Iterator[Stage]:
    """Small, and the same at each run as far as a seed can see to it."""
    print(f"seed {SEED}")
    shared_node.heal()
    with Stage(SMALL, SEED, node=shared_node) as stage:
        yield stage
    shared_node.heal()
