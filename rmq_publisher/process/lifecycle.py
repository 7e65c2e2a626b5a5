"""The order in which parts of this package react to the fork and the end of their process.

The parts register themselves here as they are imported. The order is that of the enums below, not that
of the imports.
"""

import atexit
import logging  # noqa: F401 (its exit handler must be registered before ours, so that ours can still log)
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum, auto
from functools import partial
from typing import Any


class AtExit(Enum):
    """What is done when a process ends, in this order."""

    BACKGROUND_SENDER = auto()  # sends its rows, over connections that must still be open
    CONNECTIONS = auto()  # drain, so that the last outcomes are counted
    PUBLISH_COUNTS = auto()


class InChild(Enum):
    """What a forked child lets go of, in this order."""

    LOCKS = auto()  # first, so that nothing below waits for one
    MESSAGE_IDS = auto()
    PUBLISH_COUNTS = auto()
    CONNECTIONS = auto()
    CONSUMERS = auto()
    ROW_TOKEN = auto()
    BACKGROUND_SENDER = auto()
    BROKER_STATUS = auto()  # after the connections: it makes its own from theirs


_calls: dict[Enum, Callable[[], object]] = {}
_locks: list[AbstractContextManager[Any]] = []


def register(step: AtExit | InChild, call: Callable[[], object]) -> None:
    """Have ``call`` run at this step; what was registered for it before is replaced."""
    _calls[step] = call


def hold_over_fork(lock: AbstractContextManager[Any]) -> None:
    """Fork only while holding ``lock``, so that a child finds what it protects complete and free."""
    _locks.append(lock)


def _run(step: Enum) -> None:
    if call := _calls.get(step):
        call()


def _acquire() -> None:
    for lock in _locks:
        lock.__enter__()


def _release() -> None:
    for lock in reversed(_locks):
        lock.__exit__(None, None, None)


register(InChild.LOCKS, _release)
# One registration for each step: an exception in one does not keep the others from running. Exit
# handlers run in the opposite order, and after those of all that is registered later: code that
# publishes in its own exit handler can still do so.
for _step in reversed(AtExit):
    atexit.register(partial(_run, _step))
os.register_at_fork(before=_acquire, after_in_parent=_release)
for _forked in InChild:
    os.register_at_fork(after_in_child=partial(_run, _forked))
