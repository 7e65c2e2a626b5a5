"""The queues in which failed messages wait for their next attempt: names, delays and declarations.

Nothing here does I/O.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from rmq_publisher.amqp.encoding import SHORTSTR_MAX
from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.amqp.validation import Seconds, milliseconds
from rmq_publisher.consumer.handler_options import HandlerOptions

MARK = ".retry."
_IS_STREAM = "it is a stream, which keeps its messages"


@dataclass(frozen=True, slots=True)
class Stay:
    """One wait in a level (a retry queue).

    Attributes:
        queue: the level's name.
        delay: milliseconds of this wait.
        rest: milliseconds that are left to wait afterwards.
    """

    queue: str
    delay: int
    rest: int = 0


@dataclass(frozen=True, slots=True)
class RetryLevels:
    """The levels of one consumed queue: one queue for each distinct delay.

    Attributes:
        queue: the consumed queue, to which every level returns its messages.
        delays: milliseconds, ascending; empty if a message has only one attempt.
        shortest: milliseconds before the second attempt.
        longest: the largest delay in milliseconds.
    """

    queue: str
    delays: tuple[int, ...]
    shortest: int
    longest: int

    @classmethod
    def of(cls, queue: str, max_attempts: int, backoff: tuple[Seconds, Seconds]) -> Self:
        """Return the levels that a handler's options need.

        Args:
            queue: name of the consumed queue.
            max_attempts: how often a message is tried.
            backoff: the delay before the second attempt, and the longest delay.

        Raises:
            TopologyError: a delay is no number of seconds, or longer than RabbitMQ allows.
        """
        shortest, longest = (max(1, milliseconds("backoff", value)) for value in backoff)
        delays: list[int] = []
        for failures in range(1, max_attempts):
            delay = _doubled(shortest, longest, failures)
            if delays and delay == delays[-1]:
                break
            delays.append(delay)
        return cls(queue, tuple(delays), shortest, longest)

    def name(self, delay: int) -> str:
        """Return the name of the level with this delay in milliseconds."""
        return f"{self.queue}{MARK}{delay}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all levels, the shortest delay first."""
        return tuple(map(self.name, self.delays))

    def after(self, attempt: int) -> int:
        """Return the milliseconds to wait after a failed attempt; the first attempt is 1."""
        return _doubled(self.shortest, self.longest, attempt)

    def stay(self, wait: int) -> Stay:
        """Return where a message waits: in the level with the shortest sufficient delay.

        A wait longer than the longest delay goes through that level several times.

        Args:
            wait: milliseconds in all.
        """
        for delay in self.delays:
            if delay >= wait:
                return Stay(self.name(delay), delay)
        delay = self.delays[-1]
        return Stay(self.name(delay), delay, wait - delay)

    def configs(self, using: str | None = None) -> tuple[QueueConfig, ...]:
        """Return the configs of the levels."""
        return tuple(self._config(delay, using) for delay in self.delays)

    def _config(self, delay: int, using: str | None) -> QueueConfig:
        return QueueConfig(
            self.name(delay),
            dead_letter_exchange="",
            dead_letter_routing_key=self.queue,
            queue_type="quorum",
            message_ttl=timedelta(milliseconds=delay),
            overflow="reject-publish",  # at-least-once needs it
            # Otherwise messages that expire while the broker restarts may be lost.
            arguments={"x-dead-letter-strategy": "at-least-once"},
            using=using,
        )


def levels_of(options: HandlerOptions) -> RetryLevels:
    """Return the levels of a handler, without delays if its messages cannot wait."""
    levels = wanted_levels(options)
    return replace(levels, delays=()) if why_no_retries(options) else levels


def wanted_levels(options: HandlerOptions) -> RetryLevels:
    """Return the levels that a handler asks for."""
    return RetryLevels.of(options.queue_name, options.max_attempts, options.backoff)


def why_no_retries(options: HandlerOptions) -> str:
    """Return why the messages of a handler cannot wait for another attempt; empty if they can."""
    if options.max_attempts == 1:
        return ""
    if options.is_stream:
        return _IS_STREAM
    return no_retries(options.config or options.queue_name, wanted_levels(options))


def no_retries(queue: str | QueueConfig, levels: RetryLevels) -> str:
    """Return why the messages of a queue cannot wait for another attempt; empty if they can.

    Args:
        queue: the consumed queue; if it is only a name, its type is unknown.
        levels: those that its handler asks for.
    """
    too_long = next((name for name in levels.names if len(name.encode()) > SHORTSTR_MAX), None)
    if too_long is not None:
        return f"the name of its retry queue would have {len(too_long.encode())} bytes, AMQP allows 255"
    if not isinstance(queue, QueueConfig):
        return ""
    arguments = queue.x_arguments
    if arguments.get("x-queue-type") == "stream":
        return _IS_STREAM
    if "x-expires" in arguments:
        return "it expires, so a message that waits for its next attempt could not come back to it"
    return ""


def _doubled(shortest: int, longest: int, failures: int) -> int:
    return int(min(longest, shortest * 2 ** min(failures - 1, 64)))
