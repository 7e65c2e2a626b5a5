"""A connection that is cut again and again, and a port that is closed for a while."""

from __future__ import annotations

import time

from .cuts import cut_at
from .ledger import median
from .scene import BACK, NOT_MEASURED, Scene
from .stage import PATIENCE, until

PAUSE = 0.05  # seconds between two calls of a caller during an outage
LEAST_CUTS = 3


def cut_in_mid_stream(scene: Scene) -> None:
    """Cut after cut, until all calls were made."""
    ledger, result = scene.ledger, scene.result
    load = scene.flowing()
    begun, started, cuts = time.monotonic(), len(ledger.attempts), 0
    in_flight = 0
    while len(ledger.attempts) - started < scene.stage.size.publishes or cuts < LEAST_CUTS:
        before = scene.proxy.connections_made
        fault = cut_at(scene.proxy, scene.chance.randint(10, 100), scene.chance)
        if not fault.wait(PATIENCE):
            break
        result.struck(scene.name, fault.in_flight)
        cuts, in_flight = cuts + 1, in_flight + fault.in_flight
        scene.proxy.wait_for_connections(before + 1, PATIENCE)
    came_back = load.stop(PATIENCE)
    calls = ledger.during(begun)
    scene.judge(calls, came_back, most=64 * cuts)
    label = f"{scene.name}, {cuts} times"
    scene.row(label, in_flight, calls, NOT_MEASURED, NOT_MEASURED)


def outage(scene: Scene, seconds: float) -> None:
    """The port is closed for so long, and callers go on."""
    ledger = scene.ledger
    load = scene.flowing(pause=PAUSE)
    scene.proxy.refuse()
    in_flight = scene.cut()
    scene.result.struck(scene.name, in_flight)
    begun = time.monotonic()
    time.sleep(seconds)
    opened = time.monotonic()
    confirmed = len(ledger.confirms)
    scene.proxy.accept()
    is_back = until(lambda: len(ledger.confirms) > confirmed)
    back = ledger.confirms[confirmed].ended - opened if is_back else PATIENCE
    came_back = load.stop(PATIENCE)
    calls = ledger.during(begun, opened)
    known = [one for one in calls if one.began > begun]  # not those that the cut found under way
    scene.judge(calls, came_back)
    scene.judge_known_down(known)
    scene.judge_back(back, BACK * scene.stage.size.slack)
    scene.row(scene.name, in_flight, calls, f"{median(known) * 1000:.2f}", f"{back:.2f}")
