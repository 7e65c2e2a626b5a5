"""Who published what, with which outcome, and whether the queues agree."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rmq_publisher import BrokerUnavailable, ConfirmTimeout, InvalidMessage, Rejected, publish
from rmq_publisher.signals import message_published, publish_failed
from tests.support.rig.amqp import Received

NO_OUTCOME = "no outcome"
CONFIRMED = "confirmed"
# What says "the broker does not have it".
_NOT_THERE = (BrokerUnavailable, Rejected, InvalidMessage)
_PADDING = 200  # bytes


@dataclass(slots=True)
class Attempt:
    """One call of publish()."""

    message_id: str
    began: float
    ended: float = 0.0  # while it is 0 the call has not come back
    error: Exception | None = None

    @property
    def kind(self) -> str:
        """Its outcome in a word."""
        if not self.ended:
            return NO_OUTCOME
        return CONFIRMED if self.error is None else type(self.error).__name__

    @property
    def seconds(self) -> float:
        """How long it took, or has taken until now."""
        return (self.ended or time.monotonic()) - self.began


class Ledger:
    """All attempts of a scenario, and the signals that were sent about them."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.confirms: list[Attempt] = []
        self._signals: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        message_published.connect(self._heard, weak=False)
        publish_failed.connect(self._heard, weak=False)
        return self

    def __exit__(self, *_: object) -> None:
        message_published.disconnect(self._heard)
        publish_failed.disconnect(self._heard)

    def _heard(self, message_id: str, error: Exception | None = None, **_: object) -> None:
        told = CONFIRMED if error is None else type(error).__name__
        self._signals.append((message_id, told))

    def publish(self, message_id: str, *, padding: int = _PADDING, **options: Any) -> Attempt:
        """Publish now and note the outcome; the body holds the id, so that another one shows."""
        attempt = Attempt(message_id, time.monotonic())
        self.attempts.append(attempt)
        body = message_id.encode() + b"." * padding
        try:
            publish(body, message_id=message_id, delivery="now", **options)
        except Exception as error:  # whatever it raises is an outcome, and may be a wrong one
            attempt.error = error
        attempt.ended = time.monotonic()
        if attempt.error is None:
            self.confirms.append(attempt)
        return attempt

    # -- outcomes ------------------------------------------------------------------------

    def during(self, begun: float, ended: float = math.inf) -> list[Attempt]:
        """The calls that were under way at any time between two moments."""
        return [
            attempt
            for attempt in tuple(self.attempts)
            if attempt.began < ended and (not attempt.ended or attempt.ended > begun)
        ]

    def spanning(self, moment: float) -> list[Attempt]:
        """The calls that were under way at a moment."""
        return self.during(moment, moment)

    def hit_at(self, moment: float) -> int:
        """Messages that were on the wire at a moment and never answered."""
        return sum(isinstance(one.error, ConfirmTimeout) for one in self.spanning(moment))

    def forget_others(self) -> None:
        """Leave out the outcomes of calls that were not made through the ledger."""
        own = {attempt.message_id for attempt in self.attempts}
        self._signals = [told for told in self._signals if told[0] in own]

    def contradictions(self) -> int:
        """Calls without exactly one signal of the outcome that they ended with."""
        told = Counter(self._signals)
        ended = Counter((one.message_id, one.kind) for one in self.attempts)
        return (told - ended).total() + (ended - told).total()


def counts(attempts: Iterable[Attempt]) -> str:
    """The outcomes in words: "990 confirmed, 10 ConfirmTimeout"."""
    found = Counter(attempt.kind for attempt in attempts)
    return ", ".join(f"{count:,} {kind}" for kind, count in found.most_common()) or "none"


def percentile(attempts: Sequence[Attempt], share: float) -> float:
    """Seconds; a call that never came back counts as one that lasts until now."""
    seconds = sorted(one.seconds for one in attempts)
    return seconds[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else 0.0


def median(attempts: Sequence[Attempt]) -> float:
    """Seconds; as in `percentile`."""
    return statistics.median([one.seconds for one in attempts]) if attempts else 0.0


@dataclass(frozen=True)
class Reading:
    """What was read back, compared with the outcomes."""

    missing: int  # confirmed, and in no queue
    strangers: int  # an id that nobody gave, or another body's
    lies: int  # in a queue, though reported as not sent or rejected
    duplicates: int

    @classmethod
    def of(cls, attempts: Iterable[Attempt], received: Iterable[Received]) -> Reading:
        """Compare the ids of the calls with those that arrived."""
        arrived: Counter[str] = Counter()
        strangers = 0
        known = {attempt.message_id: attempt for attempt in attempts}
        for message in received:
            named = message.properties.message_id or ""
            inside = message.body.rstrip(b".").decode("utf-8", "replace")
            strangers += named not in known or inside != named
            arrived[inside] += 1
        return cls(
            missing=sum(
                one.kind == CONFIRMED and not arrived[one.message_id] for one in known.values()
            ),
            strangers=strangers,
            lies=sum(
                isinstance(one.error, _NOT_THERE) and arrived[one.message_id] > 0
                for one in known.values()
            ),
            duplicates=sum(count - 1 for count in arrived.values()),
        )


class Load:
    """Threads that publish one message after the other, each with an id of its own."""

    def __init__(
        self,
        ledger: Ledger,
        threads: int,
        options: Callable[[str], dict[str, Any]],
        *,
        prefix: str = "m",
        pause: float = 0.0,
        left: int | None = None,
    ) -> None:
        self._ledger, self._options, self._pause = ledger, options, pause
        self._left = left  # None: until told
        self._lock = threading.Lock()
        self._number = 0
        self._prefix = prefix
        self._enough = threading.Event()
        # Daemons: one that hangs is what is looked for, and must not keep the run from its report.
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def start(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def limit(self, left: int) -> None:
        """So many more messages, and no more."""
        with self._lock:
            self._left = left

    def stop(self, patience: float) -> bool:
        """No more messages; tell whether every call came back."""
        self.limit(0)
        self._enough.set()
        return self.join(patience)

    def join(self, patience: float) -> bool:
        """Wait for the end; tell whether every call came back."""
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self.running

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _next(self) -> str:
        with self._lock:
            if self._left is not None:
                if self._left <= 0:
                    return ""
                self._left -= 1
            self._number += 1
            return f"{self._prefix}{self._number}"

    def _run(self) -> None:
        while message_id := self._next():
            self._ledger.publish(message_id, **self._options(message_id))
            if self._pause:
                self._enough.wait(self._pause)
