"""What a worker process can be told to do; a peer's module says how it publishes."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Publish = Callable[[bytes], object]
Measured = dict[str, Any]


def summary(latencies: Iterable[float], seconds: float, cpu: float) -> Measured:
    """Numbers of one round; the latencies in whole microseconds."""
    taken = [round(latency * 1e6) for latency in latencies]
    return {"messages": len(taken), "seconds": seconds, "cpu": cpu, "latencies": taken}


def configure_django(apps: Sequence[str] = (), **settings: Any) -> None:
    """Django with an SQLite database in memory and one table."""
    import django  # noqa: PLC0415 (not every peer loads it)
    from django.conf import settings as django_settings  # noqa: PLC0415

    if django_settings.configured:
        return
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    django_settings.configure(
        INSTALLED_APPS=list(apps),
        DATABASES={"default": database},
        USE_TZ=True,
        SECRET_KEY="only-for-the-benchmark",
        **settings,
    )
    django.setup()


class Peer:
    """A client of the broker, measured in its own process.

    Args:
        url: the broker's.
        queue: a durable classic queue that exists.
    """

    def __init__(self, url: str, queue: str) -> None:
        self.url = url
        self.queue = queue
        self.body = b"{" + b" " * 1022 + b"}"  # 1 KB of JSON
        self._local = threading.local()
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._table = False

    # What a peer's module says

    def publisher(self) -> Publish:
        """Called once in each publishing thread: what publishes one confirmed message."""
        raise NotImplementedError

    # What the benchmark tells it to do

    def each(self, threads: int, seconds: float) -> Measured:
        """Publish one message after the other in so many threads."""
        pool = self._pools.setdefault(threads, ThreadPoolExecutor(threads))
        gate = threading.Barrier(threads + 1)
        jobs = [pool.submit(self._publish_for, gate, seconds) for _ in range(threads)]
        gate.wait()
        started, cpu = time.perf_counter(), time.process_time()
        latencies = list(itertools.chain.from_iterable(job.result() for job in jobs))
        return summary(latencies, time.perf_counter() - started, time.process_time() - cpu)

    def many(self, messages: int) -> Measured:
        """Publish so many messages, all known beforehand, as fast as it can be done."""
        bodies = [self.body] * messages
        started, cpu = time.perf_counter(), time.process_time()
        self.publish_all(bodies)
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {"messages": messages, "seconds": seconds, "cpu": used}

    def publish_all(self, bodies: list[bytes]) -> None:
        publish = self._publish()
        for body in bodies:
            publish(body)

    def transaction(self, messages: int, transactions: int) -> Measured:
        """Publish so many messages after the commit of one transaction, which writes one row."""
        self._make_table()
        taken = []
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(transactions):
            before = time.perf_counter()
            self._commit(messages)
            taken.append(time.perf_counter() - before)
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {**summary(taken, seconds, used), "messages": messages * transactions}

    def commit_publisher(self) -> Publish:
        """What is called in the transaction: has a message published once it has committed."""
        from django.db import transaction  # noqa: PLC0415

        publish = self._publish()
        return lambda body: transaction.on_commit(functools.partial(publish, body))

    # Inside

    def _publish(self) -> Publish:
        if not hasattr(self._local, "publish"):
            self._local.publish = self.publisher()
        publish: Publish = self._local.publish
        return publish

    def _publish_for(self, gate: threading.Barrier, seconds: float) -> list[float]:
        publish, body, clock = self._publish(), self.body, time.perf_counter
        latencies = []
        gate.wait()
        now = clock()
        end = now + seconds
        while now < end:
            publish(body)
            before, now = now, clock()
            latencies.append(now - before)
        return latencies

    def _make_table(self) -> None:
        configure_django()
        if not self._table:
            from django.db import connection  # noqa: PLC0415

            connection.cursor().execute("CREATE TABLE orders (id integer PRIMARY KEY, note text)")
            self._table = True

    def _commit(self, messages: int) -> None:
        from django.db import connection, transaction  # noqa: PLC0415

        publish = self.commit_publisher()
        with transaction.atomic():
            connection.cursor().execute("INSERT INTO orders (note) VALUES ('benchmark')")
            for _ in range(messages):
                publish(self.body)
