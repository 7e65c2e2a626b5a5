"""Where the time of a message goes: processor time of our steps, each without those inside it.

The steps are functions of the library that are wrapped in the process that is measured. The wrapping
costs some of a microsecond for each call, so that the sum is above that of an ordinary run.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

# What is wrapped: module, class, function, what it is in the table.
STEPS = (
    ("publisher.api", "", "prepare", "make and check the message"),
    ("publisher.api", "", "_item", "make and check the message"),
    ("transport.rabbitmq.transport", "", "marshal", "frames as bytes"),
    ("transport.rabbitmq.io_thread", "IOThread", "submit", "hand over to the I/O thread"),
    ("transport.rabbitmq.event_loop", "Loop", "wake", "wake the I/O thread"),
    ("transport.rabbitmq.event_loop", "Loop", "turn", "the loop: poll, handlers"),
    ("transport.rabbitmq.io_thread", "IOThread", "_cycle", "take in, window, confirms"),
    ("transport.rabbitmq.channel", "PublishChannel", "write", "join the frames"),
    ("transport.rabbitmq.socket_stream", "Wire", "_send", "send to the socket"),
    ("transport.rabbitmq.socket_stream", "Wire", "_read", "receive, and find the acks"),
    (
        "transport.rabbitmq.dispatcher",
        "Dispatcher",
        "answered",
        "find the message of an ack, wake its caller",
    ),
)

Spent = dict[str, float]


class Spans:
    """Wraps the steps while it is entered; `spent` has seconds of processor time by step."""

    def __init__(self) -> None:
        self.spent: Spent = defaultdict(float)
        self._local = threading.local()
        self._wrapped: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Spent:
        for module, owner, name, step in STEPS:
            place: Any = importlib.import_module(f"rmq_publisher.{module}")
            place = getattr(place, owner) if owner else place
            original = getattr(place, name)
            self._wrapped.append((place, name, original))
            setattr(place, name, self._timed(original, step))
        return self.spent

    def __exit__(self, *_: object) -> None:
        while self._wrapped:
            setattr(*self._wrapped.pop())

    def _timed(self, function: Callable[..., Any], step: str) -> Callable[..., Any]:
        spent, local, clock = self.spent, self._local, time.thread_time

        def timed(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(local, "inside", 0.0)
            local.inside = 0.0  # what the steps inside this one took
            before = clock()
            try:
                return function(*args, **kwargs)
            finally:
                taken = clock() - before
                spent[step] += taken - local.inside
                local.inside = outer + taken

        return timed
