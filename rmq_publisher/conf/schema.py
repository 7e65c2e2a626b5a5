"""The settings: their names, defaults and rules, and the frozen values that are made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from rmq_publisher.conf import broker_url, validators
from rmq_publisher.conf.broker_url import Node

PREFIX = "RMQ_"
DEFAULT_ALIAS = "default"

NO_URL = "rmq_publisher.W001"


@dataclass(frozen=True)
class Problem:
    """A mistake in the settings, or in the topology that they name.

    Attributes:
        setting: its place: a setting, a key of one, or a module.
        text: what is wrong; continues a sentence that begins with ``setting``.
        hint: the fix.
        id: id of the system check that reports it.
    """

    setting: str
    text: str
    hint: str
    id: str

    def __str__(self) -> str:
        return f"{self.setting} {self.text}. {self.hint}"

    @property
    def is_error(self) -> bool:
        """Whether this is an error, not a warning."""
        return ".E" in self.id


@dataclass(frozen=True)
class TLSSettings:
    """Files and server name for TLS; without ``ca_file`` the system's CAs are trusted.

    Attributes:
        server_hostname: name expected in the certificate, if it is not the host of the URL.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_hostname: str | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ConnectionSettings:
    """The settings of one RabbitMQ connection; times in seconds, sizes in bytes.

    Only what a live connection depends on counts for equality: changing the rest does not reconnect.

    Attributes:
        nodes: in the given order; empty for the memory broker.
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
    allow_broker: bool = field(compare=False)


@dataclass(frozen=True)
class OutboxSettings:
    """The settings of the tables; times in seconds."""

    max_attempts: int
    retry_max_backoff: float
    failure_retention_days: int
    outbox_batch_size: int
    outbox_lease: float
    outbox_grace: float
    inbox_retention_days: int = 30


@dataclass(frozen=True)
class CelerySettings:
    """How tasks are sent to Celery workers; None if not set.

    Attributes:
        celery_using: RabbitMQ alias.
        celery_delivery: as ``RMQ_DELIVERY``, which applies if this is None.
        celery_schedule: what holds a task until its time: ``"table"``, ``"worker"`` or ``"broker"``.
    """

    celery_using: str | None
    celery_delivery: str | None
    celery_schedule: str | None


Rule: TypeAlias = Callable[[object], Any]
Table: TypeAlias = Mapping[str, tuple[Any, Rule]]  # name without prefix: default, rule

Delivery: TypeAlias = Literal["on_commit", "outbox", "now"]
DELIVERIES = get_args(Delivery)
SCHEDULES = ("table", "worker", "broker")
TLS_KEYS = ("CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD", "SERVER_HOSTNAME")
LOGIN: Table = {
    "URL": (None, broker_url.parse),
    "USERNAME": (None, validators.username),
    "PASSWORD": (None, validators.secret),
    "TLS": ({}, validators.paths(*TLS_KEYS, secrets=("KEY_PASSWORD",))),
}
TUNING: Table = {
    "HEARTBEAT": (10, validators.integer(1, 65535)),
    "CONNECT_TIMEOUT": (3.0, validators.seconds()),
    "PUBLISH_TIMEOUT": (5.0, validators.seconds()),
    "CONFIRM_TIMEOUT": (10.0, validators.seconds()),
    "MAX_IN_FLIGHT": (64, validators.integer(1, 65535)),
    # No broker accepts more than 512 MiB.
    "MAX_BODY_SIZE": (16 * 2**20, validators.integer(1, 2**29)),
    "DELIVERY": (DELIVERIES[0], validators.choice(*DELIVERIES)),
    "SERIALIZER": (None, validators.name),
    "APP_ID": (None, validators.name),
    "ALLOW_BROKER": (True, validators.boolean),
}
OF_CONNECTIONS: Table = {**LOGIN, **TUNING}
OUTBOX: Table = {
    "MAX_ATTEMPTS": (20, validators.integer(1, 2**31 - 1)),
    "RETRY_MAX_BACKOFF": (300.0, validators.seconds()),
    "FAILURE_RETENTION_DAYS": (30, validators.integer(1, 36500)),
    "INBOX_RETENTION_DAYS": (30, validators.integer(1, 36500)),
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
