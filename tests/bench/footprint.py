"""What a process holds: memory, threads, connections. Linux only; elsewhere nothing is known."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PROC = Path("/proc/self")
_ESTABLISHED = "01"


def measure(port: int) -> dict[str, float]:
    """Memory in MiB (resident, not shared), threads, connections to a port."""
    if not _PROC.exists():
        return {"memory": 0, "threads": 0, "connections": 0}
    status = (_PROC / "status").read_text()
    return {
        "memory": _private_memory(),
        "threads": int(_number(r"^Threads:\s+(\d+)", status)),
        "connections": _connections(port),
    }


def _private_memory() -> float:
    rollup = (_PROC / "smaps_rollup").read_text()
    kilobytes = sum(
        _number(rf"^{kind}:\s+(\d+) kB", rollup) for kind in ("Private_Clean", "Private_Dirty")
    )
    return kilobytes / 1024


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _connections(port: int) -> int:
    sockets = set()
    for descriptor in (_PROC / "fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))  # noqa: PTH115 (it is no path)
        except OSError:
            continue  # the directory's own, closed by now
    count = 0
    for table in ("tcp", "tcp6"):
        path = _PROC / "net" / table
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            remote = int(fields[2].rpartition(":")[2], 16)
            ours = f"socket:[{fields[9]}]" in sockets
            count += remote == port and fields[3] == _ESTABLISHED and ours
    return count
