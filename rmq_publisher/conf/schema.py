"""What the settings mean: the table of them, and the frozen values read from it.

Pure: `conf` brings the raw settings. Problems are collected, not raised, so that all can be shown.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from rmq_publisher.conf import broker_url, validators
from rmq_publisher.conf.broker_url import Broker, Node
from rmq_publisher.conf.validators import SettingError

PREFIX = "RMQ_"
DEFAULT_ALIAS = "default"

BAD_TLS = "rmq_publisher.E004"
MISPLACED = "rmq_publisher.E005"
NO_URL = "rmq_publisher.W001"
NO_PASSWORD = "rmq_publisher.W002"  # noqa: S105

SET_URL = (
    'Set RMQ_URL to "amqp://user@host:5672/vhost" (and RMQ_PASSWORD), or to "memory://" for '
    "development and tests."
)
_CONNECTIONS_EXAMPLE = (
    'Write RMQ_CONNECTIONS = {"name": {"URL": "amqp://...", "HEARTBEAT": 10}}, with the names of '
    "the settings without RMQ_."
)


@dataclass(frozen=True)
class Problem:
    """Something wrong in the settings or in the topology that they name.

    Attributes:
        setting: where: a setting, a key of one, or a module.
        text: what is wrong; it continues a sentence that begins with ``setting``.
        hint: the mend.
        id: of the system check that reports it.
    """

    setting: str
    text: str
    hint: str
    id: str

    def __str__(self) -> str:
        return f"{self.setting} {self.text}. {self.hint}"

    @property
    def is_error(self) -> bool:
        """Whether it keeps the app from working, as against a warning."""
        return ".E" in self.id


@dataclass(frozen=True)
class TLSSettings:
    """Files and the name for TLS; without ``ca_file`` the system's authorities are trusted.

    Attributes:
        server_hostname: name expected in the certificate, where it is not the host of the URL.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_hostname: str | None = None


@dataclass(frozen=True)
class ConnectionSettings:
    """The settings of one RabbitMQ connection; times in seconds, sizes in bytes.

    Equality leaves out what needs no other connection, so that a change of it keeps the live one.

    Attributes:
        nodes: in the order given; none for the memory broker.
    """

    alias: str
    nodes: tuple[Node, ...]
    memory: bool
    username: str
    password: str = field(repr=False)
    tls: TLSSettings
    heartbeat: int
    connect_timeout: float
    confirm_timeout: float
    max_in_flight: int
    publish_timeout: float = field(compare=False)
    max_body_size: int = field(compare=False)
    delivery: str = field(compare=False)
    serializer: str | None = field(compare=False)
    app_id: str | None = field(compare=False)


@dataclass(frozen=True)
class OutboxSettings:
    """The settings of the table of stored messages; times in seconds."""

    max_attempts: int
    retry_max_backoff: float
    failure_retention_days: int
    outbox_batch_size: int
    outbox_lease: float
    outbox_grace: float


@dataclass(frozen=True)
class CelerySettings:
    """How tasks are sent to Celery workers; None where nothing is set.

    Attributes:
        celery_using: RabbitMQ alias.
        celery_delivery: as ``RMQ_DELIVERY``, which counts where it is None.
        celery_schedule: who holds a task until its time: ``"table"``, ``"worker"`` or ``"broker"``.
    """

    celery_using: str | None
    celery_delivery: str | None
    celery_schedule: str | None


Rule: TypeAlias = Callable[[object], Any]
Table: TypeAlias = Mapping[str, tuple[Any, Rule]]  # name without prefix: default, rule
Found: TypeAlias = Mapping[str, tuple[str, Any]]  # name without prefix: where it stands, its value

Delivery: TypeAlias = Literal["on_commit", "outbox", "now"]
DELIVERIES = get_args(Delivery)
SCHEDULES = ("table", "worker", "broker")
TLS_KEYS = ("CA_FILE", "CERT_FILE", "KEY_FILE", "SERVER_HOSTNAME")
LOGIN: Table = {
    "URL": (None, broker_url.parse),
    "USERNAME": (None, validators.username),
    "PASSWORD": (None, validators.secret),
    "TLS": ({}, validators.paths(*TLS_KEYS)),
}
TUNING: Table = {
    "HEARTBEAT": (10, validators.integer(1, 65535)),
    "CONNECT_TIMEOUT": (3.0, validators.seconds()),
    "PUBLISH_TIMEOUT": (5.0, validators.seconds()),
    "CONFIRM_TIMEOUT": (10.0, validators.seconds()),
    "MAX_IN_FLIGHT": (64, validators.integer(1, 65535)),
    "MAX_BODY_SIZE": (
        16 * 2**20,
        validators.integer(1, 2**29),
    ),  # no broker takes more than 512 MiB
    "DELIVERY": (DELIVERIES[0], validators.choice(*DELIVERIES)),
    "SERIALIZER": (None, validators.name),
    "APP_ID": (None, validators.name),
}
OF_CONNECTIONS: Table = {**LOGIN, **TUNING}
OUTBOX: Table = {
    "MAX_ATTEMPTS": (20, validators.integer(1, 2**31 - 1)),
    "RETRY_MAX_BACKOFF": (300.0, validators.seconds()),
    "FAILURE_RETENTION_DAYS": (30, validators.integer(1, 36500)),
    "OUTBOX_BATCH_SIZE": (256, validators.integer(1, 100_000)),
    "OUTBOX_LEASE": (60.0, validators.seconds()),
    "OUTBOX_GRACE": (30.0, validators.seconds(zero=True)),
}
CELERY: Table = {
    "CELERY_USING": (None, validators.name),
    "CELERY_DELIVERY": (None, validators.choice(*DELIVERIES)),
    "CELERY_SCHEDULE": (None, validators.choice(*SCHEDULES)),
}
TOPOLOGY: Table = {"EXCHANGES": ((), validators.items), "QUEUES": ((), validators.items)}
GLOBAL: Table = {"CONNECTIONS": ({}, validators.mapping), **TOPOLOGY, **OUTBOX, **CELERY}


