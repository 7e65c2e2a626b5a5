"""``manage.py rmq_consume``: runs the handlers of each app's ``consumers.py``."""

from typing import Any

from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.db import router

from rmq_publisher.conf import loader
from rmq_publisher.consumer.dead_letter_work import (
    DeadLettersStuckError,
    add_dead_letters,
    without_table,
)
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.handler_problems import handler_problems, without_inbox
from rmq_publisher.consumer.handler_work import add_handlers
from rmq_publisher.consumer.handlers import registered_handlers
from rmq_publisher.consumer.retry_topology import require
from rmq_publisher.consumer.worker import Worker
from rmq_publisher.management.base import chosen_aliases, tell_of_memory
from rmq_publisher.management.worker_command import WorkerCommand


class Command(WorkerCommand):
    """Runs handlers in threads, and with ``--processes`` in several processes."""

    help = (
        "Handle the messages of queues by the functions that are decorated with @consume in each app's "
        "consumers.py, until SIGTERM or SIGINT. Running handlers then finish; other messages return to "
        "their queues. "
        "With --dead-letters, store what dead-letter queues hold as rows that the admin shows."
    )
    command = "rmq_consume"
    failures = (*WorkerCommand.failures, DeadLettersStuckError)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add options for which handlers run, and when the command ends."""
        parser.add_argument(
            "names", nargs="*", metavar="NAME", help="Names of handlers. Default: all."
        )
        parser.add_argument(
            "--queue",
            action="append",
            metavar="Q",
            help="Only handlers of this queue; may be repeated.",
        )
        parser.add_argument(
            "--dead-letters",
            action="append",
            metavar="Q",
            help="Run no handler: store the messages of this dead-letter queue; may be repeated.",
        )
        parser.add_argument("--using", metavar="A", help="Only this RabbitMQ connection.")
        parser.add_argument(
            "--limit", type=_positive, metavar="N", help="Stop after so many messages."
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="Stop when the queues have been empty for a second.",
        )
        super().add_arguments(parser)

    def check_options(self, options: dict[str, Any]) -> None:
        """Check which handlers are to run, or where dead letters are to be stored."""
        if options["dead_letters"]:
            self._check_dead_letters(options)
        else:
            self._chosen(options)

    def fill(self, worker: Worker, options: dict[str, Any]) -> None:
        """Add each handler's queue to a worker, or the dead-letter queues."""
        if options["dead_letters"]:
            database = self._check_dead_letters(options)
            tell_of_memory(self, [loader.alias_for(options["using"])], options["verbosity"])
            for queue in dict.fromkeys(options["dead_letters"]):
                add_dead_letters(
                    worker, queue, options["using"], database, options["threads"] or 1
                )
            return
        handlers = self._chosen(options)
        missing = [text for handler in handlers if (text := without_inbox(handler))]
        if missing:
            raise CommandError("\n".join(missing))
        aliases = dict.fromkeys(handler.alias for handler in handlers)
        tell_of_memory(self, aliases, options["verbosity"])
        add_handlers(worker, handlers, options["threads"], require)

    def child_arguments(self, options: dict[str, Any]) -> list[str]:
        """Return which handlers a child runs, or which dead-letter queues it empties."""
        using = [] if options["using"] is None else [f"--using={options['using']}"]
        return [
            *options["names"],
            *(f"--queue={queue}" for queue in options["queue"] or ()),
            *(f"--dead-letters={queue}" for queue in options["dead_letters"] or ()),
            *using,
        ]

    def _check_dead_letters(self, options: dict[str, Any]) -> str:
        """Return the alias of the database in which dead letters are stored.

        Raises:
            CommandError: an option is wrong, or the table is missing.
        """
        if options["names"] or options["queue"]:
            raise CommandError("--dead-letters runs no handlers: leave out NAME and --queue.")
        if options["using"] is None and len(loader.aliases()) > 1:
            raise CommandError(
                "--dead-letters: there are several RabbitMQ connections; name one with --using."
            )
        database = router.db_for_write(apps.get_model("rmq_publisher", "DeadLetter"))
        if problem := without_table(database):
            raise CommandError(problem)
        return database

    def _chosen(self, options: dict[str, Any]) -> list[HandlerOptions]:
        """Return the handlers that are to run.

        Raises:
            CommandError: there are none, or they are at odds with each other.
        """
        chosen_aliases(options["using"])
        errors = [str(problem) for problem in handler_problems() if problem.is_error]
        if errors:
            raise CommandError("\n".join(errors))
        handlers = registered_handlers()
        known = {handler.name for handler in handlers}
        if unknown := [name for name in options["names"] if name not in known]:
            raise CommandError(
                f"There is no handler {', '.join(map(repr, unknown))}; there are: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        found = [
            handler
            for handler in handlers
            if (not options["names"] or handler.name in options["names"])
            and (not options["queue"] or handler.queue_name in options["queue"])
            and (options["using"] is None or handler.alias == options["using"])
        ]
        if not found:
            raise CommandError(
                "There is no handler to run: decorate a function with @consume in an app's consumers.py."
                if not handlers
                else "No handler is of that queue and connection."
            )
        return found


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
