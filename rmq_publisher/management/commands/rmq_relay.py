"""``manage.py rmq_relay``: sends stored messages."""

import signal
import threading
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.db.errors import is_table_missing
from rmq_publisher.management.base import QuietableCommand, chosen_aliases, tell_of_memory
from rmq_publisher.outbox.relay import Relay

ENDS = (signal.SIGTERM, signal.SIGINT)
LOOK_SECONDS = 0.5


class Command(QuietableCommand):
    """Runs one relay thread for each database."""

    help = (
        "Send stored messages as they become due, until SIGTERM or SIGINT. Any number of relays may "
        "run at once. With --once, stop when nothing is due, and exit with 1 if a broker or database "
        "could not be reached."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's name); ours are judged below

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options that `outbox.relay` explains."""
        parser.add_argument(
            "--once",
            action="store_true",
            help="Stop as soon as nothing is due, for use from cron.",
        )
        parser.add_argument(
            "--database",
            action="append",
            choices=tuple(databases),
            metavar="ALIAS",
            help="A database with stored messages; may be repeated. Default: default.",
        )
        parser.add_argument(
            "--poll-interval",
            type=_seconds,
            default=1.0,
            metavar="S",
            help="Seconds between polls of the table while nothing is due. Default: 1.",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run until a signal arrives, or with ``--once`` until nothing is due.

        Raises:
            CommandError: a relay failed, or with ``--once`` something could not be reached.
        """
        tell_of_memory(self, chosen_aliases(None), options["verbosity"])
        aliases = dict.fromkeys(options["database"] or [DEFAULT_DB_ALIAS])
        runs = [_Run(self._relay(alias, **options)) for alias in aliases]
        if not options["once"]:
            names = ", ".join(map(repr, aliases))
            self.stdout.write(
                f"Sending the stored messages of {names} until SIGTERM or SIGINT (-v 2 shows progress)"
            )

        def stop(*_: object) -> None:
            for run in runs:
                run.relay.stop()

        def end(*_: object) -> None:
            stop()
            # A second signal kills the process: a statement in a hung database has no deadline.
            for number in ENDS:
                signal.signal(number, signal.SIG_DFL)

        before = {number: signal.signal(number, end) for number in ENDS}
        try:
            for run in runs:
                run.on_failure = stop
                run.start()
            for run in runs:
                # Signal handlers run only in the main thread, and a signal that the kernel delivers to
                # another thread does not interrupt join().
                while run.is_alive():
                    run.join(LOOK_SECONDS)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._report(runs)

    def _relay(self, alias: str, **options: Any) -> Relay:
        def say(text: str) -> None:
            self.stdout.write(f"database {alias!r}: {text}")

        return Relay(
            alias,
            once=options["once"],
            poll_interval=options["poll_interval"],
            say=say if options["verbosity"] > 1 else None,
        )

    def _report(self, runs: list["_Run"]) -> None:
        """Print what each relay has sent, and what is left.

        Raises:
            CommandError: see `handle`.
        """
        for run in runs:
            left = f"; {run.relay.left}" if run.relay.left else ""
            self.stdout.write(f"database {run.relay.database!r}: sent {run.relay.sent}{left}")
        complaints = [complaint for run in runs for complaint in run.complaints()]
        if complaints:
            raise CommandError("\n".join(complaints))


class _Run(threading.Thread):
    """A relay in a thread of its own, because Django's database connections are per thread."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(name=f"rmq_relay {relay.database}")
        self.relay = relay
        self.error: BaseException | None = None
        self.on_failure: Any = None

    def run(self) -> None:
        try:
            self.relay.run()
        except BaseException as error:  # noqa: BLE001 (reported by the command)
            self.error = error
            self.on_failure()
        finally:
            databases.close_all()  # this thread's

    def complaints(self) -> list[str]:
        """Return the problems that the command reports."""
        if self.error is not None and is_table_missing(self.error):
            database = self.relay.database
            text = (
                f"database {database!r} has no table for stored messages, or an old one: run "
                f"manage.py migrate rmq_publisher --database {database}, then start the relay again"
            )
            return [text]
        if isinstance(self.error, DatabaseError | InterfaceError):
            # The driver's own text names host and port, and no row.
            return [f"database {self.relay.database!r}: {self.error}"]
        if self.error is not None:
            raise self.error
        return self.relay.unreachable


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value
