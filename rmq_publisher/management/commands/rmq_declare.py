"""``manage.py rmq_declare``: declares the project's exchanges, queues and bindings."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from rmq_publisher.conf import loader
from rmq_publisher.consumer import old_levels
from rmq_publisher.management.base import ConnectionsCommand, retry_queues
from rmq_publisher.topology import declare
from rmq_publisher.topology.declare import Row


class Command(ConnectionsCommand):
    """Prints a row for each declaration; one failure does not stop the rest."""

    help = (
        "Declare the exchanges, queues and bindings of RMQ_EXCHANGES, RMQ_QUEUES and each app's "
        "queues.py, and the retry queues that each app's consumers.py needs. Safe to run repeatedly. "
        "Exits with 1 if anything failed or differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--dry-run`` and ``--check``."""
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument(
            "--dry-run",
            action="store_true",
            help="Show what would be declared, without connecting.",
        )
        mode.add_argument(
            "--check",
            action="store_true",
            help="Change nothing; exit with 1 if anything is missing or differs. Ignores bindings.",
        )
        parser.add_argument(
            "--strict",
            action="store_true",
            help="With --check: exit with 1 also if a queue or exchange could not be compared.",
        )
        super().add_arguments(parser)

    def examine(self, alias: str, found: dict[str, Any], **options: Any) -> str:
        """Declare, plan or compare, and print a row for each declaration.

        Raises:
            BrokerUnavailable: the broker cannot be reached.
            CommandError: options that cannot be used together.
        """
        if options["strict"] and not options["check"]:
            raise CommandError("--strict needs --check.")
        if options["dry_run"] and options["check"]:
            raise CommandError("--dry-run and --check cannot be used together.")
        work = declare.declare
        if options["dry_run"]:
            work = declare.plan
        elif options["check"]:
            work = declare.compare
        rows: list[dict[str, Any]] = []
        found["rows"] = rows
        states: Counter[str] = Counter()
        retries = retry_queues(alias)
        for row in work(alias, retries):
            rows.append(asdict(row))
            states[row.state] += row.is_bad or (
                options["strict"] and row.state == declare.NOT_COMPARABLE
            )
            self._show(row)
        if work is declare.declare and retries and not loader.connection(alias).memory:
            self._note(alias, [one.config.name for one in retries])
        if not rows:
            self.line("  nothing to declare: see RMQ_QUEUES and each app's queues.py")
        if loader.connection(alias).memory and rows:
            self.line(
                "  memory:// exists in each process separately, and each declares this on first use: "
                "nothing outside this command was changed"
            )
        self._tell_what_was_not_compared(rows)
        bad = [f"{count} {state}" for state, count in states.items() if count]
        return f"{', '.join(bad)} (of {len(rows)})" if bad else ""

    def _note(self, alias: str, names: list[str]) -> None:
        """Remember the retry queues, so that rmq_check finds them once no handler needs them."""
        try:
            old_levels.note(alias, names)
        except old_levels.UNUSABLE as error:
            self.line(
                f"  {self.style.WARNING('retry queues not noted')}: {type(error).__name__} of the "
                "database; rmq_check will not find them once no handler needs them"
            )

    def _tell_what_was_not_compared(self, rows: list[dict[str, Any]]) -> None:
        number = sum(row["state"] == declare.NOT_COMPARABLE for row in rows)
        if number:
            self.line(
                f"  {self.style.WARNING(f'{number} not compared')}: this user may not declare them; "
                "what they are is unknown (with --strict that is a failure)"
            )

    def _show(self, row: Row) -> None:
        style = self.style.ERROR if row.is_bad else self.style.SUCCESS
        detail = f": {row.detail}" if row.detail else ""
        by = f" ({', '.join(row.sources)})" if row.sources else ""
        self.line(f"  {style(f'{row.state:<14}')} {row.name}{by}{detail}")
