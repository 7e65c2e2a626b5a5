"""A worker process: threads that publish until the quota is done, as a web server's would.

Run as ``python -m tests.chaos.process``; the environment says what it is to do.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import django

from . import liars
from .journal import Gauge, Journal


class Process:
    """What the threads of a worker share."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.name: str = told["name"]
        self.seed: str = told["seed"]
        self.options: dict[str, Any] = told["worker"]
        place = Path(told["place"])
        self.journal = Journal(place / f"{self.name}.journal")
        self.gauge = Gauge(place / f"{self.name}.gauge")
        self.place = place
        self.number = 0
        self._lock = threading.Lock()

    def next(self, count: int = 1) -> int:
        """The first of so many numbers that nobody else gets."""
        with self._lock:
            first = self.number
            self.number += count
        return first

    def chance(self, thread: int) -> random.Random:
        """What is random in a thread."""
        return random.Random(f"{self.seed} {self.name} {thread}")

    def watch(self) -> None:
        """Tell how often it had to connect, as long as it lives."""
        from rmq_publisher import connections  # noqa: PLC0415 (after django.setup())
        from rmq_publisher.outbox.row import process_token  # noqa: PLC0415

        self.gauge.own(process_token())
        while True:
            self.gauge.connected(connections["default"].status().connects)
            time.sleep(0.02)


def main() -> None:
    told = json.loads(os.environ["CHAOS"])
    django.setup()
    liars.activate(os.environ.get("CHAOS_LIAR", ""))
    from . import work  # noqa: PLC0415 (after django.setup())

    process = Process(told)
    do = work.KINDS[process.options["do"]]
    count = process.options["threads"]
    quotas = [process.options["quota"] // count] * count
    quotas[0] += process.options["quota"] - sum(quotas)
    threading.Thread(target=process.watch, daemon=True).start()
    threads = [
        threading.Thread(target=do, args=(process, number, quota))
        for number, quota in enumerate(quotas)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
