"""``manage.py rmq_publish``: publishes a message from a shell, for trying things out."""

import sys
from argparse import ArgumentTypeError
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from rmq_publisher.conf import loader
from rmq_publisher.exceptions import PublishError
from rmq_publisher.management.base import QuietableCommand, tell_of_memory
from rmq_publisher.publisher.producer import Producer

OPTIONS = ("content_type", "message_id", "correlation_id", "type", "priority", "expiration")


class Command(QuietableCommand):
    """Publishes at once and waits for the broker's answer; stores nothing."""

    help = (
        "Publish a message and wait until the broker has confirmed it. Prints the message id. Exits "
        "with 1 if it was not confirmed; nothing is stored or retried. A body of - is read from "
        "standard input, as bytes."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 (Django's name)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the destination, the body and the most used properties."""
        parser.add_argument(
            "body", nargs="?", default="-", help="The body as text; - or none: standard input."
        )
        parser.add_argument("--queue", default="", metavar="NAME", help="The queue.")
        parser.add_argument("--exchange", default="", metavar="NAME", help="The exchange.")
        parser.add_argument(
            "--routing-key", metavar="KEY", help="Default: the queue's name, or empty."
        )
        parser.add_argument(
            "--header",
            action="append",
            default=[],
            type=_header,
            metavar="NAME=VALUE",
            help="A header with a text value; may be repeated.",
        )
        for name in OPTIONS:
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type={"priority": int, "expiration": float}.get(name, str),
                help=f"The property {name}{' in seconds' if name == 'expiration' else ''}.",
            )
        parser.add_argument("--using", metavar="ALIAS", help="The RabbitMQ connection.")
        parser.add_argument(
            "--repeat", type=int, default=1, metavar="N", help="Publish it N times. Default: 1."
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Publish, and print the id of each message.

        Raises:
            CommandError: bad arguments, or a message was not confirmed.
        """
        repeat: int = options["repeat"]
        if repeat < 1:
            raise CommandError("--repeat must be at least 1.")
        if repeat > 1 and options["message_id"]:
            raise CommandError(
                "--message-id cannot be used with --repeat: each message has its own."
            )
        body = options["body"]
        if body == "-":
            if sys.stdin.isatty():
                self.stderr.write("Reading the body from standard input; Ctrl-D ends it.")
            body = sys.stdin.buffer.read()
        given = {name: options[name] for name in OPTIONS if options[name] is not None}
        if options["header"]:
            given["headers"] = dict(options["header"])
        sent = 0
        try:
            producer = Producer(
                exchange=options["exchange"], queue=options["queue"], using=options["using"]
            )
            for _number in range(repeat):
                message_id = producer.publish(body, routing_key=options["routing_key"], **given)
                sent += 1
                self.stdout.write(message_id)
            alias = loader.alias_for(options["using"])
        except (PublishError, ImproperlyConfigured) as error:
            before = f"{sent} of {repeat} published, then: " if sent else ""
            raise CommandError(f"{before}{type(error).__name__}: {error}") from error
        tell_of_memory(self, [alias], options["verbosity"])


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{name!r} is not a header: write NAME=VALUE")
    return name, value
