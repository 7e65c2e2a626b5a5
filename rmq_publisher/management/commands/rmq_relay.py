"""``manage.py rmq_relay``: sends what is stored."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.management.base import chosen_aliases
from rmq_publisher.outbox.relay import Relay

ENDS = (signal.SIGTERM, signal.SIGINT)
LOOK_SECONDS = 0.5


class Command(BaseCommand):
    """One thread for each database."""

    help = (
        "Send the stored messages that are due, until SIGTERM or SIGINT. Any number of these may run. "
        "With --once: until nothing is due; exits 1 if a broker or database could not be reached."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's name); ours are judged below

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what the module's docstring of `relay` explains."""
        parser.add_argument(
            "--once", action="store_true", help="End as soon as nothing is due, for cron."
        )
        parser.add_argument(
            "--database",
            action="append",
            choices=tuple(databases),
            metavar="ALIAS",
            help="A database with stored messages; may be given several times. Default: default.",
        )
        parser.add_argument(
            "--poll-interval",
            type=_seconds,
            default=1.0,
            metavar="S",
            help="Seconds between looks at the table while nothing is due. Default: 1.",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run until told to end.

        Raises:
            CommandError: with ``--once``, something could not be reached; else a relay failed.
        """
        chosen_aliases(None)
        aliases = dict.fromkeys(options["database"] or [DEFAULT_DB_ALIAS])
        runs = [
            _Run(Relay(alias, once=options["once"], poll_interval=options["poll_interval"]))
            for alias in aliases
        ]

        def stop(*_: object) -> None:
            for run in runs:
                run.relay.stop()

        def end(*_: object) -> None:
            stop()
            # A second one ends it at once, as a kill does: a database that hangs has no deadline.
            for number in ENDS:
                signal.signal(number, signal.SIG_DFL)

        before = {number: signal.signal(number, end) for number in ENDS}
        try:
            for run in runs:
                run.on_failure = stop
                run.start()
            for run in runs:
                # Handlers run in this thread only, and a signal that the kernel gives to another one
                # does not end a join.
                while run.is_alive():
                    run.join(LOOK_SECONDS)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        complaints = [complaint for run in runs for complaint in run.complaints()]
        if complaints:
            raise CommandError("\n".join(complaints))


class _Run(threading.Thread):
    """A relay on a thread of its own; Django's connections are those of a thread."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(name=f"rmq_relay {relay.database}")
        self.relay = relay
        self.error: Exception | None = None
        self.on_failure: Any = None

    def run(self) -> None:
        try:
            self.relay.run()
        except Exception as error:  # noqa: BLE001 (told by the command, whatever it was)
            self.error = error
            self.on_failure()

    def complaints(self) -> list[str]:
        """Return what the command is to complain of."""
        if isinstance(self.error, DatabaseError | InterfaceError):
            # In the driver's words: they name host and port, and no row.
            return [f"database {self.relay.database!r}: {self.error}"]
        if self.error is not None:
            raise self.error
        return self.relay.unreachable


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value
