"""Run the benchmark of stored messages: ``python -m tests.bench.stored [--quick] [--output FILE]``."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.contest import say
from tests.bench.table import markdown
from tests.support.rig import wire
from tests.support.rig.amqp import Amqp
from tests.support.rig.node import PrivateNode
from tests.support.rig.ports import free_port
from tests.support.rig.postgres import PrivatePostgres

from . import figures
from .figures import Rows, Size

_ROOT = Path(__file__).parents[3]
PATIENCE = 600  # seconds for one task


class StompNode(PrivateNode):
    """A node that speaks STOMP too, as django-outbox-pattern does."""

    plugins = ("rabbitmq_stomp",)

    def __init__(self) -> None:
        self.stomp = free_port()
        super().__init__(config=f"stomp.listeners.tcp.1 = 127.0.0.1:{self.stomp}")


class Process:
    """A peer in a process of its own."""

    def __init__(self, module: str, told: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.stored.work", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=_ROOT,
        )  # fmt: skip
        self._tell(told)
        self._answer()

    def run(self, **task: Any) -> dict[str, Any]:
        self._tell(task)
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _tell(self, told: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer tells why
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or ["it said nothing"]
            raise RuntimeError("\n".join(said[-12:]))
        answer: dict[str, Any] = json.loads(line)
        return answer


class Stage:
    """A broker, a queue, a database server; peers are made on them."""

    def __init__(self, node: StompNode, postgres: PrivatePostgres) -> None:
        self.node = node
        self.postgres = postgres
        self.amqp = Amqp(node.url())
        self._numbers = itertools.count()
        self.queue = self.amqp.declare_queue("benchmark.stored")

    @contextlib.contextmanager
    def peer(self, module: str, **settings: Any) -> Iterator[Process]:
        """A peer with a database of its own."""
        name = f"bench_{next(self._numbers)}"
        self.postgres.query(f"CREATE DATABASE {name}")
        told = {
            "url": self.node.url(), "stomp": self.node.stomp, "queue": self.queue,
            "database": self.postgres.settings(NAME=name), "settings": settings,
        }  # fmt: skip
        process = Process(module, told)
        try:
            yield process
        finally:
            process.close()

    def counted(self, process: Process, **task: Any) -> dict[str, Any]:
        """Run a task on an empty queue; every message must be there afterwards."""
        process.run(do="empty")
        self.amqp.channel.queue_purge(self.queue)
        measured = process.run(**task)
        arrived = self.amqp.depth(self.queue)
        assert arrived >= measured["messages"], f"{arrived} of {measured['messages']} arrived"
        return measured


Part = Callable[[Stage, Any], tuple[Rows, str]]


def run(
    section: str, parts: Mapping[str, Part], sizes: type[Any], arguments: Sequence[str] | None
) -> int:
    """Measure the parts of a benchmark, and write them into a section of a page.

    Args:
        section: what the marks in the page call it.
        parts: what ``--only`` chooses from.
        sizes: what makes a `quick` and a `full` size.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.bench.{section}")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--only", action="append", choices=parts, help="this part; repeatable")
    parser.add_argument("--output", type=Path, help="a page whose marked part is replaced")
    options = parser.parse_args(arguments)
    size = sizes.quick() if options.quick else sizes.full()
    with contextlib.ExitStack() as stack:
        node = StompNode().start()
        stack.callback(node.discard)
        postgres = PrivatePostgres().start()
        stack.callback(postgres.discard)
        stage = Stage(node, postgres)
        stack.callback(stage.amqp.close)
        head = machine.describe(f"{wire.product(node.url())} (local), its files on disk")
        head.append(("database", f"{postgres.version()}, durable"))
        texts = [markdown(["machine", ""], head)]
        summary: Rows = []
        for name in options.only or parts:
            say(name)
            told, text = parts[name](stage, size)
            summary += told
            texts.append(text)
    texts.insert(1, markdown(["figure", "measured", "aim"], summary))
    text = "\n\n".join(texts)
    print(text)
    if options.output is not None:
        write(options.output, section, text)
    return 0


def write(path: Path, section: str, text: str) -> None:
    """Put the tables between the marks of a section."""
    begin = f"<!-- BEGIN {section}: made by `make bench`, not by hand -->"
    end = f"<!-- END {section} -->"
    before, found, rest = path.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{path} is a page without the two marks of {section}:\n{begin}\n{end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("stored", figures.PARTS, Size, arguments)


if __name__ == "__main__":
    sys.exit(main())
