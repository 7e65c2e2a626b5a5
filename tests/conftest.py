"""The suite: the rig's brokers, and settings that point the library at them."""

import gc
import logging
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from rmq_publisher import connections
from rmq_publisher.consumer import handlers
from rmq_publisher.telemetry import outages
from rmq_publisher.transport.memory import transport
from tests.support.rig.ladder import Broker

pytest_plugins = [
    "tests.support.rig.fixtures",
    "tests.support.rig.stores",
    "tests.support.schedule",
]

# A loaded machine is no reason to fail.
hypothesis.settings.register_profile(
    "all", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "quarter", hypothesis.settings.get_profile("all"), max_examples=25
)


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis tries a quarter of its examples in `make test`; `make thorough` has it try all."""
    short = "not thorough" in (config.option.markexpr or "")
    hypothesis.settings.load_profile("quarter" if short else "all")


# pika tells every lost connection at ERROR with a traceback: here they are lost on purpose.
logging.getLogger("pika").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """The settings name files of each worker's own, which the processes of its tests find too."""


@pytest.fixture
def rmq(settings, broker: Broker):
    """Settings that use the suite's broker; the connections are closed afterwards."""
    settings.RMQ_URL = broker.url
    yield settings
    connections.close()


@pytest.fixture(autouse=True)
def _handlers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test, or the page that it runs, registers with `consume` is gone after it."""
    monkeypatch.setattr(handlers, "_registered", dict(handlers._registered))


@pytest.fixture(autouse=True)
def _celery_apps_of_its_own() -> Iterator[None]:
    """A later test's checks see no Celery app that a test, or the page that it runs, made."""
    before = _celery_apps()
    yield
    for app in _celery_apps() - before:
        app.close()
        sys.modules["celery._state"]._deregister_app(app)


def _celery_apps() -> set[Any]:
    state = sys.modules.get("celery._state")
    return set() if state is None else set(state._get_active_apps())


@pytest.fixture(autouse=True)
def _closed_connections() -> Iterator[None]:
    """No connection outlives its test, whatever it pointed the library at, and no queue in memory."""
    outages.forget()
    yield
    connections.close()
    for embedded in list(transport._brokers.values()):
        embedded.reset()


def pytest_sessionfinish() -> None:
    """What is left of sockets is found here, as an error, and not in silence at exit."""
    gc.collect()
