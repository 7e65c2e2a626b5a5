"""Reads the settings into frozen values. Problems are collected, not raised: the checks show them all."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from rmq_publisher.amqp.validation import plain
from rmq_publisher.conf import validators
from rmq_publisher.conf.broker_url import Broker
from rmq_publisher.conf.schema import (
    CELERY,
    DEFAULT_ALIAS,
    GLOBAL,
    NO_URL,
    OF_CONNECTIONS,
    OUTBOX,
    PREFIX,
    TUNING,
    CelerySettings,
    ConnectionSettings,
    OutboxSettings,
    Problem,
    Table,
    TLSSettings,
)
from rmq_publisher.conf.validators import SettingError

BAD_TLS = "rmq_publisher.E004"
MISPLACED = "rmq_publisher.E005"
NO_PASSWORD = "rmq_publisher.W002"  # noqa: S105
LINE_END = "rmq_publisher.W011"

SET_URL = (
    'Set RMQ_URL to "amqp://user@host:5672/vhost" (and RMQ_PASSWORD), or to "memory://" for '
    "development and tests."
)
_CONNECTIONS_EXAMPLE = (
    'Write RMQ_CONNECTIONS = {"name": {"URL": "amqp://...", "HEARTBEAT": 10}}, with the names of '
    "the settings without RMQ_."
)

Found: TypeAlias = Mapping[str, tuple[str, Any]]  # name without prefix: its place, its value


class Reading:
    """All settings, read and validated once.

    Args:
        raw: the settings whose names begin with ``RMQ_``; None means "not set".

    Attributes:
        connections: by alias; an unusable connection is represented by its first problem.
        outbox: the settings of the table, or their first problem.
        celery: the settings of tasks for Celery, or their first problem.
        queues: the items of ``RMQ_QUEUES``, not validated.
        exchanges: the items of ``RMQ_EXCHANGES``, not validated.
        places: the place where each setting of a connection is given, by alias and name.
        urls_with_password: the places of URLs that contain a password.
    """

    def __init__(self, raw: Mapping[str, object]) -> None:
        self._problems: dict[Problem, None] = {}
        self.connections: dict[str, ConnectionSettings | Problem] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.urls_with_password: dict[str, None] = {}
        unknown = self._unknown(raw)
        for_all, bad = self._take(_flat(raw, GLOBAL), GLOBAL)
        self.queues: tuple[object, ...] = for_all["QUEUES"]
        self.exchanges: tuple[object, ...] = for_all["EXCHANGES"]
        self.outbox: OutboxSettings | Problem = _first(OUTBOX, bad) or OutboxSettings(
            **{name.lower(): for_all[name] for name in OUTBOX}
        )
        self.celery: CelerySettings | Problem = _first(CELERY, bad) or CelerySettings(
            **{name.lower(): for_all[name] for name in CELERY}
        )
        flat = _flat(raw, OF_CONNECTIONS)
        # Validated even if no connection uses them, so that a build without RMQ_URL reports mistakes.
        self._take(flat, OF_CONNECTIONS)
        named = dict(self._named(for_all["CONNECTIONS"]))
        if "URL" in flat:
            named = {DEFAULT_ALIAS: {}, **named}
        for alias, own in named.items():
            read = self._connection(alias, {**flat, **own})
            self.connections[alias] = unknown or read
        if not named:
            self._note(Problem("RMQ_URL", "is not set", SET_URL, NO_URL))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, in the order found."""
        return tuple(self._problems)

    def _note(self, problem: Problem) -> Problem:
        self._problems[problem] = None
        return problem

    def _unknown(self, raw: Mapping[str, object]) -> Problem | None:
        """Note every setting with our prefix that does not exist; return the first one."""
        known = [PREFIX + name for name in (*OF_CONNECTIONS, *GLOBAL)]
        found = [
            self._note(Problem(name, "is not a setting", _hint(name, known), validators.UNKNOWN))
            for name in raw
            if name not in known
        ]
        return found[0] if found else None

    def _named(self, connections: Mapping[Any, Any]) -> Iterator[tuple[str, Found]]:
        """Yield the settings of each alias in RMQ_CONNECTIONS, including unknown keys."""
        for alias, own in connections.items():
            alias = plain(alias)  # noqa: PLW2901
            label = f"RMQ_CONNECTIONS[{alias!r}]"
            if isinstance(alias, str) and alias and isinstance(own, Mapping):
                given = {key: value for key, value in own.items() if _is_set(key, value)}
                yield alias, {key: (f"{label}[{key!r}]", given[key]) for key in given}
            else:
                text = "must be a name with a dict of settings"
                self._note(Problem(label, text, _CONNECTIONS_EXAMPLE, validators.WRONG_VALUE))

    def _take(self, found: Found, table: Table) -> tuple[dict[str, Any], dict[str, Problem]]:
        """Return the values (the default of what is not set) and the problems, both by name."""
        taken = {name: default for name, (default, _) in table.items()}
        bad = {}
        for name, (label, value) in found.items():
            try:
                if name not in table:
                    raise _misplaced(name)
                taken[name] = table[name][1](value)
            except SettingError as error:
                bad[name] = self._note(Problem(label, error.text, error.hint, error.id))
        return taken, bad

    def _connection(self, alias: str, found: Found) -> ConnectionSettings | Problem:
        self.places.update({(alias, name): label for name, (label, _) in found.items()})
        taken, bad = self._take(found, OF_CONNECTIONS)
        if bad:
            return next(iter(bad.values()))
        broker: Broker | None = taken["URL"]
        if broker is None:
            label = f"RMQ_CONNECTIONS[{alias!r}]['URL']"
            return self._note(Problem(label, "is not set, nor is RMQ_URL", SET_URL, NO_URL))
        url_label = found["URL"][0]
        if broker.password is not None:
            self.urls_with_password[url_label] = None
        if contradiction := _tls_contradiction(broker, taken["TLS"]):
            return self._note(Problem(found["TLS"][0], *contradiction, BAD_TLS))
        username, password = _login(broker, taken["USERNAME"], taken["PASSWORD"])
        if not password and broker.nodes:
            # Not an error: a build may know the URL but not the password.
            text, hint = "has a user but no password", "Set RMQ_PASSWORD."
            self._note(Problem(url_label, text, hint, NO_PASSWORD))
        if password.endswith(("\n", "\r")):
            label = found["PASSWORD"][0] if "PASSWORD" in found else url_label
            text = "has a password that ends with a line end, as if read from a file unstripped"
            self._note(Problem(label, text, "Strip it: open(path).read().strip().", LINE_END))
        return ConnectionSettings(
            alias=alias,
            nodes=broker.nodes,
            memory=broker.scheme == "memory",
            username=username,
            password=password,
            tls=TLSSettings(**{key.lower(): path for key, path in taken["TLS"].items()}),
            **{name.lower(): taken[name] for name in TUNING},
        )


