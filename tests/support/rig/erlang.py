"""Erlang around a private node: its own port mapper, and quick remote calls."""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

from . import PATIENCE
from .ports import free_port, release_port


class ErlangError(RuntimeError):
    """An expression failed on the node, or the node did not answer."""


class Epmd:
    """Erlang's port mapper, in the foreground, so that its pid is ours to end."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def start(self) -> None:
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [_program("epmd"), "-address", "127.0.0.1", "-port", str(self.port)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._guard = guard(self._process.pid)

    def stop(self) -> None:
        if os.getpid() != self._owner:
            return
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            release_guard(self._guard)
        release_port(self.port)


def clean_environment(**extra: str) -> dict[str, str]:
    """Ours, without what would lead a node to somebody else's broker."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
    return {**kept, "LC_ALL": "C.UTF-8", **extra}


def without_plugins(program: str, directory: Path) -> dict[str, str]:
    """The environment of a server that need not look through its plugins; that takes it a second.

    Each module is looked for in the directories of all of them, and most of a node's start is
    loading modules. What the server itself depends on is in the same place, and stays.
    """
    theirs = Path(program).resolve().parents[1] / "plugins"
    told = next(iter(theirs.glob("rabbit-*/ebin/rabbit.app")), None)
    if told is None:
        return {}
    needed = set(re.findall(r"\brabbitmq_\w+", told.read_text()))
    ours = directory / "plugins"
    shutil.rmtree(ours, ignore_errors=True)  # of the start before
    ours.mkdir()
    for path in theirs.iterdir():
        name = path.name.split("-", 1)[0]
        if not name.startswith("rabbitmq_") or name in needed:
            (ours / path.name).symlink_to(path)
    return {"RABBITMQ_PLUGINS_DIR": str(ours)}


def guard(pid: int, directory: Path | None = None) -> subprocess.Popen[bytes]:
    """A watcher that ends the process when this one dies, even by SIGKILL.

    It reads a pipe whose other end is ours alone; end of file means that we are gone.
    """
    script = (
        'read -r word; [ "$word" = released ] && exit; kill -KILL "$1"; '
        '[ -z "$2" ] || { sleep 0.1; rm -rf -- "$2"; }'
    )
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", str(pid), str(directory or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def release_guard(watcher: subprocess.Popen[bytes] | None) -> None:
    """Send the watcher home: its process has been ended properly."""
    if watcher is not None:
        watcher.communicate(b"released\n", timeout=PATIENCE)


def remote_eval(node: str, expression: str, env: dict[str, str], timeout: float) -> str:
    """Evaluate on the node within milliseconds (rabbitmqctl needs seconds)."""
    script = (
        f'try io:format("ok ~0tp", [begin {expression} end]) '
        'catch C:R -> io:format("error ~0tp", [{C, R}]) end.\n'
    )
    seconds = str(math.ceil(timeout) + 1)  # whole ones only: ours is the one that counts
    # Its own random names repeat within a second, and the node refuses a name that is still on.
    caller = f"rig{secrets.token_hex(8)}"
    command = [_program("erl_call"), "-h", caller, "-timeout", seconds, "-name", node]
    try:
        done = subprocess.run(
            [*command, "-fetch_stdout", "-no_result_term", "-e"],
            input=script,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise ErlangError(f"{node} did not answer within {timeout} s") from None
    verdict, _, result = done.stdout.partition(" ")
    if verdict != "ok":
        why = result or done.stderr.strip() or "no answer, or a syntax error"
        raise ErlangError(f"{node}: {why}: {expression}")
    return result


def binary(text: str) -> str:
    """The text as an Erlang binary."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}"/utf8>>'


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        places = sorted(Path("/usr/lib/erlang").glob(f"**/bin/{name}"))
        found = str(places[-1]) if places else None
    if found is None:
        raise ErlangError(f"{name} is not installed (it comes with Erlang's base package)")
    return found
