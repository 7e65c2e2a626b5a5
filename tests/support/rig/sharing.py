"""Servers that the processes of one parallel run share.

The process that needs a server first starts it, and ends it when all others have let go of it. An
owner that dies takes its server along, as any owner of one does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

# Where the run keeps its locks; set by the process that starts the others.
DIRECTORY = "_RMQ_TEST_SHARED_SERVERS"


def share_servers() -> Callable[[], None]:
    """Let the processes that this one starts share servers; the result ends it."""
    made = tempfile.mkdtemp(prefix="rmq-shared-")
    os.environ[DIRECTORY] = made

    def end() -> None:
        os.environ.pop(DIRECTORY, None)
        shutil.rmtree(made, ignore_errors=True)

    return end


def sharing() -> bool:
    """Whether other processes may use what this one starts."""
    return DIRECTORY in os.environ


class Lease:
    """The use of a server by one process: `url()` starts it if nobody has, `end()` lets go of it."""

    def __init__(self, name: str) -> None:
        place = Path(os.environ[DIRECTORY])
        self._told = place / f"{name}.url"
        self._starting = place / f"{name}.starting"
        self._users: IO[bytes] = (place / f"{name}.users").open("ab")
        self._discard: Callable[[], object] | None = None

    def url(self, start: Callable[[], tuple[str, Callable[[], object]]]) -> str:
        """The server's; `start` gives it and what ends the server."""
        with self._starting.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held until the file is closed
            if not self._told.exists():
                url, self._discard = start()
                self._told.write_text(url)
            fcntl.flock(self._users, fcntl.LOCK_SH)
            return self._told.read_text()

    def end(self) -> None:
        """Let go of it; whoever started it waits for the others, and ends it."""
        if self._discard is not None:
            with self._starting.open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # a late one starts its own
                self._told.unlink()
            fcntl.flock(self._users, fcntl.LOCK_EX)
            self._discard()
        self._users.close()
