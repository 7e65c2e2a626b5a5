"""How the brokers are, answered at once from memory and looked up in the background.

A look has a connection of its own, which ends with it: one that this process publishes by is not
disturbed, and a process that never publishes keeps none. A dead or silent broker costs a look its time,
and whoever asks nothing.
"""

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.conf import loader
from rmq_publisher.exceptions import BrokerUnavailable, PublishError, Rejected
from rmq_publisher.messages.compose import compose
from rmq_publisher.process.lifecycle import InChild, register
from rmq_publisher.timing import monotonic
from rmq_publisher.topology import registry
from rmq_publisher.transport.base import Transport
from rmq_publisher.transport.delivery import send_and_wait
from rmq_publisher.transport.handler import RABBITMQ, connections
from rmq_publisher.transport.memory.transport import MemoryTransport

logger = logging.getLogger("rmq_publisher")

EVERY_SECONDS = 10.0  # between looks at one broker
CONNECT_SECONDS = 3.0  # at most, for each node
QUEUES_SECONDS = 3.0  # for all queues
QUEUE_SECONDS = 1.0  # for one of them: one that does not answer must not hide the others
ALARM_SECONDS = 1.0  # to wait for news of an alarm, and again for the answer that follows it
# An older observation says nothing about the present. A younger one is shown with its age: where many
# processes take turns in serving the page, each of them looks rarely.
STALE_SECONDS = 600.0

UP, DOWN, BLOCKED, UNKNOWN = "up", "down", "blocked", "unknown"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A declared queue, as a passive declare finds it.

    Attributes:
        messages: ready for consumers; None where the broker did not say.
        consumers: of the queue; None where the broker did not say.
        error: why it did not; empty where it did.
    """

    name: str
    messages: int | None = None
    consumers: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """A broker, as it was seen a moment ago.

    Attributes:
        alias: RabbitMQ alias.
        state: ``up``, ``down``, ``blocked`` (by an alarm: it takes no messages), ``unknown`` (nobody
            has looked yet, or not lately).
        host: and port, of the node that answered, or of the first.
        product: and version.
        connect_ms: milliseconds that it took to connect and log in.
        error: why it is down, or the alarm's words.
        queues: those that the project declares.
        age: seconds since it was seen.
    """

    alias: str
    state: str = UNKNOWN
    host: str = ""
    vhost: str = ""
    product: str = ""
    connect_ms: float | None = None
    error: str = ""
    queues: tuple[QueueDepth, ...] = ()
    age: float = 0.0


@dataclass(slots=True)
class _Known:
    """What is remembered of an alias."""

    settings: loader.ConnectionSettings
    status: BrokerStatus
    began: float | None = None  # when the latest look began
    ended: float | None = None  # when the one ended that found `status`
    thread: threading.Thread | None = None  # that is looking


class StatusProber:
    """The looks of this process: at most one at a time for each alias."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._transports: set[Transport] = set()
        # As the handler does: their destructors must not run in a child.
        self._left_behind: list[set[Transport]] = []

    def statuses(self) -> list[BrokerStatus]:
        """Return what is known of all, and have those looked at that it is time for."""
        return [self._status(alias) for alias in loader.aliases()]

    def _status(self, alias: str) -> BrokerStatus:
        try:
            own = connections[alias]
        except ImproperlyConfigured as error:
            return BrokerStatus(alias, DOWN, error=str(error))
        if isinstance(own, MemoryTransport):
            return probe(own, own)  # it is in this process: there is nothing to wait for
        return self._remembered(own)

    def _remembered(self, own: Transport) -> BrokerStatus:
        settings, alias = own.settings, own.settings.alias
        now = monotonic()
        with self._lock:
            known = self._known.get(alias)
            if known is None or known.settings != settings:
                known = self._known[alias] = _Known(settings, _unseen(settings))
            is_due = known.began is None or now - known.began >= EVERY_SECONDS
            if is_due and (known.thread is None or not known.thread.is_alive()):
                known.began = now
                self._start(known, own)
            age = 0.0 if known.ended is None else now - known.ended
            if age > STALE_SECONDS:
                return replace(known.status, state=UNKNOWN, error="", age=age)
            return replace(known.status, age=age)

    def _start(self, known: _Known, own: Transport) -> None:
        name = f"rmq_publisher looks at {known.settings.alias}"
        known.thread = threading.Thread(
            target=self._probe, args=(known, own), name=name, daemon=True
        )
        try:
            known.thread.start()
        except (
            RuntimeError
        ):  # no thread can be started: a limit, or the interpreter is shutting down
            known.thread = None

    def _probe(self, known: _Known, own: Transport) -> None:
        settings = known.settings
        transport: Transport = import_string(RABBITMQ)(
            replace(settings, connect_timeout=min(settings.connect_timeout, CONNECT_SECONDS))
        )
        with self._lock:
            self._transports.add(transport)
        try:
            status = probe(transport, own)
        finally:
            transport.close(0)
            with self._lock:
                self._transports.discard(transport)
        with self._lock:
            known.status, known.ended = status, monotonic()

    def after_fork(self) -> None:
        """In a child: let go of the parent's looks; what they found stays known."""
        self._lock = threading.Lock()
        for transport in self._transports:
            transport.leave_behind()
        self._left_behind.append(self._transports)
        self._transports = set()
        for known in self._known.values():
            known.thread = known.began = None

    def join(self, timeout: float) -> None:
        """Wait for the looks that are under way; for tests and the end of commands.

        Args:
            timeout: seconds, for each.
        """
        for known in list(self._known.values()):
            if known.thread is not None:
                known.thread.join(timeout)


