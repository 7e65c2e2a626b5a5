"""The pauses between attempts to connect, and what sets them back."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rmq_publisher.conf import loader
from rmq_publisher.conf.loader import Node
from rmq_publisher.transport.rabbitmq.node_selection import NodeSelection


@pytest.fixture
def route() -> NodeSelection:
    return NodeSelection(loader.connection("default").nodes, 5.0)


def test_pauses_double_from_a_tenth_of_a_second_to_two(route: NodeSelection) -> None:
    for longest in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0):
        assert longest / 2 <= route.delay() <= longest


def test_pauses_differ_by_chance() -> None:
    nodes = loader.connection("default").nodes
    assert len({NodeSelection(nodes, 5.0).delay() for _ in range(20)}) > 1


def drops_at_once(route: NodeSelection) -> None:
    route.opened(100.0)
    route.lost(101.0, used=False)


def lived_for_six_seconds(route: NodeSelection) -> None:
    route.opened(100.0)
    route.lost(106.0, used=False)


def was_answered_on(route: NodeSelection) -> None:
    route.opened(100.0)
    route.lost(100.1, used=True)


@pytest.mark.parametrize(
    ("what", "again"),
    [(drops_at_once, False), (lived_for_six_seconds, True), (was_answered_on, True)],
)
def test_only_a_good_connection_sets_the_pause_back(
    route: NodeSelection, what: Callable[[NodeSelection], None], again: bool
) -> None:
    for _ in range(8):
        route.delay()
    what(route)
    assert (route.delay() <= 0.1) is again


def of(count: int) -> NodeSelection:
    return NodeSelection(
        [replace(loader.connection("default").nodes[0], port=n) for n in range(count)], 5.0
    )


def test_after_a_loss_the_next_node_comes_first_and_the_lost_one_last() -> None:
    route = of(3)
    assert route.failed()
    assert route.node.port == 1
    route.opened(100.0)
    route.lost(200.0, used=True)
    tried = []
    while True:
        tried.append(route.node.port)
        if not route.failed():
            break
    assert tried == [2, 0, 1]


def test_each_node_is_tried_once_a_round() -> None:
    route = of(3)
    rounds = [[route.node.port, route.failed()] for _ in range(6)]
    assert rounds == [[0, True], [1, True], [2, False]] * 2


def nodes(count: int) -> list[Node]:
    return [Node(f"rabbit{number}", 5672, "/", tls=False) for number in range(count)]


def records(count: int) -> list[Any]:
    return [(2, 1, 6, "", (f"10.0.0.{number}", 5672)) for number in range(count)]


def silent_round(selection: NodeSelection, now: float, addresses: int = 1) -> list[float]:
    """How long each address is waited for, where none answers."""
    waits = []
    again = True
    while again:
        selection.begin(now)
        if not selection.addresses.count:
            selection.addresses.found(records(addresses))
        selection.addresses.take()
        waits.append(selection.addresses.seconds(now, 3.0))
        now += waits[-1]
        again = selection.failed()
    return [round(wait, 3) for wait in waits]


def test_silent_addresses_leave_a_call_time_for_the_last_one() -> None:
    assert silent_round(NodeSelection(nodes(1), 5.0), 100.0, addresses=3) == [1.5, 1.5, 1.5]
    assert silent_round(NodeSelection(nodes(2), 10.0), 100.0, addresses=2) == [
        3.0, 3.0, 1.5, 1.5,
    ]  # fmt: skip
    assert silent_round(NodeSelection(nodes(3), 0.3), 100.0) == [0.25, 0.25, 0.25]


def test_one_address_has_all_the_time_to_connect() -> None:
    assert silent_round(NodeSelection(nodes(1), 1.0), 100.0) == [3.0]


def test_a_round_that_nobody_waits_for_is_patient() -> None:
    """Else a broker that takes its time would never be reached."""
    selection = NodeSelection(nodes(3), 5.0)
    assert silent_round(selection, 100.0) == [1.5, 1.5, 1.5]
    assert silent_round(selection, 200.0) == [3.0, 3.0, 3.0]
    selection.begin(300.0)
    selection.opened(300.0)
    selection.lost(310.0, used=True)
    assert silent_round(selection, 310.0) == [1.5, 1.5, 1.5]
