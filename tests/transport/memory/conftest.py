"""Brokers here have what their tests declare, and not the topology of the suite's own project."""

from collections.abc import Iterator

import pytest

from rmq_publisher.topology.registry import declaration_order
from rmq_publisher.transport.memory.transport import declare_on_first_use


@pytest.fixture(autouse=True)
def _nothing_by_itself() -> Iterator[None]:
    declare_on_first_use(lambda _: ())
    yield
    declare_on_first_use(declaration_order)
