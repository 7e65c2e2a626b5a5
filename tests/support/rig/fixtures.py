"""The rig as a pytest plugin: `pytest_plugins = ["tests.support.rig.fixtures"]` in tests/conftest.py.

The broker of the suite is looked for at the start (under xdist once, by the controller); nodes to
disturb are started on first use.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .amqp import Amqp, Names
from .cluster import Cluster
from .ladder import Broker, NoBrokerError, find_broker
from .node import PrivateNode
from .proxy import Proxy

_BROKER = pytest.StashKey[Broker]()


def _suite_broker(config: pytest.Config) -> Broker:
    if _BROKER not in config.stash:
        try:
            config.stash[_BROKER] = find_broker()
        except NoBrokerError as error:
            pytest.exit(str(error), returncode=1)
    return config.stash[_BROKER]


def pytest_configure(config: pytest.Config) -> None:
    """Under xdist the controller finds the one broker that all workers share."""
    distributing = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if distributing and not config.option.collectonly:
        _suite_broker(config).share()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _BROKER in config.stash:
        config.stash[_BROKER].stop()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Find the broker before anything else, and name it: what ran against what must be seen."""
    if config.option.collectonly or hasattr(config, "workerinput"):
        return None
    return f"broker: {_suite_broker(config)}"


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Broker:
    """The suite's broker: shared by all tests, so leave it as it was."""
    return _suite_broker(pytestconfig)


@pytest.fixture
def names(request: pytest.FixtureRequest) -> Names:
    """Unique names of queues and exchanges."""
    return Names(request.node.name)


@pytest.fixture
def amqp(broker: Broker, names: Names) -> Iterator[Amqp]:
    """A plain client of the suite's broker; deletes afterwards what `names` gave out."""
    client = Amqp(broker.url, names)
    yield client
    client.close()


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """A proxy in front of the suite's broker."""
    with Proxy.to(broker.url) as running:
        yield running


@pytest.fixture(scope="session")
def shared_node() -> Iterator[PrivateNode]:
    """One for all tests that disturb a broker or need TLS; ask for `node`, which heals it."""
    with PrivateNode(tls=True) as running:
        yield running


@pytest.fixture
def node(shared_node: PrivateNode) -> Iterator[PrivateNode]:
    """A node to kill, freeze and block; afterwards it is thawed, unblocked and emptied."""
    if not shared_node.running:
        shared_node.heal()
    yield shared_node
    shared_node.heal()


@pytest.fixture
def node_amqp(node: PrivateNode, names: Names) -> Iterator[Amqp]:
    """A plain client of `node`."""
    client = Amqp(node.url(), names)
    yield client
    node.thaw()  # a frozen one would not answer our goodbye
    client.names = Names()  # healing the node deletes everything
    client.close()


@pytest.fixture
def node_proxy(node: PrivateNode) -> Iterator[Proxy]:
    """A proxy in front of `node`."""
    with Proxy.to(node.url()) as running:
        yield running


@pytest.fixture
def tls_node(node: PrivateNode) -> PrivateNode:
    """The same, by its TLS listener; afterwards it presents its good certificate again."""
    return node


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes in one cluster, for all tests of the process; `heal()` is the test's to call."""
    with Cluster() as running:
        yield running
