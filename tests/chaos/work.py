"""What the threads of a worker do: publish now, publish in transactions, in order, under an alarm."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import Error, connection
from django.db.transaction import atomic, on_commit

from rmq_publisher import Message, PublishManyError, publish, publish_many

from .journal import CONFIRMED, LETTERS, OTHER, Journal
from .process import Process

POISON, FORK, GO = 1, 2, 3  # orders
PAUSE = 0.02  # seconds after a broker was reported as unavailable


def body(message_id: str, size: int = 120) -> bytes:
    """A body that holds the id, so that another one shows."""
    return f"{message_id}|".encode().ljust(size, b".")


def letter(error: BaseException | None) -> str:
    """An outcome in a letter."""
    return LETTERS.get(type(error).__name__, OTHER)


# -- now -------------------------------------------------------------------------------------------


class Direct:
    """Calls with delivery="now", each in the journal before and after."""

    def __init__(self, journal: Journal, options: dict[str, Any]) -> None:
        self._journal = journal
        self._options = options

    def call(self, prefix: str, first: int, count: int, **more: Any) -> str:
        """Publish so many messages; return their outcomes."""
        self._journal.write("B", prefix, first, count)
        ids = [f"{prefix}{number}" for number in range(first, first + count)]
        options = {**self._options, **more}
        try:
            if count == 1:
                publish(body(ids[0]), message_id=ids[0], delivery="now", **options)
                outcomes = CONFIRMED
            else:
                messages = [Message(body(one), message_id=one) for one in ids]
                publish_many(messages, delivery="now", **options)
                outcomes = CONFIRMED * count
        except PublishManyError as error:
            outcomes = "".join(map(letter, error.outcomes))
        except Exception as error:  # whatever it raises is an outcome, and may be a wrong one
            outcomes = letter(error) * count
            if OTHER in outcomes:
                self._journal.write("!", repr(error).replace("\n", " "))
        self._journal.write("E", prefix, first, outcomes)
        return outcomes


def direct(process: Process, thread: int, quota: int) -> None:
    """Until so many are confirmed."""
    chance, gauge = process.chance(thread), process.gauge
    calls = Direct(process.journal, process.options["publish"])
    prefix = f"{process.name}-"
    while quota > 0 and not gauge.stopping:
        order = gauge.take_order() if thread == 0 else 0
        count = 1 if chance.random() < 0.85 else chance.choice((20, 50, 100, 200))
        more: dict[str, Any] = {}
        name = prefix
        if order == POISON:
            # The broker closes the channel over it (406), whoever else uses it.
            count, name, more = 1, f"{process.name}-p", {"user_id": "nobody"}
        elif order == FORK:
            _fork(process, chance)
        elif chance.random() < 0.02:
            # A queue that is deleted now and then: what it held is gone.
            name, more = f"{process.name}-v", {"queue": process.options["volatile"]}
        first = process.next(count)
        gauge.begin(thread, count)
        outcomes = calls.call(name, first, count, **more)
        confirmed = outcomes.count(CONFIRMED)
        gauge.end(thread, confirmed)
        quota -= confirmed
        # So that the queues are not larger than they need be when a broker has to read them again.
        time.sleep(PAUSE if "U" in outcomes else chance.uniform(0, 2 * process.options["rest"]))


def _fork(process: Process, chance: random.Random) -> None:
    """A child publishes over a connection of its own while the parent's threads go on."""
    name = f"{process.name}f{process.next()}"
    count = chance.randrange(1, 100)
    if child := os.fork():
        os.waitpid(child, 0)
        return
    try:
        calls = Direct(Journal(process.place / f"{name}.journal"), process.options["publish"])
        calls.call(f"{name}-", 0, count)
    finally:
        os._exit(0)


# -- in transactions -------------------------------------------------------------------------------


class Undo(Exception):
    """Rolls a block back."""


class Sending:
    """A transaction's messages, each with a business row that records what is true."""

    def __init__(self, process: Process, stem: str) -> None:
        self._options = process.options["publish"]
        self._stem = stem
        self._next = 0
        self.ids: list[str] = [f"{stem}.{number}" for number in range(6)]

    def send(self, count: int = 1, delivery: str = "outbox", **more: Any) -> None:
        """Do some business and publish that it was done."""
        ids = self.ids[self._next : self._next + count]
        self._next += count
        self.send_as(ids, delivery, **more)

    def send_as(self, ids: list[str], delivery: str = "outbox", **more: Any) -> None:
        """The same under these ids."""
        with connection.cursor() as cursor:
            for one in ids:
                cursor.execute("INSERT INTO chaos_business (message_id) VALUES (%s)", [one])
        options = {**self._options, "delivery": delivery, **more}
        if len(ids) == 1:
            publish(body(ids[0]), message_id=ids[0], **options)
        else:
            publish_many([Message(body(one), message_id=one) for one in ids], **options)


@contextlib.contextmanager
def _told(process: Process, thread: int, ids: list[str]) -> Iterator[None]:
    """Write in the journal how a transaction ended."""
    process.journal.write("B", *ids)
    process.gauge.begin(thread, 1)
    try:
        yield
    except Undo:
        process.journal.write("R", *ids)
    except Error as error:
        process.journal.write("D", *ids)
        process.journal.write("#", type(error).__name__, str(error).replace("\n", " "))
        connection.close()
        time.sleep(PAUSE)
    else:
        process.journal.write("C", *ids)
    process.gauge.end(thread, 1)


