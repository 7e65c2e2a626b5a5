"""`python -m tests.celery_run [--tasks 2000] [--kind quorum] [--broker URL] [--python PATH]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.celery_run.run import Run
from tests.support.rig.amqp import Amqp
from tests.support.rig.ladder import find_broker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.celery_run", description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000, help="of both kinds together")
    parser.add_argument("--kind", choices=["classic", "quorum"], action="append")
    parser.add_argument("--broker", help="its URL; else as for the suite")
    parser.add_argument("--python", default=sys.executable, help="interpreter with Celery")
    parser.add_argument(
        "--django-db", action="store_true", help="django-celery-results keeps them"
    )
    parser.add_argument("--patience", type=float, default=600, help="seconds")
    given = parser.parse_args()
    broker = None if given.broker else find_broker()
    url = given.broker or (broker.url if broker else "")
    failed = False
    try:
        for kind in given.kind or ["classic", "quorum"]:
            failed |= not one(url, kind, given)
    finally:
        if broker:
            broker.stop()
    return failed


def one(url: str, kind: str, given: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), url, (kind, kind), given.python, django_db=given.django_db)
        began = time.monotonic()
        with run.processes():
            expected = run.send(given.tasks // 2)
            wrong = run.compare(expected, given.patience)
        number = sum(map(len, expected.values()))
        client = Amqp(url)
        for queue in run.queues:
            client.delete_queue(queue)
        client.close()
        took = time.monotonic() - began
        print(f"{kind}: {number} results, {len(wrong)} differ, {took:.0f} s", flush=True)
        if wrong:
            print("\n".join(wrong[:20]), run.logs(), sep="\n")
        return not wrong


sys.exit(main())