def probe(transport: Transport, own: Transport) -> BrokerStatus:
    """Connect, ask for the depth of each declared queue, and see whether messages are taken.

    It takes `CONNECT_SECONDS` for each node, `QUEUES_SECONDS` and twice `ALARM_SECONDS` at most.

    Args:
        transport: of a connection that nobody else uses, unless it is the memory broker's.
        own: the one that this process publishes by.
    """
    settings = transport.settings
    began = monotonic()
    try:
        transport.declare((), settings.connect_timeout * max(1, len(settings.nodes)))
    except PublishError as error:
        reason = transport.status().last_error or str(error)
        return replace(_unseen(settings), state=DOWN, error=reason)
    connect_ms = (monotonic() - began) * 1000
    queues = tuple(_depths(transport, monotonic() + QUEUES_SECONDS))
    blocked = _blocked(transport, own)
    seen = transport.status()
    return BrokerStatus(
        alias=settings.alias,
        state=BLOCKED if blocked else UP,
        host=seen.node,
        vhost=seen.vhost,
        product=seen.product,
        connect_ms=round(connect_ms, 1),
        error=blocked,
        queues=queues,
    )


def _depths(transport: Transport, deadline: float) -> Iterator[QueueDepth]:
    for queue in registry.queues(transport.settings.alias):
        timeout = min(QUEUE_SECONDS, deadline - monotonic())
        if timeout <= 0:
            yield QueueDepth(queue.name, error="not asked: others took too long to answer")
            continue
        try:
            [found] = transport.declare((QueueName(queue.name),), timeout)
        except Rejected as refusal:
            yield QueueDepth(queue.name, error=f"{refusal.reply_code} {refusal.reply_text}")
        except BrokerUnavailable as error:
            yield QueueDepth(queue.name, error=str(error))
        else:
            yield QueueDepth(queue.name, found.messages, found.consumers)


def _blocked(transport: Transport, own: Transport) -> str:
    """Return an alarm's words; empty where there is none.

    The broker tells them to a connection when that publishes. So if this process's own does not know of
    one, a message is sent that no queue takes.
    """
    status = own.status()
    if status.blocked or own is transport:
        return status.blocked
    settings = transport.settings
    envelope = compose(settings, b"", routing_key=f"rmq-look-{uuid.uuid4()}")
    error = send_and_wait(transport, envelope, ALARM_SECONDS, lambda: "the look is over")
    if (error is None or error.answered) and not transport.status().blocked:
        # The return may have come before the alarm, but not the answer to what is asked afterwards.
        with suppress(BrokerUnavailable):
            transport.declare((), ALARM_SECONDS)
    return transport.status().blocked


def _unseen(settings: loader.ConnectionSettings) -> BrokerStatus:
    node = settings.nodes[0]
    return BrokerStatus(settings.alias, host=str(node), vhost=node.vhost)


_prober = StatusProber()


def _after_fork() -> None:
    _prober.after_fork()


register(InChild.BROKER_STATUS, _after_fork)


def statuses() -> list[BrokerStatus]:
    """Return how the brokers are, one for each RabbitMQ alias, at once.

    What is older than `EVERY_SECONDS` is looked up in the background meanwhile; whoever asks again a
    moment later learns of it. Until the first look has ended, the state is ``unknown``.
    """
    return _prober.statuses()


def join(timeout: float) -> None:
    """Wait until the looks that are under way have ended, at most ``timeout`` seconds for each."""
    _prober.join(timeout)