def stored(process: Process, thread: int, quota: int) -> None:
    """So many transactions: some rolled back, some with savepoints, and these rolled back or not."""
    chance, gauge = process.chance(thread), process.gauge
    pause = process.options["pause"]
    for _ in range(quota):
        if gauge.stopping:
            break
        sending = Sending(process, f"{process.name}-{process.next()}")
        with _told(process, thread, sending.ids), atomic():
            sending.send()
            if chance.random() < 0.3:
                with contextlib.suppress(Undo), atomic():
                    sending.send()
                    if chance.random() < 0.5:
                        raise Undo
            if chance.random() < 0.2:
                sending.send(3)
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0, pause))
            if chance.random() < 0.3:
                raise Undo
    connection.close()


def failing(process: Process, thread: int, quota: int) -> None:
    """As `stored`, half of it by on_commit, which leaves rows that have failed."""
    chance, gauge = process.chance(thread), process.gauge
    for _ in range(quota):
        if gauge.stopping:
            break
        sending = Sending(process, f"{process.name}-{process.next()}")
        with _told(process, thread, sending.ids), atomic():
            sending.send(1, chance.choice(("outbox", "on_commit")))
        time.sleep(process.options.get("rest", 0.0))
    connection.close()


def late(process: Process, thread: int, quota: int) -> None:
    """Another app's hook keeps the sending back until the grace is over."""
    for _ in range(quota):
        sending = Sending(process, f"{process.name}-{process.next()}")
        with _told(process, thread, sending.ids), atomic():
            on_commit(lambda: time.sleep(process.options["late"]))
            sending.send()
    connection.close()


def ordered(process: Process, thread: int, quota: int) -> None:
    """Transactions that serialise per key by a row lock; the id tells the key and the number in it."""
    chance, gauge = process.chance(thread), process.gauge
    keys = process.options["keys"]
    for _ in range(quota):
        if gauge.stopping:
            break
        key, number = chance.randrange(keys), process.next()
        name = f"{process.name}-{number}"
        with _told(process, thread, [name]), atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT seq FROM chaos_key WHERE id = %s FOR UPDATE", [key])
                seq = cursor.fetchone()[0] + 1
                cursor.execute("UPDATE chaos_key SET seq = %s WHERE id = %s", [seq, key])
            sending = Sending(process, name)
            more = {}
            if process.options.get("first_is_late") and seq == 1:
                more = {"routing_key": process.options["late_key"]}
            sending.send_as([f"{key}:{seq}:{name}"], ordering_key=f"key {key}", **more)
            if chance.random() < 0.1:
                raise Undo
        time.sleep(chance.uniform(0, process.options["pause"]))
    connection.close()


# -- under an alarm --------------------------------------------------------------------------------


def alarmed(process: Process, thread: int, quota: int) -> None:
    """Every delivery in turn, while the broker takes nothing; tells how long the calls took."""
    chance, gauge = process.chance(thread), process.gauge
    calls = Direct(process.journal, process.options["publish"])
    calls.call(f"{process.name}-", process.next(), 1)
    gauge.end(thread, 1)
    while thread == 0 and gauge.take_order() != GO:
        time.sleep(0.01)
    if thread == 0:
        process.options["go"] = True
    while not process.options.get("go"):
        time.sleep(0.01)
    refused = False
    seconds: list[float] = []
    longest = 0.0
    for _ in range(quota):
        delivery = chance.choice(("now", "on_commit", "outbox"))
        began = time.monotonic()
        if delivery == "now":
            gauge.begin(thread, 1)
            ended = calls.call(f"{process.name}-", process.next(), 1)
            gauge.end(thread, 1)
            taken = time.monotonic() - began
            if refused:
                seconds.append(taken)
            refused = refused or ended != CONFIRMED
        else:
            sending = Sending(process, f"{process.name}-{process.next()}")
            with _told_apart(process, thread, sending.ids[:1]), atomic():
                sending.send(1, delivery)
            taken = time.monotonic() - began
            if refused:
                seconds.append(taken)
        longest = max(longest, taken)
    seconds.sort()
    p99 = seconds[int(len(seconds) * 0.99)] if seconds else 0.0
    half = seconds[len(seconds) // 2] if seconds else 0.0
    process.journal.write(
        "=", len(seconds), f"{half:.6f}", f"{p99:.6f}", f"{seconds[-1]:.6f}", f"{longest:.6f}"
    )
    connection.close()


@contextlib.contextmanager
def _told_apart(process: Process, thread: int, ids: list[str]) -> Iterator[None]:
    """As `_told`, in words that the journal of direct calls keeps as notes."""
    process.gauge.begin(thread, 1)
    yield
    process.journal.write("C", *ids)
    process.gauge.end(thread, 1)


KINDS: dict[str, Callable[[Process, int, int], None]] = {
    "direct": direct,
    "stored": stored,
    "failing": failing,
    "late": late,
    "ordered": ordered,
    "alarmed": alarmed,
}
