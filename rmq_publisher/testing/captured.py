"""The class behind `rmq_publisher.testing.capture`."""

import copy
import inspect
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import Any, Literal, TypeVar, overload

from rmq_publisher.amqp.decoding import BrokerMessage
from rmq_publisher.amqp.entities import QueueConfig, QueueName, Topology
from rmq_publisher.conf import loader
from rmq_publisher.conf.loader import ConnectionSettings
from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.publisher.commit_hook import CommitHook
from rmq_publisher.testing.commit_hooks import WaitingHooks
from rmq_publisher.topology import registry
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.transport import MemoryTransport
from rmq_publisher.transport.outcome import Declared, Delivery

OnCommit = Literal["run", "pending"]
F = TypeVar("F", bound=Callable[..., Any])


class PublishedMessage(BrokerMessage):
    """A message that was published, or would be.

    Attributes:
        using: RabbitMQ alias.
        queue: the queue that the call named; else, on the default exchange, its routing key.
        queues: the queues that took it, where messages are routed.
        error: why it was refused; None where it was not.
    """

    def __init__(self, envelope: Envelope, using: str) -> None:
        super().__init__(envelope.exchange, envelope.routing_key, envelope.header, envelope.body)
        self.using = using
        self.queue = _named_queue(envelope)
        self.queues: tuple[str, ...] = ()
        self.error: PublishError | None = None


def _named_queue(envelope: Envelope) -> str:
    # The queue that a call names is verified last.
    last = envelope.topology[-1] if envelope.topology else None
    if isinstance(last, QueueName | QueueConfig):
        return last.name
    return "" if envelope.exchange else envelope.routing_key


class Published(Sequence[PublishedMessage]):
    """The messages of a `capture`: those that were confirmed, in order, as a sequence.

    Looking at it, or publishing more, counts what a TestCase's own transaction holds back as
    committed, unless the capture was told otherwise.

    Args:
        on_commit: "run" or "pending", as `capture` takes it.
        route: whether a memory broker routes the messages.
        error: the outcome of every message; None for a confirm.
    """

    def __init__(
        self, on_commit: OnCommit, *, route: bool, error: PublishError | None = None
    ) -> None:
        self._confirmed: list[PublishedMessage] = []
        self._refused: list[PublishedMessage] = []
        self._left: list[PublishedMessage] | None = (
            None  # messages that were still waiting at the end
        )
        self._on_commit = on_commit
        self._route = route
        self._error = error
        self._databases = WaitingHooks()
        self._sending: set[int] = set()  # the threads that do
        self._brokers: dict[str, MemoryBroker] = {}
        self._transports: dict[str, _StandIn] = {}

    @overload
    def __getitem__(self, index: int) -> PublishedMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[PublishedMessage]: ...
    def __getitem__(self, index: int | slice) -> PublishedMessage | list[PublishedMessage]:
        """Return a message by its index."""
        self.send_committed()
        return self._confirmed[index]

    def __len__(self) -> int:
        self.send_committed()
        return len(self._confirmed)

    def __repr__(self) -> str:
        confirmed, refused, pending = len(self), len(self.refused), len(self.pending)
        return f"<Published: {confirmed} messages, {refused} refused, {pending} pending>"

    @property
    def refused(self) -> list[PublishedMessage]:
        """The messages that were not confirmed, each with its ``error``."""
        self.send_committed()
        return list(self._refused)

    @property
    def pending(self) -> list[PublishedMessage]:
        """The messages that wait for a commit."""
        if self._left is not None:
            return self._left
        self.send_committed()
        return [
            PublishedMessage(envelope, hook.using)
            for hook in self._databases.waiting()
            for envelope in hook.envelopes
        ]

    def clear(self) -> None:
        """Forget what was published and refused so far."""
        self.send_committed()
        self._confirmed.clear()
        self._refused.clear()

    def broker(self, using: str | None = None) -> MemoryBroker:
        """Return the memory broker of ``capture(route=True)``.

        Args:
            using: RabbitMQ alias; may be left out when there is one.

        Raises:
            RuntimeError: the capture does not route.
        """
        if not self._route:
            raise RuntimeError("this capture routes nothing: write capture(route=True)")
        known = tuple(self._brokers)
        if using is None and len(known) == 1:
            return self._brokers[known[0]]
        return self._broker(loader.alias_for(using))

    def send_committed(self) -> None:
        """Send what only a TestCase's own transaction delays; reading the messages does the same."""
        self._send(self._databases.due)

    def send_committed_before(self, message_id: str) -> None:
        """Send what this thread committed before it published messages; here is the first of them."""

        # A message that a hook sends is in order already, because Django calls hooks in order.
        def due() -> list[CommitHook]:
            hooks = self._databases.due(own=True)
            return [] if hooks and self._databases.are_sending(message_id) else hooks

        self._send(due)

    def _send(self, due: Callable[[], list[CommitHook]]) -> None:
        thread = threading.get_ident()
        if self._on_commit == "pending" or self._left is not None or thread in self._sending:
            return
        self._sending.add(thread)
        try:
            for hook in due():
                hook()
        finally:
            self._sending.discard(thread)

    def end(self) -> None:
        """Make sure that messages that wait for a commit are never sent."""
        self._left = self.pending
        for hook in self._databases.waiting():
            hook.sent = True

    def transport(self, settings: ConnectionSettings) -> "_StandIn":
        """Return the replacement for the connection of an alias."""
        transport = self._transports.get(settings.alias)
        if transport is None or transport.settings is not settings:
            broker = self._broker(settings.alias) if self._route else None
            transport = self._transports[settings.alias] = _StandIn(settings, self, broker)
        return transport

    def _broker(self, alias: str) -> MemoryBroker:
        if alias not in self._brokers:
            broker = MemoryBroker(alias, before_look=self.send_committed)
            broker.declare(*registry.declaration_order(alias))
            self._brokers.setdefault(alias, broker)  # another thread may have been first
        return self._brokers[alias]

    def note(self, message: PublishedMessage) -> None:
        """Store a message with its outcome."""
        (self._confirmed if message.error is None else self._refused).append(message)

    def refusal(self, envelope: Envelope) -> PublishError | None:
        """Return the error that all messages must get, for this message."""
        error = copy.copy(self._error)
        if error is not None:
            vars(error).update(envelope.names)
        return error


