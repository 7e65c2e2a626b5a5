"""Django system checks: every problem that can be found without a broker, each with its fix.

The ids are stable; silence one with ``SILENCED_SYSTEM_CHECKS``.

| id | with `--deploy` only | says |
|---|---|---|
| `rmq_publisher.E001` | | a setting or key that does not exist |
| `rmq_publisher.E002` | | a setting of the wrong type or out of range |
| `rmq_publisher.E003` | | `RMQ_URL` is not a valid URL, or its nodes disagree |
| `rmq_publisher.E004` | | `RMQ_TLS` contradicts the URL or itself |
| `rmq_publisher.E005` | | a setting of all connections inside `RMQ_CONNECTIONS` |
| `rmq_publisher.E006` | | `RMQ_OUTBOX_GRACE` or `_LEASE` does not exceed `RMQ_PUBLISH_TIMEOUT` |
| `rmq_publisher.E007` | | `RMQ_SERIALIZER` names no serializer |
| `rmq_publisher.E008` | | the database of the outbox cannot hold it, or a router sends it elsewhere |
| `rmq_publisher.E009` | | an entry of the queues or exchanges is not one |
| `rmq_publisher.E010` | | one queue or exchange declared in two ways |
| `rmq_publisher.E011` | | a queue or exchange of an unknown or unnamed connection |
| `rmq_publisher.E012` | yes | no `RMQ_URL` |
| `rmq_publisher.E013` | | the app is in the schemas of tenants |
| `rmq_publisher.E021` | | two handlers of one name |
| `rmq_publisher.E022` | | two handlers of one queue |
| `rmq_publisher.E023` | | a handler of an unknown or unnamed connection |
| `rmq_publisher.E024` | | a handler of a stream with `max_attempts` other than 1 |
| `rmq_publisher.E025` | | a handler with `once=True` whose database cannot hold the inbox |
| `rmq_publisher.W001` | | no `RMQ_URL` |
| `rmq_publisher.W002` | | a user without a password |
| `rmq_publisher.W003` | | `RMQ_CONFIRM_TIMEOUT` is too short for `RMQ_HEARTBEAT` |
| `rmq_publisher.W004` | | a file named in `RMQ_TLS` does not exist |
| `rmq_publisher.W005` | | dead letters or unroutable messages go to an unknown exchange |
| `rmq_publisher.W006` | yes | the user `guest` or the password `guest` |
| `rmq_publisher.W007` | yes | no TLS to another host |
| `rmq_publisher.W008` | yes | the memory broker |
| `rmq_publisher.W009` | yes | a password inside a URL |
| `rmq_publisher.W010` | | SQLite without `transaction_mode` IMMEDIATE, and stored messages |
| `rmq_publisher.W011` | | a password that ends with a line end |
| `rmq_publisher.W012` | | a database whose transactions may publish, and that has no table for failures |
| `rmq_publisher.W013` | | migrations are not applied (with `check --database`) |
| `rmq_publisher.W014` | | the app is not installed, and `publish` is imported |
| `rmq_publisher.W015` | | an exchange's type keeps messages and returns them |
| `rmq_publisher.W021` | | a handler of a queue that the project does not declare |
| `rmq_publisher.W022` | | a handler whose failed messages cannot wait for another attempt |
"""

import ipaddress
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections as databases

from rmq_publisher import serialization
from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.amqp.routes import RETURNING_TYPES
from rmq_publisher.conf import loader
from rmq_publisher.conf.loader import ConnectionSettings, Problem
from rmq_publisher.conf.schema import DEFAULT_ALIAS, NO_URL
from rmq_publisher.consumer.handler_problems import handler_problems
from rmq_publisher.outbox import table_problems
from rmq_publisher.topology import registry
from rmq_publisher.topology.dependency_order import alternate_exchange, dead_letter_exchange

TAG = "rmq_publisher"
# What a network and a busy broker may add to a heartbeat's half interval.
HEARTBEAT_SLACK = 2.0


def register_checks() -> None:
    """Make the checks known to Django; reads no setting."""
    checks.register(check_settings, TAG)
    checks.register(check_databases, TAG)
    checks.register(check_topology, TAG)
    checks.register(check_handlers, TAG)
    checks.register(check_migrations, TAG, checks.Tags.database)
    checks.register(check_deployment, TAG, deploy=True)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Return the problems in the settings."""
    found = list(loader.problems())
    for settings in loader.usable():
        found += _judged(settings)
    found += _outbox_times()
    stored = [read.alias for read in loader.usable() if read.delivery == "outbox"]
    if stored:
        found += table_problems.outbox_table(loader.place(stored[0], "DELIVERY"))
    return _messages(found)


def check_databases(**_: Any) -> list[checks.CheckMessage]:
    """Return the databases where a message whose publishing failed could not be stored."""
    if not apps.is_installed("rmq_publisher"):
        return []  # W014 reports it
    return _messages(
        problem for alias in databases for problem in table_problems.without_table(alias)
    )


def check_migrations(
    databases: Iterable[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Return the databases that lack tables; runs only with ``check --database``."""
    if sys.argv[1:2] == ["migrate"]:
        return []  # Django runs this check before it applies what is missing
    return _messages(
        problem for alias in databases or () for problem in table_problems.not_migrated(alias)
    )


def check_topology(**_: Any) -> list[checks.CheckMessage]:
    """Return the problems in the declared queues and exchanges."""
    found = registry.problems()
    for alias in loader.aliases() or (DEFAULT_ALIAS,):
        found += _dropping(alias)
        found += _returning(alias)
    return _messages(found)


def check_handlers(**_: Any) -> list[checks.CheckMessage]:
    """Return the problems in the handlers of each app's ``consumers.py``."""
    return _messages(handler_problems())


