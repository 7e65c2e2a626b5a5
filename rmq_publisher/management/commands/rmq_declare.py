"""``manage.py rmq_declare``: declares the project's exchanges, queues and bindings."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from rmq_publisher.management.base import ConnectionsCommand
from rmq_publisher.topology import declare
from rmq_publisher.topology.declare import Row


class Command(ConnectionsCommand):
    """Shows a row for each thing; one that fails does not keep the rest from being declared."""

    help = (
        "Declare the exchanges, queues and bindings of RMQ_EXCHANGES, RMQ_QUEUES and each app's "
        "queues.py. Again and again it leads to the same. Exits 1 if anything failed or differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ``--dry-run`` or ``--check`` besides."""
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument(
            "--dry-run", action="store_true", help="Say what would be declared; do not connect."
        )
        mode.add_argument(
            "--check",
            action="store_true",
            help="Change nothing; exit 1 on what is missing or differs. Bindings are not checked.",
        )
        super().add_arguments(parser)

    def examine(self, alias: str, found: dict[str, Any], **options: Any) -> str:
        """Declare, plan or compare, and show a row for each thing.

        Raises:
            BrokerUnavailable: the broker cannot be reached.
            CommandError: both of two options that exclude each other (by ``call_command``).
        """
        if options["dry_run"] and options["check"]:
            raise CommandError("--dry-run and --check exclude each other.")
        work = declare.declare
        if options["dry_run"]:
            work = declare.plan
        elif options["check"]:
            work = declare.compare
        rows: list[dict[str, Any]] = []
        found["rows"] = rows
        states: Counter[str] = Counter()
        for row in work(alias):
            rows.append(asdict(row))
            states[row.state] += row.is_bad
            self._show(row)
        if not rows:
            self.line("  nothing is declared for it: see RMQ_QUEUES and each app's queues.py")
        bad = [f"{count} {state}" for state, count in states.items() if count]
        return f"of {len(rows)}: {', '.join(bad)}" if bad else ""

    def _show(self, row: Row) -> None:
        style = self.style.ERROR if row.is_bad else self.style.SUCCESS
        detail = f": {row.detail}" if row.detail else ""
        by = f" ({', '.join(row.sources)})" if row.sources else ""
        self.line(f"  {style(f'{row.state:<14}')} {row.name}{by}{detail}")
