"""What is logged of a broker that cannot be used: everything at first, then one line a minute."""

import logging
import threading
from collections import defaultdict
from dataclasses import dataclass

from rmq_publisher.process.lifecycle import hold_over_fork
from rmq_publisher.timing import monotonic

VERBOSE_SECONDS = 10.0  # from its beginning, in which every line is written
INTERVAL_SECONDS = 60.0  # between two lines after that; a broker that was quiet for longer is new

connection_logger = logging.getLogger("rmq_publisher.transport")
message_logger = logging.getLogger("rmq_publisher")

_lock = threading.RLock()  # a destructor may publish while it is held
hold_over_fork(_lock)


@dataclass
class _Outage:
    """The failures of one alias since its broker was last usable; used under the lock."""

    began_at: float = float("-inf")
    failed_at: float = float("-inf")
    logged_at: float = float("-inf")
    attempts: int = 0  # to connect, since the last line; so are the next two
    messages: int = 0
    level: int = logging.NOTSET

    def is_young(self, now: float) -> bool:
        """Count a failure; return whether to log it now."""
        if now - self.failed_at > INTERVAL_SECONDS:
            self.began_at = now
        self.failed_at = now
        if now - self.began_at <= VERBOSE_SECONDS:
            self.logged_at = now
            return True
        return False

    def take_counts(self) -> str:
        """Describe what has not been logged yet, and restart the count."""
        text = (
            f"{_number(self.attempts, 'connection attempt')} failed, "
            f"{_number(self.messages, 'message')} kept for rmq_relay"
        )
        self.attempts = self.messages = 0
        self.level = logging.NOTSET
        return text


_outages: defaultdict[str, _Outage] = defaultdict(_Outage)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def attempt_failed(alias: str, reason: str) -> None:
    """Log that a connection could not be opened, or count it."""
    if not _is_counted(alias, reason, logging.WARNING, attempts=1):
        connection_logger.warning("%s: %s", alias, reason)


def messages_kept(alias: str, reason: str, level: int, line: str, number: int = 1) -> None:
    """Log that messages were stored because the broker could not be used, or count them.

    Args:
        alias: RabbitMQ alias.
        reason: why the broker cannot be used.
        level: of the line.
        line: what is logged while the outage is young.
        number: of messages.
    """
    if not _is_counted(alias, reason, level, messages=number):
        message_logger.log(level, "%s", line)


def _is_counted(
    alias: str, reason: str, level: int, *, attempts: int = 0, messages: int = 0
) -> bool:
    """Count failures, and log the counts once a minute; return False while the outage is young."""
    now = monotonic()
    with _lock:
        outage = _outages[alias]
        if outage.is_young(now):
            return False
        outage.attempts += attempts
        outage.messages += messages
        level = outage.level = max(outage.level, level)
        if now - outage.logged_at < INTERVAL_SECONDS:
            return True
        outage.logged_at = now
        logger = message_logger if outage.messages else connection_logger
        seconds, counts = now - outage.began_at, outage.take_counts()
    logger.log(
        level, "%s: %s; down for %d s, since the last line: %s", alias, reason, seconds, counts
    )
    return True


def forget() -> None:
    """For tests: let the next failure of each broker begin another outage."""
    with _lock:
        _outages.clear()


def ended(alias: str) -> None:
    """The broker can be used again: log what has not been logged yet."""
    with _lock:
        outage = _outages.pop(alias, None)
    if outage is not None and (outage.attempts or outage.messages):
        seconds = monotonic() - outage.began_at
        connection_logger.warning(
            "%s: usable again after %d s, since the last line: %s",
            alias,
            seconds,
            outage.take_counts(),
        )
