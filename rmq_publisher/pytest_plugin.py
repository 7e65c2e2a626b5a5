"""Fixtures for pytest, there as soon as the package is installed."""

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rmq_publisher.testing.assertions import MemoryBroker, Published


REAL_BROKER = "rmq_real_broker"
NODES = pytest.StashKey[frozenset[Any]]()  # that tests must not use


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that allows all tests to use the project's brokers."""
    text = "Tests may use the RabbitMQ of the project's settings."
    parser.addini(REAL_BROKER, text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker that allows one test to do so."""
    text = f"{REAL_BROKER}: the test may use the RabbitMQ of the project's settings"
    config.addinivalue_line("markers", text)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare for the tests of a Django project.

    Counts of published messages are not written: such a statement now and then would break a test that
    counts statements or forbids them. The nodes that the settings name, as no test has changed them yet,
    are those that a test would use by accident.
    """
    if "django.db" in sys.modules:
        # Imported here: every run of pytest in this environment loads the plugin, few use Django.
        from django.conf import settings  # noqa: PLC0415

        from rmq_publisher.conf import loader  # noqa: PLC0415
        from rmq_publisher.telemetry.publish_counts import keep_counts_in_memory  # noqa: PLC0415

        keep_counts_in_memory()
        if settings.configured and not session.config.getini(REAL_BROKER):
            nodes = frozenset(node for one in loader.usable() for node in one.nodes)
            session.config.stash[NODES] = nodes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep a test, with its fixtures, from using the project's brokers unless it is marked so."""
    nodes = item.config.stash.get(NODES, frozenset())
    if nodes:
        from rmq_publisher.transport import broker_guard  # noqa: PLC0415 (as above)

        broker_guard.forbid(nodes if item.get_closest_marker(REAL_BROKER) is None else ())
    return (yield)


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
