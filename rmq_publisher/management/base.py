"""The bases of the commands: silent with ``--verbosity 0``; one RabbitMQ connection after the other."""

import json
from collections.abc import Iterable
from io import StringIO
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rmq_publisher.conf import loader
from rmq_publisher.consumer import retry_topology
from rmq_publisher.exceptions import BrokerUnavailable, InvalidMessage
from rmq_publisher.topology import registry
from rmq_publisher.topology.registry import Declaration


def chosen_aliases(using: str | None) -> tuple[str, ...]:
    """Return the given alias, or all aliases for None.

    Raises:
        CommandError: the alias is unknown, or the settings or declarations contain errors.
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


def retry_queues(alias: str) -> tuple[Declaration, ...]:
    """Return the retry queues that the handlers of a connection need.

    Raises:
        CommandError: a handler's connection is not known.
    """
    try:
        return retry_topology.declarations(alias)
    except (ImproperlyConfigured, InvalidMessage) as error:
        raise CommandError(str(error)) from error


class QuietableCommand(BaseCommand):
    """Prints nothing with ``--verbosity 0``: the exit code and errors tell what happened."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command."""
        if options.get("verbosity") == 0:
            options["stdout"] = StringIO()
        return super().execute(*args, **options)


def tell_of_memory(command: BaseCommand, aliases: Iterable[str], verbosity: int) -> None:
    """Say on standard error, apart from what scripts read, that nobody else sees a memory broker."""
    found = [alias for alias in aliases if loader.connection(alias).memory]
    if verbosity and found:
        command.stderr.write(
            f"RabbitMQ connection {', '.join(map(repr, found))}: memory:// lives inside each process. "
            "What this command sends ends with it, and it receives nothing from others."
        )


class ConnectionsCommand(QuietableCommand):
    """Adds ``--using`` and ``--json``; one failed connection does not stop the others."""

    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's name); ours are judged below

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options that these commands share."""
        parser.add_argument(
            "--using", metavar="ALIAS", help="One RabbitMQ connection. Default: all of them."
        )
        parser.add_argument(
            "--json", action="store_true", help="Write one JSON document instead of text."
        )

    def examine(self, alias: str, found: dict[str, Any], **options: Any) -> str:
        """Examine one connection, printing with `line`.

        Args:
            alias: the connection's alias.
            found: the connection's JSON object, to be filled in.
            options: the command's options.

        Returns:
            The problem in one sentence, or an empty string.

        Raises:
            BrokerUnavailable: the broker cannot be reached.
        """
        raise NotImplementedError

    def examine_databases(self) -> list[str]:
        """Return the problems of databases, each in one sentence."""
        return []

    def line(self, text: str) -> None:
        """Print a line, unless ``--json`` was given."""
        if not self._json:
            self.stdout.write(text)

    def handle(self, *_: Any, **options: Any) -> None:
        """Examine each connection.

        Raises:
            CommandError: a connection has a problem; the results are on standard output.
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
                complaint = found["error"] = error.reason
            if complaint:
                complaints.append(f"{where}: {complaint}")
        complaints += self.examine_databases()
        if self._json:
            self.stdout.write(json.dumps({"ok": not complaints, "connections": documents}))
        if complaints:
            raise CommandError("\n".join(complaints))
