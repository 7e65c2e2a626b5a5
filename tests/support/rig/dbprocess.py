"""A database server of our own: to kill, freeze and restart without hurting anybody."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Self

from . import PATIENCE
from .dbserver import DatabaseServer, Login, ServerError
from .ports import free_port, release_port
from .processes import await_gone, children, guard

START_TIMEOUT = 60.0


class PrivateServer(DatabaseServer):
    """One server on a private port of the loopback address, all its files in a directory."""

    package: ClassVar[str]  # Debian's
    program_name: ClassVar[str]
    places: ClassVar[tuple[str, ...]]  # of its programs, besides the PATH; globs under the root
    orderly_end: ClassVar[signal.Signals]  # without waiting for clients
    quick_end: ClassVar[signal.Signals]  # at once, and no shared memory stays behind

    def __init__(self, *, durable: bool = True) -> None:
        """With `durable=False` nothing waits for the disk: what a crash of the machine loses."""
        password = secrets.token_hex(16)
        super().__init__(Login("127.0.0.1", free_port(), "rmq", password, self.first_database))
        self.durable = durable
        self.directory = Path(tempfile.mkdtemp(prefix=f"rmq-{self.kind}-"))
        self.user = _unprivileged(self.directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._initialised = False
        self.frozen = False
        atexit.register(self.discard)

    @classmethod
    def program(cls, name: str = "") -> str | None:
        """The path of the server, or of another program of it; Debian hides some from users."""
        wanted = name or cls.program_name
        found = [
            path for place in cls.places for path in sorted(Path("/").glob(place), key=_number)
        ]
        usable = [path / wanted for path in reversed(found) if os.access(path / wanted, os.X_OK)]
        return str(usable[0]) if usable else shutil.which(wanted)

    @classmethod
    def program_version(cls) -> str:
        done = subprocess.run(
            [cls._need(), "--version"], capture_output=True, text=True, check=True
        )
        found = re.search(r"\d+(\.\d+)+", done.stdout)
        return found[0] if found else "of unknown version"

    @classmethod
    def _need(cls, name: str = "") -> str:
        found = cls.program(name)
        if found is None:
            advice = f"on Debian: apt-get install {cls.package}"
            raise ServerError(f"no {name or cls.program_name} here; {advice}")
        return found

    # -- what a kind of server says -------------------------------------------------------------

    def _initialise(self) -> None:
        """Make the data directory, by `_run()`."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    # -- life -----------------------------------------------------------------------------------

    def start(self, wait: bool = True) -> Self:
        """Boot it; with `wait=False` call `wait_ready()` later."""
        self.driver()  # without it nobody could tell whether the server is up
        if not self._initialised:
            self._initialise()
            self._initialised = True
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is pytest's, not the server's
                **self._as_user(),
            )
        self._guard = guard(self._process.pid, self.quick_end, self.directory)
        return self.wait_ready() if wait else self

    def start_or_discard(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.discard()
            raise

    def wait_ready(self, timeout: float = START_TIMEOUT) -> Self:
        """Return once it lets a client in."""
        deadline = time.monotonic() + timeout
        while True:
            if not self.running:
                raise ServerError(f"{self.product} ended while starting:\n{self.log_tail()}")
            try:
                self.connect(timeout=2).close()
                return self
            except self.driver().Error as error:
                if time.monotonic() > deadline:
                    message = f"{self.product} not up ({error}):\n{self.log_tail()}"
                    raise ServerError(message) from error
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The server's first process."""
        if self._process is None:
            raise ServerError(f"{self.product} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def pids(self) -> list[int]:
        """All processes of the server, the first one first."""
        return [self.pid, *children(self.pid)]

    def kill(self) -> None:
        """SIGKILL to all its processes: nothing is flushed, no connection is closed politely."""
        os.kill(self.pid, signal.SIGSTOP)  # no new children while we look at them
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._ended()
        # A new one refuses the data of which an old process still has hold.
        await_gone(pids)

    def stop(self) -> None:
        """Shut it down in order; the data stay for `start()`."""
        self._end(self.orderly_end)

    def restart(self, wait: bool = True) -> Self:
        """Boot again on the same port and data, after `kill()` or out of a running state."""
        if self.running:
            self.kill()
        return self.start(wait)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        self._signal_all(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        if self.running:
            self._signal_all(signal.SIGCONT)
        self.frozen = False

    def heal(self) -> None:
        self.thaw()
        if not self.running:
            self.restart()
        self.wait_ready()

    def discard(self) -> None:
        """End it without ceremony, and leave nothing behind."""
        if os.getpid() != self._owner:
            return  # a forked child's exit must not take the parent's server away
        atexit.unregister(self.discard)
        self.thaw()
        self._end(self.quick_end)
        self._clean()
        shutil.rmtree(self.directory, ignore_errors=True)
        release_port(self.login.port)

    def __enter__(self) -> Self:
        return self.start_or_discard()

    def __exit__(self, *exc: object) -> None:
        self.discard()

    def log_tail(self, lines: int = 40) -> str:
        if not self._log.exists():
            return "(nothing was logged)"
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _clean(self) -> None:
        """Remove what a killed server leaves outside of its directory."""

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # a connection's process that just ended
                os.kill(pid, number)

    def _end(self, number: signal.Signals, timeout: float = 20) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._ended()

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._process = None
        self.frozen = False
        if self._guard is not None:
            self._guard.communicate(b"released\n", timeout=PATIENCE)
        self._guard = None

    def _as_user(self) -> dict[str, Any]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        place: dict[str, Any] = {
            "cwd": self.directory,
            "env": env | {"LC_ALL": "C.UTF-8", "HOME": str(self.directory)},
        }
        if self.user is not None:
            place |= {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        return place

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **self._as_user()
        )
        if done.returncode:
            raise ServerError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")


def _number(path: Path) -> list[int]:
    """For sorting by the version in a path: 9 before 15."""
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def _unprivileged(directory: Path) -> pwd.struct_passwd | None:
    """Whom to run a server as where we are root, which PostgreSQL refuses to run as."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return user
