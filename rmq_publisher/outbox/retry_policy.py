"""The retry policy of stored messages: when a failed one is sent again, and when it is dead."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rmq_publisher.conf.schema import OutboxSettings
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.schema import ERROR_MAX
from rmq_publisher.exceptions import BrokerAnswer, PublishError
from rmq_publisher.timing import jittered

HISTORY_MAX = 50
RETRY_FIRST = 1.0  # seconds before a failed message is sent again


class Decision(NamedTuple):
    """The state of a message after a failure."""

    state: str
    delay: float | None  # seconds, None for never
    attempts: int
    unanswered: int


def decide(
    settings: OutboxSettings, error: PublishError, attempts: int = 0, unanswered: int = 0
) -> Decision:
    """Decide whether a message is sent again later, or is dead.

    Only an answer about the message itself counts as an attempt: no message becomes dead because a
    broker is unavailable, for however long.

    Args:
        settings: the limits of attempts and of the delay between them.
        error: the outcome.
        attempts: answers so far, without this one.
        unanswered: attempts without an answer so far.
    """
    if error.answered:
        attempts += 1
    else:
        unanswered += 1
    if not error.retryable or attempts >= settings.max_attempts:
        return Decision("dead", None, attempts, unanswered)
    delay = jittered(RETRY_FIRST, settings.retry_max_backoff, attempts + unanswered - 1)
    return Decision("failed", delay, attempts, unanswered)


def failure_columns(
    error: PublishError, decision: Decision, now: Any, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the columns that a failure changes."""
    kind, code, text = type(error).__name__, getattr(error, "reply_code", None), words(error)
    entry = {"at": now.isoformat(), "type": kind, "code": code, "text": text}
    changes: dict[str, Any] = {
        "state": decision.state,
        "attempts": decision.attempts,
        "unanswered": decision.unanswered,
        "available_at": None if decision.delay is None else DatabaseNow(decision.delay),
        "token": 0,
        "last_failed_at": now,
        "last_error_type": kind,
        "last_error_code": code,
        "last_error_text": text,
        "history": [*before.get("history", ()), entry][-HISTORY_MAX:],
    }
    if before.get("failed_at") is None:
        changes.update(
            failed_at=now, first_error_type=kind, first_error_code=code, first_error_text=text
        )
    return changes


def words(error: PublishError) -> str:
    """Return an error's text as it is stored: short, printable, in one line."""
    text = error.reason
    if isinstance(error, BrokerAnswer):
        text = "; ".join(filter(None, (error.reply_text, BrokerAnswer.advice(error))))
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", text)[:ERROR_MAX]
