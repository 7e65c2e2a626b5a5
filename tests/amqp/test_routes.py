"""Whether configs say that a message has a route."""

import pytest

from rmq_publisher import Binding, ExchangeConfig, QueueConfig
from rmq_publisher.amqp.entities import ExchangeName, QueueName, Topology
from rmq_publisher.amqp.routes import (
    Config,
    contradicts,
    declares_exchange,
    expects_route,
    names,
    with_route,
)


def bound(kind: str, key: str = "a.#") -> Topology:
    return (QueueConfig("q", bindings=[Binding(ExchangeConfig("x", kind), key)]),)


def named(source: str, key: str = "a.#") -> Topology:
    return (ExchangeName(source), QueueConfig("q", bindings=[Binding(source, key)]))


FROM_X = ExchangeConfig("y", "fanout", bindings=[Binding(ExchangeConfig("x", "topic"), "a.*")])
BESIDE = ExchangeConfig("x", "topic", alternate_exchange="beside")
OVER_Y = (QueueConfig("q", bindings=[Binding(FROM_X)]),)

CASES: list[tuple[Topology, str, str, bool]] = [
    # The default exchange
    ((QueueConfig("q"),), "", "q", True),
    ((QueueConfig("q"),), "", "other", False),
    ((QueueName("q"),), "", "q", False),
    ((ExchangeConfig("q"),), "", "q", False),
    # Types that are known
    (bound("topic"), "x", "a.b", True),
    (bound("topic"), "x", "b", False),
    (bound("direct"), "x", "a.#", True),
    (bound("direct"), "x", "a.b", False),
    (bound("fanout"), "x", "b", True),
    (bound("headers"), "x", "b", True),
    (bound("x-consistent-hash", "10"), "x", "b", True),
    (named("amq.topic"), "amq.topic", "b", False),
    (named("amq.topic"), "amq.topic", "a", True),
    # One that is not, and one that returns what it keeps
    (named("x"), "x", "b", True),
    (bound("x-delayed-message"), "x", "a.b", False),
    # Elsewhere
    (bound("fanout"), "z", "b", False),
    ((ExchangeConfig("x"), QueueConfig("q")), "x", "q", False),
    ((ExchangeConfig("x"), QueueName("q")), "x", "q", False),
    # Over another exchange, in any order
    (OVER_Y, "x", "a.b", True),
    (OVER_Y, "x", "b", False),
    (OVER_Y, "y", "b", True),
    ((QueueConfig("q", bindings=[Binding("y")]), FROM_X), "x", "a.b", True),
    ((FROM_X,), "x", "a.b", False),
    # What an exchange cannot route goes to its alternate one
    ((BESIDE, QueueConfig("q", bindings=[Binding("beside")])), "x", "b", True),
    ((BESIDE, QueueConfig("q", bindings=[Binding("other")])), "x", "b", False),
    ((BESIDE, QueueConfig("x", bindings=[Binding("beside")])), "x", "b", True),
]


@pytest.mark.parametrize(("topology", "exchange", "key", "expected"), CASES)
def test_expects_a_route(topology: Topology, exchange: str, key: str, expected: bool) -> None:
    assert expects_route(topology, exchange, key) is expected


def test_exchanges_that_are_bound_in_a_circle() -> None:
    one = ExchangeConfig("x", "fanout", bindings=[Binding("y")])
    other = ExchangeConfig("y", "fanout", bindings=[Binding("x")])
    assert not expects_route((one, other), "x", "k")


def test_declares_an_exchange() -> None:
    assert declares_exchange(OVER_Y, "x")
    assert not declares_exchange(named("x"), "x")
    assert not declares_exchange((QueueConfig("x"),), "x")


def test_names_declare_nothing() -> None:
    assert names((*OVER_Y, QueueName("r"))) == (
        QueueName("q"),
        ExchangeName("y"),
        ExchangeName("x"),
    )


X, Y = ExchangeConfig("x", "topic"), ExchangeConfig("y", "fanout", bindings=[Binding("x", "a.*")])
Z = ExchangeConfig("z", bindings=[Binding("y")])
Q = QueueConfig("q", bindings=[Binding("y"), Binding("z")])
R = QueueConfig("r", bindings=[Binding("x", "b")])
ALL = (X, Y, Z, Q, R)


@pytest.mark.parametrize(
    ("topology", "project", "exchange", "key", "expected"),
    [
        ((), ALL, "x", "a.b", (X, Y, Z, Q)),
        ((), ALL, "x", "b", (X, R)),
        ((), ALL, "", "r", (X, R)),
        ((), ALL, "", "q", (X, Y, Z, Q)),
        ((), ALL, "", "x", ()),
        ((), ALL, "other", "b", ()),
        # Also where nothing is bound to it: it may be the exchange that is gone
        ((), (X,), "x", "b", (X,)),
        ((ExchangeName("x"),), ALL, "x", "b", (X, R)),
        ((QueueName("other"), QueueName("r")), ALL, "", "r", (QueueName("other"), X, R)),
        ((X,), ALL, "x", "b", (X, R)),
        ((X, QueueConfig("s", bindings=[Binding("x", "b")])), (), "x", "b", None),
    ],
)
def test_with_the_route_of_the_project(
    topology: Topology,
    project: tuple[Config, ...],
    exchange: str,
    key: str,
    expected: Topology | None,
) -> None:
    wanted = topology if expected is None else expected
    assert with_route(topology, project, exchange, key) == wanted


def test_what_a_broker_lacks_contradicts_configs() -> None:
    assert contradicts((X,), "x", "k", no_exchange=True)
    assert not contradicts((X,), "x", "k", no_exchange=False)
    assert contradicts((X, R), "x", "b", no_exchange=False)
    assert not contradicts((R,), "x", "b", no_exchange=True)
