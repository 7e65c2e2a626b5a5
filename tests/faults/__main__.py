"""Run the faults: ``python -m tests.faults [--size SIZE] [--seed N] [--only NAME] [--output FILE]``."""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from . import report  # noqa: E402 (Django must stand before the library is imported)
from .plan import FULL, SIZES  # noqa: E402
from .result import Result  # noqa: E402
from .scenarios import SCENARIOS  # noqa: E402
from .stage import Stage  # noqa: E402

_PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "faults.md"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    size, seed = SIZES[options.size], options.seed
    # Connections are lost on purpose here; pika tells each at ERROR, the library at WARNING.
    for name in ("pika", "rmq_publisher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    began, load = time.monotonic(), os.getloadavg()[0]
    _say(f"seed {seed}, size {size.name}")
    results: list[tuple[str, Result]] = []
    with Stage(size, seed) as stage:
        for name in options.only or SCENARIOS:
            started = time.monotonic()
            results.append((name, SCENARIOS[name](stage)))
            _say(f"{name}: {time.monotonic() - started:.0f} s")
            print(report.scenario(results[-1][1]), end="\n\n", flush=True)
        broker = stage.broker
    made = report.text(size, seed, broker, load, time.monotonic() - began, results)
    page = options.output or (_PAGE if size is FULL and not options.only else None)
    if page is not None:
        report.write(page, made)
    return _verdict(results, seed, time.monotonic() - began)


def _verdict(results: Sequence[tuple[str, Result]], seed: int, seconds: float) -> int:
    broken = [
        f"  {name}: {promise.what}: {promise.text}: {promise.measured}"
        for name, result in results
        for promise in result.promises
        if not promise.held
    ]
    count = sum(len(result.promises) for _, result in results)
    _say(f"seed {seed}: {count - len(broken)} of {count} promises held, {seconds:.0f} s")
    if broken:
        _say("\n".join(["BROKEN:", *broken]))
    return 1 if broken or not all(result.kept for _, result in results) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default=FULL.name)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="repeatable")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a page whose marked part is replaced; a full run writes that of the documentation",
    )
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
