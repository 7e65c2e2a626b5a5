"""What the commands share that look at one RabbitMQ connection after the other."""

import json
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rmq_publisher.conf import loader
from rmq_publisher.exceptions import BrokerUnavailable, InvalidMessage
from rmq_publisher.topology import registry


def chosen_aliases(using: str | None) -> tuple[str, ...]:
    """Return the alias named, or all of them.

    Raises:
        CommandError: there is no such alias, or something is wrong in the settings or topology.
    """
    problems = (*loader.problems(), *registry.problems())
    errors = [str(problem) for problem in problems if problem.is_error]
    if errors:
        raise CommandError("\n".join(errors))
    try:
        aliases = loader.aliases() if using is None else (loader.alias_for(using),)
        for alias in aliases or (loader.alias_for(None),):
            loader.connection(alias)
    except (ImproperlyConfigured, InvalidMessage) as error:
        raise CommandError(str(error)) from error
    return aliases


class ConnectionsCommand(BaseCommand):
    """Takes ``--using`` and ``--json``; a connection that fails does not keep others from it."""

    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's name); ours are judged below

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what all of these commands take."""
        parser.add_argument(
            "--using", metavar="ALIAS", help="One RabbitMQ connection; all of them when left out."
        )
        parser.add_argument(
            "--json", action="store_true", help="Write one JSON document instead of lines."
        )

    def examine(self, alias: str, found: dict[str, Any], **options: Any) -> str:
        """Look at one connection, showing lines by `line`.

        Args:
            alias: of the connection.
            found: the JSON object of this connection, to be filled in.
            options: those of the command.

        Returns:
            What is wrong, in a sentence; empty where nothing is.

        Raises:
            BrokerUnavailable: it cannot be reached.
        """
        raise NotImplementedError

    def line(self, text: str) -> None:
        """Show a line, unless a JSON document is wanted."""
        if not self._json:
            self.stdout.write(text)

    def handle(self, *_: Any, **options: Any) -> None:
        """Examine each connection.

        Raises:
            CommandError: something is wrong; what was found stands on standard output.
        """
        self._json: bool = options["json"]
        documents, complaints = [], []
        for alias in chosen_aliases(options["using"]):
            nodes = ", ".join(map(str, loader.connection(alias).nodes)) or "memory"
            where = f"RabbitMQ connection {alias!r} ({nodes})"
            self.line(where)
            found: dict[str, Any] = {"alias": alias, "nodes": nodes.split(", "), "error": None}
            documents.append(found)
            try:
                complaint = self.examine(alias, found, **options)
            except BrokerUnavailable as error:
                complaint = found["error"] = str(error)
            if complaint:
                complaints.append(f"{where}: {complaint}")
        if self._json:
            self.stdout.write(json.dumps({"ok": not complaints, "connections": documents}))
        if complaints:
            raise CommandError("\n".join(complaints))
