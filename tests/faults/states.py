"""Never hangs: a thousand publishes while the broker is gone, silent, frozen, full, or half there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rmq_publisher import connections

from .ledger import Attempt, median
from .outages import cut_in_mid_stream, outage
from .result import Result
from .scene import BACK, HEAD, NOT_MEASURED, TIMEOUT, Scene, set_up
from .stage import PATIENCE, Stage, until

# A state strikes when it is entered, yields how to tell what was in flight, and heals at its end.
State = Callable[[Scene], Iterator[Callable[[], int]]]


def closed(scene: Scene) -> Iterator[Callable[[], int]]:
    """The port refuses connections."""
    scene.proxy.refuse()
    hit = scene.cut()
    yield lambda: hit
    scene.proxy.accept()


def silent(scene: Scene) -> Iterator[Callable[[], int]]:
    """The port accepts and says nothing."""
    scene.proxy.refuse()
    with socket.create_server(("127.0.0.1", scene.proxy.port), backlog=128):
        hit = scene.cut()
        yield lambda: hit
    scene.proxy.accept()


def frozen(scene: Scene) -> Iterator[Callable[[], int]]:
    """SIGSTOP."""
    try:
        yield scene.unanswered(scene.stage.node.freeze)
    finally:
        scene.stage.node.thaw()


def alarm(scene: Scene) -> Iterator[Callable[[], int]]:
    """The memory alarm."""
    try:
        yield scene.unanswered(scene.stage.node.block)
    finally:
        scene.stage.node.unblock()


def minority(scene: Scene) -> Iterator[Callable[[], int]]:
    """Two of the three nodes of a quorum queue are killed."""
    cluster = scene.stage.cluster

    def kill() -> None:
        for node in cluster.nodes[1:]:
            node.kill()

    try:
        yield scene.unanswered(kill)
    finally:
        for node in cluster.nodes[1:]:
            node.restart(wait=False)
        for node in cluster.nodes[1:]:
            node.wait_ready()


# Name, how, whether calls come to end at once, and whether it is a port that comes back.
STATES: tuple[tuple[str, State, bool, bool], ...] = (
    ("port closed", closed, True, True),
    ("port open but silent", silent, True, True),
    ("broker frozen", frozen, True, False),
    ("memory alarm", alarm, True, False),
    ("quorum queue without majority", minority, False, False),
)


def never_hangs(stage: Stage) -> Result:
    """All states, one after the other."""
    result = Result("Never hangs", HEAD)
    with ThreadPoolExecutor() as pool:  # both boot for some seconds
        for booting in (pool.submit(lambda: stage.node), pool.submit(lambda: stage.cluster)):
            booting.result()
    for name, state, known, port in STATES:
        with set_up(stage, result, name, quorum=state is minority) as one:
            _one(one, state, known=known, port=port)
    with set_up(stage, result, "cut in mid-stream") as one:
        cut_in_mid_stream(one)
    for seconds in stage.size.outages:
        with set_up(stage, result, f"port closed for {seconds:g} s") as one:
            outage(one, seconds)
    for what in dict.fromkeys(strike.what for strike in result.strikes):
        result.must_hit(what)
    return result


def _one(scene: Scene, state: State, *, known: bool, port: bool) -> None:
    size, ledger = scene.stage.size, scene.ledger
    load = scene.flowing()
    with contextmanager(state)(scene) as in_flight:
        struck = time.monotonic()
        load.limit(size.publishes)
        came_back = load.join(size.publishes / size.callers * TIMEOUT * 3 + PATIENCE)
        calls = ledger.during(struck)
        at_once = _known_down(scene) if known and came_back else []
        healed = time.monotonic()
    # A port is back at once; nodes that boot are when they take clients.
    back = _back(scene, healed if port else time.monotonic())
    hit = in_flight()
    scene.result.struck(scene.name, hit)
    scene.judge(calls, came_back)
    if known and (at_once or size.slack == 1):
        scene.judge_known_down(at_once)
    scene.judge_back(back, BACK * size.slack if port else PATIENCE)
    known_ms = f"{median(at_once) * 1000:.2f}" if at_once else NOT_MEASURED
    scene.row(scene.name, hit, calls, known_ms, f"{back:.2f}")


def _known_down(scene: Scene) -> list[Attempt]:
    """More calls, once the thread knows that there is no use in waiting."""
    size = scene.stage.size
    if size.slack == 1:  # a frozen broker is noticed after RMQ_CONFIRM_TIMEOUT
        until(_is_known)
    if not _is_known():
        return []
    # One of them is waited for where the alarm is news.
    scene.ledger.publish("last-wait", queue=scene.queue)
    before = len(scene.ledger.attempts)
    scene.load("known", left=size.known).join(PATIENCE)
    return scene.ledger.attempts[before:]


def _is_known() -> bool:
    status = connections["default"].status()
    return status.state == "down" or bool(status.blocked)


def _back(scene: Scene, since: float) -> float:
    """Seconds until the first confirm."""
    number = 0
    while time.monotonic() - since < PATIENCE:
        number += 1
        attempt = scene.ledger.publish(f"back{number}", queue=scene.queue)
        if attempt.error is None:
            return attempt.ended - since
        time.sleep(0.005)
    return PATIENCE
