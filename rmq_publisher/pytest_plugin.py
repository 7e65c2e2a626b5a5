"""Fixtures for pytest, there as soon as the package is installed."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rmq_publisher.testing.assertions import MemoryBroker, Published


def pytest_collection_finish() -> None:
    """Write no counts of published messages during the tests of a Django project.

    Such a statement now and then would break a test that counts statements or forbids them.
    """
    if "django.db" in sys.modules:
        # Imported here: every run of pytest in this environment loads the plugin, few use Django.
        from rmq_publisher.telemetry.publish_counts import keep_counts_in_memory  # noqa: PLC0415

        keep_counts_in_memory()


def _name_brokers(request: pytest.FixtureRequest) -> None:
    """Where the project names no broker, do so by pytest-django's settings.

    By its fixture, and before the capture, since what a test sets afterwards is undone first.
    """
    from rmq_publisher.testing.assertions import missing_urls  # noqa: PLC0415 (as below)

    if request.config.pluginmanager.hasplugin("django"):
        settings = request.getfixturevalue("settings")
        for name, value in missing_urls().items():
            setattr(settings, name, value)


@pytest.fixture
def rmq_published(request: pytest.FixtureRequest) -> "Iterator[Published]":
    """What the test publishes: nothing leaves, everything is confirmed (`capture`)."""
    # Imported here: every run of pytest in this environment loads the plugin, few use Django.
    from rmq_publisher.testing.assertions import capture  # noqa: PLC0415

    _name_brokers(request)
    with capture() as published:
        yield published


@pytest.fixture
def rmq_broker(request: pytest.FixtureRequest) -> "Iterator[MemoryBroker]":
    """A fresh memory broker with the project's queues and exchanges (``capture(route=True)``).

    Where there are several RabbitMQ aliases, `capture` has the broker of each.
    """
    from rmq_publisher.testing.assertions import capture  # noqa: PLC0415 (as above)

    _name_brokers(request)
    with capture(route=True) as published:
        yield published.broker()
