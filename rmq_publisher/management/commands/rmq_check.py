"""``manage.py rmq_check``: connects to RabbitMQ and reports its state."""

from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.consumer import old_levels
from rmq_publisher.management.base import ConnectionsCommand, retry_queues
from rmq_publisher.outbox import heartbeats, scheduled
from rmq_publisher.topology import declare
from rmq_publisher.topology.declare import Report


class Command(ConnectionsCommand):
    """Probes publishing with a message that cannot be routed, so no queue receives anything."""

    help = (
        "Connect to RabbitMQ and report node, version, TLS, missing queues and exchanges, and "
        "whether publishing is allowed. Exits with 1 if there is a problem. The probe is published "
        "to the default exchange, which needs write permission on amq.default."
    )

    def examine(self, alias: str, found: dict[str, Any], **_: Any) -> str:
        """Inspect the connection, probe publishing, and print the result.

        Raises:
            BrokerUnavailable: the broker cannot be reached.
        """
        retries = retry_queues(alias)
        report = declare.inspect(alias, retries)
        found.update(asdict(report))
        self._show(report)
        found["old_retry_queues"] = self._old_levels(alias, {one.config.name for one in retries})
        complaints = [
            f"{row.name} differs" if row.state == declare.DIFFERS else f"{row.name} is {row.state}"
            for row in report.missing
        ]
        if report.publishing != declare.ALLOWED:
            complaints.append(f"publishing is {report.publishing}")
        return "; ".join(complaints)

    def _old_levels(self, alias: str, needed: set[str]) -> list[dict[str, Any]]:
        """Show the retry queues that no handler needs any more; they are no problem."""
        if loader.connection(alias).memory:
            return []
        try:
            found = old_levels.old_levels(alias, needed)
        except old_levels.UNUSABLE:
            return []  # nothing was noted there
        for old in found:
            state = f"{old.messages} message(s) still wait in it" if old.messages else "empty"
            advice = "" if old.messages else ": nothing needs it, delete it"
            self.line(f"  old retries {old.name!r}: {state}{advice}")
        return [old._asdict() for old in found]

    def examine_databases(self) -> list[str]:
        """Return where scheduled messages are due and no relay sends them."""
        complaints = []
        for database in databases:
            try:
                waiting = scheduled.overdue(database, heartbeats.ALIVE_SECONDS)
                seen = heartbeats.last_seen(database) if waiting else 0.0
            except (DatabaseError, ImproperlyConfigured):
                continue  # not every database has the table
            if seen is None or seen > heartbeats.ALIVE_SECONDS:
                complaints.append(
                    f"database {database!r}: {waiting} scheduled message(s) have been due for a minute "
                    "and no relay was seen: start manage.py rmq_relay"
                )
        return complaints

    def _show(self, report: Report) -> None:
        self.line(f"  node        {report.node or 'memory'}, vhost {report.vhost!r}")
        self.line(f"  broker      {report.product or 'unknown'}")
        self.line(f"  TLS         {'yes' if report.tls else 'no'}")
        good = self.style.SUCCESS("nothing")
        for row in report.missing:
            self.line(f"  {self.style.ERROR(row.state):<11} {row.name}: {row.detail}")
        if not report.missing:
            self.line(f"  missing     {good}")
        allowed = report.publishing == declare.ALLOWED
        style = self.style.SUCCESS if allowed else self.style.ERROR
        detail = f": {report.detail}" if report.detail else ""
        self.line(f"  publishing  {style(report.publishing)}{detail}")
