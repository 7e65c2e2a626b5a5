"""A relay in a process of its own: ``python -m tests.bench.stored.relaying JSON``, until SIGTERM."""

from __future__ import annotations

import json
import signal
import sys

from .work import configure_django


def main() -> None:
    told = json.loads(sys.argv[1])
    configure_django(told, "rmq_publisher", RMQ_URL=told["url"], **told["settings"])
    from rmq_publisher.outbox.relay import Relay  # noqa: PLC0415 (after the settings)

    relay = Relay("default")
    signal.signal(signal.SIGTERM, lambda *_: relay.stop())
    print("ready", flush=True)
    relay.run()


if __name__ == "__main__":
    main()
