"""Consumers that are broken on purpose: each must be reported, or the consumer part sees nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rmq_publisher.consumer import retries
from rmq_publisher.consumer.handler_work import HandlerWork
from rmq_publisher.consumer.inbox import Inbox


def acknowledges_before_the_commit() -> None:
    """The broker forgets the message before its work is committed."""
    begin = HandlerWork._begin

    def acknowledge_and_begin(self: Any, message: Any) -> Any:
        outcome = begin(self, message)
        if outcome is None:
            message.guarded = False
            message.ack()
            message.guarded = True
        return outcome

    HandlerWork._begin = acknowledge_and_begin  # type: ignore[method-assign]


def has_no_unique_row() -> None:
    """The inbox takes every message for a new one."""
    Inbox.add = lambda self, message: True  # type: ignore[method-assign]


def acknowledges_a_retry_before_its_confirm() -> None:
    """A failed message is acknowledged, and handed over when there is time."""
    settle = retries.Retries.settle

    def acknowledge_and_settle(self: Any, message: Any, outcome: Any) -> Any:
        message.ack()
        time.sleep(0.5)
        return settle(self, message, outcome)

    retries.Retries.settle = acknowledge_and_settle  # type: ignore[method-assign]


LIARS: dict[str, Callable[[], None]] = {
    liar.__name__: liar
    for liar in (
        acknowledges_before_the_commit,
        has_no_unique_row,
        acknowledges_a_retry_before_its_confirm,
    )
}


def activate(name: str) -> None:
    """Tell the lie of this name; none where it is empty."""
    if name:
        LIARS[name]()
