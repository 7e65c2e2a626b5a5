"""The parent's side of a peer: a worker process, or the program in C."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from .broker import Queue

Task = dict[str, Any]
_ROOT = Path(__file__).parents[2]
_SOURCE = Path(__file__).with_name("librabbitmq.c")
BODY_SIZE = 1024
PATIENCE = 120  # seconds for one task


class PeerError(Exception):
    """A peer cannot be measured; the text says why."""


class Runner(Protocol):
    """A peer that waits for tasks."""

    queue: str

    def run(self, **task: Any) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Worker:
    """A peer in a Python process of its own."""

    def __init__(
        self,
        peer: str,
        queue: Queue,
        options: dict[str, Any] | None = None,
        library: str | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker", peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=_ROOT,
            # OpenSSL's own variable: every peer verifies the broker's certificate by it.
            env={**os.environ, **({"SSL_CERT_FILE": str(queue.ca_file)} if queue.ca_file else {})},
        )
        told = {
            "url": queue.url,
            "port": queue.port,
            "queue": queue.name,
            "options": options or {},
            "library": library,
        }
        self._tell(told)
        self.queue = ""

    def ready(self) -> None:
        """Return once it has imported what it needs."""
        self.queue = self._answer()["queue"]

    def run(self, **task: Any) -> dict[str, Any]:
        self._tell(task)
        return self._answer()

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _tell(self, message: Task) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer tells why

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            self._process.kill()
            raise PeerError(f"it did not answer within {PATIENCE} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or ["it said nothing"]
            raise PeerError(f"it failed: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Native:
    """The program in C: one process for each round."""

    def __init__(self, queue: Queue, program: Path) -> None:
        self.queue = queue.name
        self._queue = queue
        self._program = program
        self._url = urlsplit(queue.url)

    def run(self, **task: Any) -> dict[str, Any]:
        messages, window = task["messages"], task["window"]
        url = self._url
        where = [url.hostname or "localhost", str(url.port or 5672), unquote(url.username or "")]
        where += [unquote(url.password or ""), unquote(url.path[1:]) or "/", self.queue]
        sizes = [str(messages), str(BODY_SIZE), str(window), str(self._queue.id_size())]
        ended = subprocess.run(
            [str(self._program), *where, *sizes], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise PeerError(f"it failed: {ended.stderr.strip()}")
        seconds, cpu = map(float, ended.stdout.split())
        return {"messages": messages, "seconds": seconds, "cpu": cpu}

    def close(self) -> None:
        """Nothing runs between rounds."""


def compile_native(directory: Path) -> Path:
    """Return the program in C, or raise `PeerError`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise PeerError("not installed: a C compiler")
    program = directory / "librabbitmq"
    command = [compiler, "-O2", "-o", str(program), str(_SOURCE), "-lrabbitmq"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        missing = "amqp.h" in ended.stderr or "-lrabbitmq" in ended.stderr
        raise PeerError(
            "not installed: librabbitmq-dev" if missing else "it could not be compiled"
        )
    return program
