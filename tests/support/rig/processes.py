"""The processes of others: families, their ends, and a watcher that sees to these."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from . import PATIENCE


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        found = subprocess.run(
            ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return [int(word) for word in found.split()]


def await_gone(pids: list[int], timeout: float = PATIENCE) -> None:
    """Return once none of the processes is there; they need not be ours."""
    deadline = time.monotonic() + timeout
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise TimeoutError("killed processes do not go away")
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():  # not on Linux
            return True
        # One that nobody has reaped yet holds nothing any more.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def guard(pid: int, quick_end: signal.Signals, directory: Path) -> subprocess.Popen[bytes]:
    """A watcher that ends the server and its files when this process dies, even by SIGKILL."""
    script = (
        'read -r word; [ "$word" = released ] && exit; '
        "all() { echo $1 $(cat /proc/$1/task/$1/children 2>/dev/null || pgrep -P $1); }; "
        "kill -CONT $(all $1); kill -s $2 $1; tries=0; "
        "while kill -0 $1 && [ $tries -lt 30 ]; do sleep 0.1; tries=$((tries+1)); done; "
        'kill -KILL $(all $1); sleep 0.1; rm -rf -- "$3"'
    )
    name = quick_end.name.removeprefix("SIG")
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", str(pid), name, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
