"""The process of one peer: reads tasks from its standard input, writes what it measured.

Run as ``python -m tests.bench.worker PEER``; the first line says where the broker is.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from . import footprint


def main() -> None:
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    if library := told.pop("library", None):
        sys.path.insert(0, library)
    options = told.pop("options", {})
    module = importlib.import_module(f"tests.bench.peers.{sys.argv[1]}")
    peer = module.Peer(told["url"], told["queue"], **options)
    made = footprint.measure(told["port"])

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({"queue": peer.queue})
    for line in sys.stdin:
        task = json.loads(line)
        do = task.pop("do")
        if do == "footprint":
            now = footprint.measure(told["port"])
            answer({**now, "grown": now["memory"] - made["memory"]})
        else:
            answer(getattr(peer, do)(**task))
    # At once: what clients do at exit (closing, joining their threads) is not what is measured.
    os._exit(0)


if __name__ == "__main__":
    main()
