"""Counts an outcome and sends its signal."""

from typing import Any

from django.dispatch import Signal

from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.signals import message_cancelled, message_published, publish_failed
from rmq_publisher.telemetry import publish_counts


def tell(using: str, envelope: Envelope, error: PublishError | None, *, will_retry: bool) -> None:
    """Count an outcome and send its signal; an exception in a receiver is only logged."""
    signal = _counted(using, error)
    if signal.receivers:
        signal.send_robust(
            sender=None, **_arguments(using, envelope, error, will_retry=will_retry)
        )


async def atell(using: str, envelope: Envelope, error: PublishError | None) -> None:
    """Do the same on an event loop; synchronous receivers run in a thread, so they do not block it."""
    signal = _counted(using, error)
    if signal.receivers:
        await signal.asend_robust(
            sender=None, **_arguments(using, envelope, error, will_retry=False)
        )


def tell_cancelled(message_id: str, database: str) -> None:
    """Announce that a stored message was deleted before anybody took it."""
    message_cancelled.send_robust(sender=None, message_id=message_id, database=database)


def _counted(using: str, error: PublishError | None) -> Signal:
    """Count an outcome and return its signal."""
    if error is None:
        publish_counts.count(using, published=1)
        return message_published
    publish_counts.count(using, failed=1)
    return publish_failed


def _arguments(
    using: str, envelope: Envelope, error: PublishError | None, *, will_retry: bool
) -> dict[str, Any]:
    names: dict[str, Any] = {**envelope.names, "using": using}
    return names if error is None else {**names, "error": error, "will_retry": will_retry}
