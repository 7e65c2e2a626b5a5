"""A consumer's I/O thread, one turn at a time: what comes before what when it is closed."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from rmq_publisher import BrokerUnavailable
from rmq_publisher.conf import loader
from rmq_publisher.transport.rabbitmq.consume_thread import ConsumeThread
from tests.support.calls import Call, eventually


def test_what_was_settled_before_the_close_is_written_before_it() -> None:
    """Both come between the flush of a turn and its look at the close."""
    done: list[Any] = []
    thread: Any = object.__new__(ConsumeThread)
    thread._connection = SimpleNamespace(
        crash=None,
        closing=False,
        settle=lambda items: done.append(items),
        close=lambda seconds: done.append("close"),
    )
    thread._sessions = SimpleNamespace(current=1)
    thread._news = False
    thread._settled = deque()
    thread._close_seconds = None

    def in_between(_answer: object) -> None:
        thread._settled.append((1, 7, 0))
        thread._close_seconds = 5.0

    thread._questions = deque([SimpleNamespace(begin=in_between, answer=None)])
    thread._cycle()
    thread._cycle()
    assert done == [[(7, 0)], "close"]


def test_who_waits_when_the_thread_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = ConsumeThread(loader.connection("default"))
    waiting = Call(lambda: thread.take(None, lambda: False))
    eventually(lambda: thread._buffer._waiting == 1)
    monkeypatch.setattr(thread._connection, "connect", lambda: 1 / 0)
    thread.start()
    error = waiting.outcome()
    thread.close(0)
    assert isinstance(error, BrokerUnavailable)
    assert "it died of ZeroDivisionError" in str(error)
