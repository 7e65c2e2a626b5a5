"""The processes that are killed: workers and relays, and each new one that takes a place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .journal import Gauge, Story

if TYPE_CHECKING:
    from .stage import Stage

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds: what takes longer hangs
_QUOTA = 10**9


class ActorError(RuntimeError):
    """A process did not do what it was asked to do."""


class Actor:
    """A place that one process after the other takes."""

    def __init__(self, stage: Stage, name: str, rmq: dict[str, Any], liar: str = "") -> None:
        self.stage = stage
        self.name = name
        self.rmq = rmq
        self.liar = liar
        self.lives: list[tuple[str, bool]] = []  # names that it had, and whether it was killed
        self.frozen = False
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _told(self) -> dict[str, Any]:
        return {}

    @property
    def life(self) -> str:
        """The name of the process that is there now."""
        return self.lives[-1][0]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Begin a life."""
        life = f"{self.name}i{len(self.lives) + 1}"
        self.lives.append((life, False))
        with (self.stage.place / f"{life}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", *self._command()],
                env=self.environment(life),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def environment(self, life: str) -> dict[str, str]:
        """What a process of this name is told."""
        told = {
            "name": life,
            "seed": self.stage.seed,
            "parent": os.getpid(),
            "place": str(self.stage.place),
            "database": self.stage.store.settings(life),
            "rmq": self.rmq,
            **self._told(),
        }
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS": json.dumps(told),
            "CHAOS_LIAR": self.liar,
        }

    def kill(self) -> None:
        """SIGKILL, also to what it has forked."""
        self._ended(killed=True)

    def restart(self) -> None:
        """Another one takes its place."""
        if self.running:
            self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    def _ended(self, *, killed: bool) -> None:
        assert self._process is not None
        if killed:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.lives[-1] = (self.life, killed)
        self.frozen = False

    def await_end(self, patience: float = PATIENCE) -> None:
        """Wait until it ends by itself, as it should, well."""
        assert self._process is not None
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._ended(killed=True)
            self.lives[-1] = (self.life, False)  # its calls had time enough
            raise ActorError(f"{self.life} did not end within {patience:.0f} s") from None
        self._ended(killed=False)
        if code:
            raise ActorError(f"{self.life} ended with {code}: {self.log()[-2000:]}")

    def log(self) -> str:
        """What it said on its standard error."""
        return (self.stage.place / f"{self.life}.log").read_text("utf-8", "replace")

    def check(self) -> None:
        """Complain where it has ended by itself."""
        if not self.running:
            raise ActorError(f"{self.life} ended by itself: {self.log()[-2000:]}")


class Worker(Actor):
    """A process of a web server, so to speak."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        rmq: dict[str, Any],
        *,
        do: str,
        threads: int,
        quota: int = _QUOTA,
        liar: str = "",
        **options: Any,
    ) -> None:
        super().__init__(stage, name, rmq, liar)
        self._options = {"do": do, "threads": threads, "quota": quota, **options}
        self._gauges: list[Gauge] = []

    def _command(self) -> list[str]:
        return ["-m", "tests.chaos.process"]

    def _told(self) -> dict[str, Any]:
        return {"worker": self._options}

    def start(self) -> None:
        name = f"{self.name}i{len(self.lives) + 1}"
        self._gauges.append(Gauge(self.stage.place / f"{name}.gauge", make=True))
        super().start()

    @property
    def gauge(self) -> Gauge:
        """That of the process that is there now."""
        return self._gauges[-1]

    @property
    def done(self) -> int:
        """Of the quota, by all that were here."""
        return sum(gauge.done for gauge in self._gauges)

    @property
    def connects(self) -> int:
        """Connections beyond the first that each life made."""
        return sum(max(0, gauge.connects - 1) for gauge in self._gauges)

    def stop(self) -> None:
        """Have it end; `await_end` waits for it."""
        self.gauge.stop()

    def stories(self, read: Callable[..., Story]) -> list[Story]:
        """What its processes said, and what they have forked."""
        found = []
        for life, killed in self.lives:
            for path in sorted(self.stage.place.glob(f"{life}*.journal")):
                own = path.stem == life or path.stem.startswith(f"{life}f")
                if own:
                    found.append(read(path.stem, path, killed=killed))
        return found

    def discard(self) -> None:
        """Give the gauges back."""
        for gauge in self._gauges:
            gauge.close()
        self._gauges.clear()


class Relay(Actor):
    """``manage.py rmq_relay``."""

    def _command(self) -> list[str]:
        program = ["-m", "tests.chaos.liars"] if self.liar else ["manage.py"]
        return [*program, "rmq_relay", "--poll-interval", "0.2"]

    def stop(self) -> None:
        """SIGTERM, once it listens to that."""
        until(lambda: not self.running or self._listens())
        self.check()
        os.kill(self.pid, signal.SIGTERM)

    def _listens(self) -> bool:
        path = Path(f"/proc/{self.pid}/status")
        caught = [line for line in path.read_text().splitlines() if line.startswith("SigCgt:")]
        return bool(int(caught[0].split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def until(holds: Callable[[], Any], seconds: float = PATIENCE, every: float = 0.01) -> bool:
    """Wait for a state that has no event; tell whether it came."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def seen(count: Callable[[], int], seconds: float = 10) -> int:
    """Wait until something is there to be hit, and return how much it was."""
    found = 0
    deadline = time.monotonic() + seconds
    while not (found := count()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return found
