"""Worker processes: started afresh, replaced when they die, ended when their parent does.

The parent opens no connection and no thread. A child ends when its standard input is closed: the parent
does that to stop it, and the kernel does it when the parent is killed.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from rmq_publisher.outbox.notifier import Sleeper
from rmq_publisher.timing import Backoff, monotonic

logger = logging.getLogger("rmq_publisher.consumer")

READY = b"ready\n"
# The exit code of a child whose handler ran for too long, so it is replaced at once (EX_TEMPFAIL).
REPLACE = 75
LOOK_SECONDS = 0.5
HEALTHY_SECONDS = 30.0  # a child that lived longer is replaced without growing delays
END_SECONDS = 5.0  # beyond the stop's timeout, after which a child is killed


class PoolFailed(Exception):
    """A child could not start, and has printed why."""


class Child:
    """One process.

    Args:
        command: what it runs; the number of the descriptor for its reports is added.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.reports, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(  # noqa: S603 (our own command)
                [*command, str(theirs)],
                stdin=subprocess.PIPE,
                pass_fds=[theirs],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            os.close(theirs)
        os.set_blocking(self.reports, False)
        self.ready = False
        self.started_at = monotonic()

    def hear(self) -> None:
        """Read what it reports."""
        try:
            data = os.read(self.reports, 4096)
        except BlockingIOError:
            return
        if READY in data:
            self.ready = True

    def stop(self) -> None:
        """Ask it to end."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def forget(self) -> None:
        """Close the pipes of a process that has ended."""
        self.stop()
        os.close(self.reports)


class ProcessPool:
    """Keeps processes running until it is stopped, or until all have finished.

    Args:
        commands: one for each process.
        stop_timeout: seconds that a child may take to end after a stop.
        on_ready: called once all are ready.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        stop_timeout: float,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._commands = commands
        self._stop_timeout = stop_timeout
        self._on_ready = on_ready
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}  # when a place is to be filled again
        self._backoffs = [Backoff(first=0.5, cap=30.0) for _ in commands]
        self._sleeper = Sleeper()
        self._stopping = False
        self._is_ready = False

    def stop(self) -> None:
        """Have `run` return once the children have finished their messages. Safe in a signal handler."""
        self._stopping = True
        self._sleeper.wake()

    def kill(self) -> None:
        """End the children at once. Safe in a signal handler."""
        for child in list(self._children.values()):
            child.kill()

    def run(self) -> None:
        """Run until `stop`, or until all children have finished.

        Raises:
            PoolFailed: a child ended with an error before it was ready.
        """
        try:
            for place in range(len(self._commands)):
                self._start(place)
            while not self._stopping and (self._children or self._due):
                self._sleeper.sleep(
                    LOOK_SECONDS, *(one.reports for one in self._children.values())
                )
                self._look()
        finally:
            self._end()

    def _start(self, place: int) -> None:
        self._due.pop(place, None)
        self._children[place] = Child(self._commands[place])

    def _look(self) -> None:
        for place, child in list(self._children.items()):
            child.hear()
            if (code := child.process.poll()) is not None:
                del self._children[place]
                child.forget()
                self._ended(place, child, code)
        for place, due in list(self._due.items()):
            if monotonic() >= due and not self._stopping:
                self._start(place)
        running = [child.ready for child in self._children.values()]
        if not self._is_ready and len(running) == len(self._commands) and all(running):
            self._is_ready = True
            self._on_ready()

    def _ended(self, place: int, child: Child, code: int) -> None:
        """Replace a child that has ended, unless it had finished.

        Raises:
            PoolFailed: see `run`.
        """
        if code == 0 or self._stopping:
            return
        if code > 0 and code != REPLACE and not child.ready and not self._is_ready:
            raise PoolFailed(f"a worker process ended with code {code} before it was ready")
        if code == REPLACE or monotonic() - child.started_at >= HEALTHY_SECONDS:
            self._backoffs[place].reset()
        delay = 0.0 if code == REPLACE else self._backoffs[place].delay()
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with code {code}"
        )
        logger.error("worker process %d %s and is replaced", child.process.pid, how)
        self._due[place] = monotonic() + delay

    def _end(self) -> None:
        for child in self._children.values():
            child.stop()
        deadline = monotonic() + self._stop_timeout + END_SECONDS
        for child in self._children.values():
            try:
                child.process.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                logger.error("worker process %d does not end and is killed", child.process.pid)
                child.kill()
                child.process.wait()
            child.forget()
        self._children.clear()
