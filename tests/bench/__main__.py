"""Run the benchmark: ``python -m tests.bench [--quick|--full] [--profile] [--output FILE]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from tests.support.rig.amqp import Amqp
from tests.support.rig.ladder import Broker, NoBrokerError

from . import broker, extras, machine, plan, table
from .contest import Contest, Stage, say

_RENDER = {"transaction": table.transactions, "call": table.calls}
NAMES = (
    "one", "threads", "many", "tls", "tls_many", "transaction", "call", "footprint", "imports",
)  # fmt: skip
PROFILED = ("one", "threads", "many")  # where the peer is told how to publish, and no more
_EXPLAINED = """\
Each message: 1 KB, persistent, mandatory, confirmed, to one durable classic queue of one real broker.
Each client in a process of its own. They take turns in many short rounds: a rate is the median of the
rounds, a ratio the median of the rounds' ratios (in brackets their middle half). The queue is emptied
before each round and counted after it: what was confirmed has arrived. CPU is the client's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    started = time.monotonic()
    say("Starting a broker")
    try:
        found = broker.start(in_memory=options.memory)
    except NoBrokerError as error:
        say(str(error))
        return 2
    try:
        text, failed = _measure(options, found)
    finally:
        found.stop()
    print(text)
    if options.output is not None:
        table.write(options.output, text)
    say(f"Done in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about a minute (the default)")
    size.add_argument("--full", action="store_true", help="every peer, more rounds: some minutes")
    parser.add_argument("--only", action="append", choices=NAMES, help="this part; repeatable")
    parser.add_argument(
        "--memory", action="store_true", help="keep the broker's files in memory, not on disk"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="tell where the time goes for every figure, not only where one falls short of its aim",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="a page whose marked part is replaced"
    )
    parser.add_argument(
        "--beside", type=Path, metavar="DIR", help="another checkout of the library, measured too"
    )
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, found: Broker) -> tuple[str, bool]:
    kept = "its files in memory" if options.memory else "its files on disk"
    described = machine.describe(f"{found.description} ({found.rung}), {kept}")
    size = plan.FULL if options.full else plan.QUICK
    wanted = options.only or NAMES
    library = str(options.beside.resolve()) if options.beside else None
    amqp = Amqp(found.url)
    try:
        with tempfile.TemporaryDirectory() as directory:
            stage = Stage(broker.Queue(amqp, "messages"), Path(directory), library)
            contests = {}
            for contest in plan.contests(size, beside=library is not None):
                if contest.key in wanted:
                    contests[contest.key] = stage.hold(contest)
            held = extras.footprints(stage) if "footprint" in wanted else []
            figures = table.figures(contests)
            profiles = {
                key: stage.profile(contests[key].first, plan.PROFILED)
                for key in dict.fromkeys(f.key for f in figures if f.short or options.profile)
                if key in PROFILED
            }
    finally:
        amqp.close()
    contests |= _measure_tls(wanted, size, library)
    imported = extras.imports(size.turns // 6) if "imports" in wanted else []
    sections = [_head(described, figures)]
    for key, contest in contests.items():
        sections.append(f"### {contest.title}\n\n{contest.rounds} rounds.\n\n{_render(contest)}")
        if key in profiles:
            told = "Where the time goes, with each of our steps timed (which costs some itself):"
            sections.append(f"{told}\n\n{table.profile(profiles[key])}")
    if held:
        title = f"### A process in which {plan.THREADS} threads have published"
        sections.append(f"{title}\n\n{table.footprints(held)}")
    if imported:
        sections.append(f"### Imports in a fresh interpreter\n\n{table.imports(imported)}")
    return "\n\n".join(sections) + "\n", any(c.failed for c in contests.values())


def _measure_tls(
    wanted: Collection[str], size: plan.Size, library: str | None
) -> dict[str, Contest]:
    contests = [c for c in plan.tls_contests(size, beside=library is not None) if c.key in wanted]
    if not contests:
        return {}
    try:
        node = broker.start_with_tls()
    except NoBrokerError as error:
        say(str(error))
        return {}
    with node, tempfile.TemporaryDirectory() as directory:
        amqp = Amqp(node.url())
        try:
            stage = Stage(broker.Queue(amqp, "tls", node), Path(directory), library)
            return {contest.key: stage.hold(contest) for contest in contests}
        finally:
            amqp.close()


def _render(contest: Contest) -> str:
    return _RENDER.get(contest.key, table.rates)(contest)


def _head(described: Sequence[tuple[str, str]], figures: Sequence[table.Figure]) -> str:
    parts = [table.markdown(["machine", ""], described), _EXPLAINED]
    if figures:
        rows = [figure.row for figure in figures]
        parts.append(table.markdown(["figure", "measured", "aim"], rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
