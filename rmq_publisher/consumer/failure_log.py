"""Logs a failed handler: the error's class and lines of code, but not its text, which may have values."""

import logging
import traceback
from pathlib import Path

from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import Ended, Outcome, Reject, Retry
from rmq_publisher.serialization import DecodeError

logger = logging.getLogger("rmq_publisher.consumer")

OWN_FRAMES = Path(__file__).parent.as_posix()


def log_failure(options: HandlerOptions, message: ReceivedMessage, outcome: Outcome) -> None:
    """Log how a handler failed; `Retry` and `Reject` without a traceback."""
    error = outcome.error
    level = logging.INFO if isinstance(error, Retry | Reject) else logging.ERROR
    if not logger.isEnabledFor(level):
        return
    what = "rejects" if outcome.ended is Ended.REJECTED else "failed on"
    frames = "" if isinstance(error, Retry | Reject | DecodeError) else _frames(error)
    logger.log(
        level,
        "%s %s message %s of queue %r (attempt %s of %d): %s%s",
        options,
        what,
        *_of_message(message),
        options.max_attempts,
        describe_error(error),
        frames,
    )


def _of_message(message: ReceivedMessage) -> tuple[object, ...]:
    try:
        return message.message_id or "without id", message.queue, message.attempts
    except DecodeError:
        return "without readable properties", message.queue, 1


def describe_error(error: BaseException | None) -> str:
    """Return the class of an error and where it was raised; its text may contain values."""
    if error is None:
        return "unknown"
    if isinstance(error, DecodeError):
        return f"DecodeError: {error}"  # our own text, which holds no values
    frames = traceback.extract_tb(error.__traceback__)
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    if not frames:
        return name
    last = frames[-1]
    return f"{name} at {Path(last.filename).name}:{last.lineno} in {last.name}"


def _frames(error: BaseException | None) -> str:
    """Return the lines of code that led to an error, without those of this package above the handler."""
    if error is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(OWN_FRAMES)]
    return "".join(f"\n{line.rstrip()}" for line in traceback.format_list(own))
