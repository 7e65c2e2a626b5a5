"""A small `make chaos`: transactions on PostgreSQL, and their order, while everything is killed."""

from __future__ import annotations

import pytest

from tests.faults.report import scenario

from .plan import FULL
from .scenarios import SCENARIOS
from .stage import Stage


def shows(stage: Stage, name: str) -> None:
    """Play a scenario: faults hit, and all promises hold."""
    try:
        result = SCENARIOS[name](stage)
    finally:
        stage.clear()
    print(scenario(result))
    assert result.strikes
    assert [promise for promise in result.promises if not promise.held] == []


@pytest.mark.disturbs
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["postgres", pytest.param("order", marks=pytest.mark.thorough)])
def test_scenario(stage: Stage, name: str) -> None:
    shows(stage, name)


def test_every_scenario_is_played() -> None:
    played = {
        "postgres",
        "order",
        "sqlite",
        "mariadb",
        "direct",
        "outage",
        "alarm",
        "lies",
        "consumed",
    }
    assert set(SCENARIOS) == played


def test_the_full_size_is_that_of_the_promise() -> None:
    assert (FULL.processes, FULL.publishes, FULL.broker_kills) == (8, 1_000_000, 30)
    assert FULL.faults + FULL.broker_kills >= 300
    assert FULL.transactions == {"postgres": 100_000, "sqlite": 20_000, "mariadb": 20_000}
    assert sum(FULL.kills["postgres"]) == 200
    assert min(FULL.kills["postgres"]) > 0
    assert (FULL.writers, FULL.rows, FULL.keys) == (16, 20_000, 200)
    assert (FULL.attempts, FULL.slack) == (100_000, 1)