class _StandIn(MemoryTransport):
    """Replaces a connection; without a broker it confirms all messages."""

    def __init__(
        self, settings: ConnectionSettings, published: Published, broker: MemoryBroker | None
    ) -> None:
        super().__init__(settings, broker or MemoryBroker(settings.alias))
        self._published = published
        self._routes = broker is not None

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Give each delivery its outcome, in order, after earlier committed messages."""
        if deliveries:
            self._published.send_committed_before(deliveries[0].envelope.message_id)
        super().submit(deliveries)

    def take(self, envelope: Envelope) -> tuple[str, ...]:
        """Record a message and its outcome.

        Raises:
            PublishError: the capture's own error, or what the broker answers.
        """
        message = PublishedMessage(envelope, self.settings.alias)
        try:
            message.queues = self._answered(envelope)
        except PublishError as error:
            message.error = error
            self._published.note(message)
            raise
        self._published.note(message)
        return message.queues

    def _answered(self, envelope: Envelope) -> tuple[str, ...]:
        refusal = self._published.refusal(envelope)
        if refusal is not None:
            raise refusal
        return super().take(envelope) if self._routes else ()

    def declare(self, topology: Topology, timeout: float) -> list[Declared]:
        """Declare or verify; without a broker everything exists.

        Raises:
            Rejected: as the broker refuses.
        """
        if self._routes:
            return super().declare(topology, timeout)
        steps = (step for entity in topology for step in entity.steps())
        counts = {"queue_declare": (0, 0)}
        return [Declared(step.entity, *counts.get(step.operation, ())) for step in steps]


class Capture:
    """What `capture` returns: it starts with its block, or with each call of the decorated function.

    Args:
        make: what begins.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Published]]) -> None:
        self._make = make
        self._stack = ExitStack()

    def __enter__(self) -> Published:
        return self._stack.enter_context(self._make())

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, function: F) -> F:
        """Decorate a function or a coroutine function.

        Raises:
            TypeError: a class, or a generator function: its body would run without the capture.
        """
        if isinstance(function, type):
            raise TypeError("capture() decorates no class: open it in setUp with enterContext()")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                "capture() decorates no generator function, whose body runs after the call: "
                f"write `with capture():` in {function.__qualname__}"
            )

        @wraps(function)
        async def awaited(*args: Any, **options: Any) -> Any:
            with self._make():
                return await function(*args, **options)

        @wraps(function)
        def called(*args: Any, **options: Any) -> Any:
            with self._make():
                return function(*args, **options)

        is_awaited = inspect.iscoroutinefunction(function)
        return awaited if is_awaited else called  # type: ignore[return-value]