class Reading:
    """One reading of all the settings.

    Args:
        raw: the settings whose names begin with ``RMQ_``; None stands for "not set".

    Attributes:
        connections: by alias; where it is unusable, the first problem that makes it so.
        outbox: the settings of the table, or their first problem.
        celery: the settings of tasks for Celery, or their first problem.
        queues: the items of ``RMQ_QUEUES``, not judged.
        exchanges: the items of ``RMQ_EXCHANGES``, not judged.
        places: where a setting of a connection stands, by alias and name.
        urls_with_password: where the URLs stand that hold one.
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
        # Judged also where no connection uses them, so that a build without RMQ_URL shows them.
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
        """All of them, in the order found."""
        return tuple(self._problems)

    def _note(self, problem: Problem) -> Problem:
        self._problems[problem] = None
        return problem

    def _unknown(self, raw: Mapping[str, object]) -> Problem | None:
        """Note the settings that bear our prefix and are not ours; return the first."""
        known = [PREFIX + name for name in (*OF_CONNECTIONS, *GLOBAL)]
        found = [
            self._note(Problem(name, "is not a setting", _mend(name, known), validators.UNKNOWN))
            for name in raw
            if name not in known
        ]
        return found[0] if found else None

    def _named(self, connections: Mapping[Any, Any]) -> Iterator[tuple[str, Found]]:
        """Yield what RMQ_CONNECTIONS says of each alias, unknown keys too."""
        for alias, own in connections.items():
            label = f"RMQ_CONNECTIONS[{alias!r}]"
            if isinstance(alias, str) and alias and isinstance(own, Mapping):
                given = {key: value for key, value in own.items() if _is_set(key, value)}
                yield alias, {key: (f"{label}[{key!r}]", given[key]) for key in given}
            else:
                text = "must be a name with a dict of settings"
                self._note(Problem(label, text, _CONNECTIONS_EXAMPLE, validators.WRONG_VALUE))

    def _take(self, found: Found, table: Table) -> tuple[dict[str, Any], dict[str, Problem]]:
        """Return by name the values (defaults where none is found) and the problems."""
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
            # No error: a build may know the URL and not the password.
            text, hint = "names a user without a password", "Set RMQ_PASSWORD."
            self._note(Problem(url_label, text, hint, NO_PASSWORD))
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
    """Tell whether a value says something: None does not, nor an empty URL.

    ``env("RMQ_URL", default="")`` is how settings commonly say that there is none.
    """
    return value is not None and not (name == "URL" and value in ("", [], ()))


def _flat(raw: Mapping[str, object], table: Table) -> Found:
    found = {name: raw.get(PREFIX + name) for name in table}
    return {n: (PREFIX + n, value) for n, value in found.items() if _is_set(n, value)}


def _login(broker: Broker, username: str | None, password: str | None) -> tuple[str, str]:
    """Return what to log in with: the settings win over the URL, guest is the default."""
    username = username or broker.username or "guest"
    if password is None:
        password = broker.password
    if password is None:
        password = "guest" if username == "guest" else ""
    return username, password


def _tls_contradiction(broker: Broker, tls: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what is wrong and the mend; the memory broker takes any, so that tests may set it."""
    if broker.scheme == "amqp" and tls:
        return "is set, but the URL is amqp://, without TLS", "Write amqps://, or drop RMQ_TLS."
    if "KEY_FILE" in tls and "CERT_FILE" not in tls:
        return "has a KEY_FILE without CERT_FILE", "Set both, or CERT_FILE with both inside."
    return None


def _mend(name: str, known: list[str]) -> str:
    if name.removeprefix(PREFIX) in ("HOST", "PORT", "VHOST", "VIRTUAL_HOST"):
        return "It is a part of RMQ_URL: amqp://user@host:5672/vhost."
    return validators.suggestion(name, known)


def _misplaced(name: object) -> SettingError:
    """Return the error of a key of RMQ_CONNECTIONS that is no setting of a connection."""
    bare = str(name).removeprefix(PREFIX)
    if bare in GLOBAL:
        hint = f"Move it out: {PREFIX}{bare} is one for all connections."
        return SettingError("is not a setting of one connection", hint, MISPLACED)
    if bare != name and bare in OF_CONNECTIONS:
        hint = f"Write {bare!r}: keys of RMQ_CONNECTIONS go without {PREFIX}."
        return SettingError("bears the prefix of the flat settings", hint, validators.UNKNOWN)
    return SettingError(
        "is not a setting", _mend(str(name), [*OF_CONNECTIONS]), validators.UNKNOWN
    )
