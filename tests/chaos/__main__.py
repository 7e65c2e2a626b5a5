"""Run the chaos: ``python -m tests.chaos [--size SIZE] [--seed N] [--only NAME] ...``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.result import Result

from . import report
from .plan import FULL, SIZES
from .scenarios import SCENARIOS
from .stage import Stage

_PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "chaos.md"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    size, seed = SIZES[options.size], options.seed
    began = time.monotonic()
    _say(f"seed {seed}, size {size.name}")
    results: list[tuple[str, Result]] = []
    keep = options.keep or Path(tempfile.mkdtemp(prefix="rmq-chaos-kept-"))
    with Stage(size, seed, keep) as stage:
        for name in options.only or SCENARIOS:
            started = time.monotonic()
            results.append((name, SCENARIOS[name](stage)))
            stage.clear()
            _say(f"{name}: {time.monotonic() - started:.0f} s")
            print(report.scenario(results[-1][1]), end="\n\n", flush=True)
        broker = stage.broker
    made = report.text(size, seed, broker, time.monotonic() - began, results)
    page = options.output or (_PAGE if size is FULL and not options.only else None)
    if page is not None:
        report.write(page, made)
    broken = _verdict(results, seed, time.monotonic() - began)
    if broken or options.keep:
        _say(f"journals and logs: {keep}")
    else:
        shutil.rmtree(keep)
    return broken


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
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default=FULL.name)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="repeatable")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a page whose marked part is replaced; a full run writes that of the documentation",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIRECTORY",
        help="for journals and logs; else they are kept where a promise did not hold",
    )
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
