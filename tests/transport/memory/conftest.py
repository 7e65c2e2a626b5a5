"""Brokers here have what their tests declare, and not the topology of the suite's own project."""

from collections.abc import Iterator

import pytest

from rmq_publisher.topology.registry import declaration_order
from rmq_publisher.transport import project


@pytest.fixture(autouse=True)
def _nothing_by_itself() -> Iterator[None]:
    project.found_by(lambda _: ())
    yield
    project.found_by(declaration_order)