def _first(table: Table, bad: Mapping[str, Problem]) -> Problem | None:
    return next((bad[name] for name in table if name in bad), None)


def _is_set(name: object, value: object) -> bool:
    """Return whether a value counts as set: None does not, nor does an empty URL.

    Many projects write ``env("RMQ_URL", default="")``.
    """
    return value is not None and not (name == "URL" and value in ("", [], ()))


def _flat(raw: Mapping[str, object], table: Table) -> Found:
    found = {name: raw.get(PREFIX + name) for name in table}
    return {n: (PREFIX + n, value) for n, value in found.items() if _is_set(n, value)}


def _login(broker: Broker, username: str | None, password: str | None) -> tuple[str, str]:
    """Return username and password: settings override the URL, and guest is the default."""
    username = username or broker.username or "guest"
    if password is None:
        password = broker.password
    if password is None:
        password = "guest" if username == "guest" else ""
    return username, password


def _tls_contradiction(broker: Broker, tls: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the mistake and its fix. The memory broker accepts any, so that tests can set RMQ_TLS."""
    if broker.scheme == "amqp" and tls:
        return "is set, but the URL is amqp://, without TLS", "Write amqps://, or drop RMQ_TLS."
    if "KEY_PASSWORD" in tls and "CERT_FILE" not in tls:
        return "has a KEY_PASSWORD without CERT_FILE", "Set CERT_FILE and KEY_FILE too."
    if "KEY_FILE" in tls and "CERT_FILE" not in tls:
        return "has a KEY_FILE without CERT_FILE", "Set both, or CERT_FILE with both inside."
    return None


def _hint(name: str, known: list[str]) -> str:
    if name.removeprefix(PREFIX) in ("HOST", "PORT", "VHOST", "VIRTUAL_HOST"):
        return "It is a part of RMQ_URL: amqp://user@host:5672/vhost."
    return validators.suggestion(name, known)


def _misplaced(name: object) -> SettingError:
    """Return the error for a key of RMQ_CONNECTIONS that is not a setting of a connection."""
    bare = str(name).removeprefix(PREFIX)
    if bare in GLOBAL:
        hint = f"Move it out: {PREFIX}{bare} is a setting for all connections."
        return SettingError("is not a setting of one connection", hint, MISPLACED)
    if bare != name and bare in OF_CONNECTIONS:
        hint = f"Write {bare!r}: keys of RMQ_CONNECTIONS are written without {PREFIX}."
        return SettingError("has the prefix of the flat settings", hint, validators.UNKNOWN)
    return SettingError(
        "is not a setting", _hint(str(name), [*OF_CONNECTIONS]), validators.UNKNOWN
    )