def _returning(alias: str) -> Iterator[Problem]:
    """Yield exchanges that keep a message and return it: it would be sent again and again."""
    for exchange in registry.exchanges(alias):
        if exchange.type in RETURNING_TYPES:
            yield Problem(
                registry.sources(alias, exchange)[0],
                f"declares {exchange} of type {exchange.type!r}, which keeps a message and returns it "
                "as unroutable all the same",
                "Publish to it with mandatory=False, or each such message counts as failed; then "
                "silence this check.",
                f"{TAG}.W015",
            )


def check_deployment(**_: Any) -> list[checks.CheckMessage]:
    """Return what is acceptable in development but not in production."""
    found = [
        Problem(problem.setting, problem.text, problem.hint, f"{TAG}.E012")
        for problem in loader.problems()
        if problem.id == NO_URL
    ]
    for settings in loader.usable():
        found += _exposed(settings)
    for label in loader.urls_with_password():
        text = "contains a password, which Django's debug page and error emails show"
        hint = "Remove it from the URL and set RMQ_PASSWORD, which they hide."
        found.append(Problem(label, text, hint, f"{TAG}.W009"))
    return _messages(found)


def _messages(problems: Iterable[Problem]) -> list[checks.CheckMessage]:
    """Return each problem once, even if a flat setting applies to several connections."""
    return [
        (checks.Error if problem.is_error else checks.Warning)(
            f"{problem.setting} {problem.text}.", hint=problem.hint, id=problem.id
        )
        for problem in dict.fromkeys(problems)
    ]


def _judged(settings: ConnectionSettings) -> Iterator[Problem]:
    alias = settings.alias
    if settings.serializer is not None and not serialization.is_known(settings.serializer):
        known = ", ".join(serialization.names())
        yield Problem(
            loader.place(alias, "SERIALIZER"),
            f"names the unknown serializer {settings.serializer!r}",
            f"Registered: {known}. Add one with register_serializer() in an AppConfig's ready().",
            f"{TAG}.E007",
        )
    least = settings.heartbeat / 2 + HEARTBEAT_SLACK
    if settings.confirm_timeout <= least and not settings.memory:
        yield Problem(
            loader.place(alias, "CONFIRM_TIMEOUT"),
            f"of {settings.confirm_timeout:g} s may close a healthy connection: an idle broker "
            f"sends only a heartbeat every {settings.heartbeat / 2:g} s",
            f"Raise it above {least:g} s, or lower RMQ_HEARTBEAT.",
            f"{TAG}.W003",
        )
    for key in ("CA_FILE", "CERT_FILE", "KEY_FILE"):
        path = getattr(settings.tls, key.lower())
        if path is not None and not Path(path).is_file():
            yield Problem(
                loader.place(alias, "TLS"),
                f"names a {key} that does not exist: {path}",
                "Connecting will fail without it; correct the path or mount the file.",
                f"{TAG}.W004",
            )


def _outbox_times() -> Iterator[Problem]:
    """Yield a grace or lease that could expire while its holder is still sending the row."""
    timeouts = [settings.publish_timeout for settings in loader.usable()]
    try:
        outbox = loader.outbox()
    except ImproperlyConfigured:
        return  # reported as a problem of the setting
    longest = max(timeouts, default=0)
    for name, value in (
        ("RMQ_OUTBOX_GRACE", outbox.outbox_grace),
        ("RMQ_OUTBOX_LEASE", outbox.outbox_lease),
    ):
        off = value == 0 and name == "RMQ_OUTBOX_GRACE"  # leaves all sending to the relay
        if value <= longest and not off:
            yield Problem(
                name,
                f"of {value:g} s does not exceed RMQ_PUBLISH_TIMEOUT ({longest:g} s), so two "
                "processes could send the same row",
                f"Raise it above {longest:g} s, or lower RMQ_PUBLISH_TIMEOUT.",
                f"{TAG}.E006",
            )


def _dropping(alias: str) -> Iterator[Problem]:
    """Yield queues and exchanges that dead-letter or fall back to an undeclared exchange."""
    declared = {exchange.name for exchange in registry.exchanges(alias)}
    for declaration in registry.declarations(alias):
        config = declaration.config
        if isinstance(config, QueueConfig):
            target, what = dead_letter_exchange(config), "dead letters"
        else:
            target, what = alternate_exchange(config), "unroutable messages"
        if target and target not in declared and not target.startswith("amq."):
            yield Problem(
                declaration.sources[0],
                f"sends the {what} of {config} to exchange {target!r}, which the project does not "
                "declare: if it does not exist, the broker drops them",
                f"Declare ExchangeConfig({target!r}) and bind a queue to it.",
                f"{TAG}.W005",
            )


def _exposed(settings: ConnectionSettings) -> Iterator[Problem]:
    url = loader.place(settings.alias, "URL")
    if settings.memory:
        text = "is memory://, whose messages are lost when the process ends"
        yield Problem(url, text, "Set the URL of a RabbitMQ broker.", f"{TAG}.W008")
        return
    if "guest" in (settings.username, settings.password):
        yield Problem(
            url,
            "logs in with guest, RabbitMQ's well-known default",
            "Create a user with the least privileges it needs, and set RMQ_USERNAME and RMQ_PASSWORD.",
            f"{TAG}.W006",
        )
    open_to_all = [node for node in settings.nodes if not node.tls and not _is_here(node.host)]
    if open_to_all:
        yield Problem(
            url,
            f"connects to {', '.join(map(str, open_to_all))} without TLS: anyone on the network can "
            "read the password and the messages",
            "Use amqps://.",
            f"{TAG}.W007",
        )


def _is_here(host: str) -> bool:
    """Tell from its name whether a host is this machine, without a DNS lookup."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # any other host name
