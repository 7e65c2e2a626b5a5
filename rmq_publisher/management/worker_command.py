"""The base of the commands that run a worker: signals, processes, readiness, reports."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser
from django.utils import autoreload

from rmq_publisher.consumer.outcomes import Ended
from rmq_publisher.consumer.process_pool import READY, REPLACE, PoolFailed, ProcessPool
from rmq_publisher.consumer.retry_topology import NotReady
from rmq_publisher.consumer.worker import STOP_TIMEOUT, HandlerOverran, Worker
from rmq_publisher.exceptions import PublishError
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.timing import monotonic

ENDS = (signal.SIGTERM, signal.SIGINT)
STATUS_SECONDS = 60.0


class WorkerCommand(QuietableCommand):
    """Runs a `Worker` in this process, or several in processes of their own.

    A subclass says what the worker does (`fill`), and which of its options a child is started with
    (`child_arguments`).
    """

    command = ""  # its name, for the children
    failures: ClassVar[tuple[type[Exception], ...]] = (
        PublishError,
        NotReady,
    )  # end it with their text
    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's name)

    def fill(self, worker: Worker, options: dict[str, Any]) -> None:
        """Add to a worker what it is to handle.

        Raises:
            CommandError: there is nothing to handle, or an option is wrong.
        """
        raise NotImplementedError

    def check_options(self, options: dict[str, Any]) -> None:
        """Check options, without a connection.

        Raises:
            CommandError: one is wrong.
        """

    def child_arguments(self, options: dict[str, Any]) -> list[str]:
        """Return the arguments of a child that are the command's own."""
        raise NotImplementedError

    def tick(self, worker: Worker) -> None:
        """Called about twice a second while the worker runs.

        Raises:
            HandlerOverran: this process must be replaced.
        """

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options that workers share."""
        parser.add_argument(
            "--threads", type=_count, metavar="N", help="How many messages are handled at once."
        )
        parser.add_argument(
            "--processes",
            type=_count,
            metavar="N",
            help="Run in N child processes, which are replaced when they die.",
        )
        parser.add_argument(
            "--stop-timeout",
            type=_seconds,
            default=STOP_TIMEOUT,
            metavar="S",
            help="Seconds that it may take to end after SIGTERM. Default: 25.",
        )
        parser.add_argument(
            "--ready-file",
            type=Path,
            metavar="PATH",
            help="A file that exists while the worker receives messages.",
        )
        parser.add_argument("--autoreload", action="store_true", help="Restart when code changes.")
        parser.add_argument("--child", type=int, help="Used by --processes.")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run until a signal arrives, or there is nothing more to do.

        Raises:
            CommandError: an option is wrong, or the broker does not let it consume.
        """
        if options["autoreload"]:
            if options["processes"]:
                raise CommandError("--autoreload runs one process: leave out --processes.")
            autoreload.run_with_reloader(self._run_worker, options)
        elif options["processes"]:
            self.check_options(options)
            self._run_pool(options)
        else:
            self._run_worker(options)

    # One process

    def _run_worker(self, options: dict[str, Any]) -> None:
        child: int | None = options["child"]
        status = Status(self.stdout.write)
        worker = Worker(
            limit=options.get("limit"),
            once=options.get("once", False),
            stop_timeout=options["stop_timeout"],
            on_ready=lambda: self._ready(worker, options),
            on_tick=lambda worker: self._tick(worker, status),
            replaceable=child is not None,
            stop_on=None if child is None else sys.stdin.fileno(),
        )
        self.fill(worker, options)
        try:
            stop = partial(_stop, worker.stop, options["ready_file"])
            with _signals(stop, ignore_interrupts=child is not None):
                worker.run()
        except HandlerOverran:
            # Its threads cannot be ended otherwise.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(REPLACE)
        except self.failures as error:
            raise CommandError(str(error)) from error
        finally:
            _remove(options["ready_file"])
        for lane in worker.lanes:
            self.stdout.write(f"{lane.work.name}: {summary(lane.counts)}")

    def _tick(self, worker: Worker, status: "Status") -> None:
        status.tick(worker)
        self.tick(worker)

    def _ready(self, worker: Worker, options: dict[str, Any]) -> None:
        for lane in worker.lanes:
            self.stdout.write(f"{lane.work.name}: ready, {len(lane.runs)} threads")
        self.stdout.flush()
        if options["child"] is not None:
            os.write(options["child"], READY)
        elif options["ready_file"] is not None:
            _write(options["ready_file"])

    # Several

    def _run_pool(self, options: dict[str, Any]) -> None:
        path = options["ready_file"]
        pool = ProcessPool(
            [self._command(options, place) for place in range(options["processes"])],
            options["stop_timeout"],
            on_ready=lambda: _write(path) if path is not None else None,
        )
        try:
            with _signals(partial(_stop, pool.stop, path), at_once=pool.kill):
                pool.run()
        except PoolFailed as error:
            raise CommandError(str(error)) from error
        finally:
            _remove(path)

    def _command(self, options: dict[str, Any], place: int) -> list[str]:
        command = [sys.executable, "-m", "django", self.command, *self.child_arguments(options)]
        valued = ("threads", "stop_timeout", "verbosity", "settings", "pythonpath")
        given = {name: options[name] for name in valued if options.get(name) is not None}
        command += [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        flags = [name for name in ("once", "no_color") if options.get(name)]
        command += [f"--{name.replace('_', '-')}" for name in flags]
        if options.get("limit") is not None:
            share, rest = divmod(options["limit"], options["processes"])
            command.append(f"--limit={share + (place < rest)}")
        return [*command, "--child"]


class Status:
    """A line about what was handled, once a minute if there was anything."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._due = monotonic() + STATUS_SECONDS
        self._said = 0

    def tick(self, worker: Worker) -> None:
        """Print progress from time to time."""
        now = monotonic()
        if now < self._due:
            return
        counts = worker.counts
        total = sum(counts.values())
        if total != self._said:
            seconds = STATUS_SECONDS + now - self._due
            running = sum(bool(run.messages) for lane in worker.lanes for run in lane.runs)
            rate = (total - self._said) / seconds
            self._write(f"{summary(counts)}; {rate:.1f}/s, {running} running")
        self._said, self._due = total, now + STATUS_SECONDS


def summary(counts: Any) -> str:
    """Return how many messages were handled, failed, and so on."""
    failed = counts[Ended.FAILED] + counts[Ended.RETRY]
    parts = [f"handled {counts[Ended.HANDLED]}"]
    for name, count in (
        ("failed", failed),
        ("rejected", counts[Ended.REJECTED]),
        ("returned", counts[Ended.NOT_AN_ATTEMPT]),
    ):
        if count:
            parts.append(f"{name} {count}")
    return ", ".join(parts)


@contextmanager
def _signals(
    stop: Callable[[], None],
    at_once: Callable[[], None] = lambda: None,
    *,
    ignore_interrupts: bool = False,
) -> Iterator[None]:
    """Have SIGTERM and SIGINT call ``stop``; a second one ends the process at once.

    Under `autoreload` the worker has not the main thread, and Django's reloader keeps the signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def at_second(number: int, _frame: object) -> None:
        at_once()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def end(*_: object) -> None:
        stop()
        for number in numbers:
            signal.signal(number, at_second)

    # A terminal sends SIGINT to the children as well, whom their parent ends.
    numbers: Sequence[signal.Signals] = ENDS[:1] if ignore_interrupts else ENDS
    before = {number: signal.signal(number, end) for number in numbers}
    if ignore_interrupts:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(path: Path) -> None:
    """Create the ready file, whole at once.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(f"{os.getpid()}\n", "utf-8")
        draft.replace(path)
    except OSError as error:
        raise CommandError(f"--ready-file {path}: {error.strerror}") from error


def _stop(stop: Callable[[], None], ready_file: Path | None) -> None:
    _remove(ready_file)  # at once: whoever looks at it sends nothing new here
    stop()


def _remove(path: Path | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise ValueError(text)
    return value
