"""The tables: stored messages that are to be published, and what consumers need to remember."""

from rmq_publisher.models.consuming import DeadLetter, HandlerStart, InboxMessage, RetryQueue
from rmq_publisher.models.outbox import (
    OutboxMessage,
    PendingMessage,
    PublishCount,
    PublishFailure,
    RelaySeen,
)

__all__ = [
    "DeadLetter",
    "HandlerStart",
    "InboxMessage",
    "OutboxMessage",
    "PendingMessage",
    "PublishCount",
    "PublishFailure",
    "RelaySeen",
    "RetryQueue",
]
