"""rmq_publisher's stored messages."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika

from .work import configure_django

Measured = dict[str, Any]
BODY = b"{" + b" " * 1022 + b"}"
TABLE = "rmq_publisher_outboxmessage"


class Peer:
    """Django, the table, a broker.

    Args:
        told: ``url``, ``queue``, ``database``, and the RMQ_ ``settings``.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.queue: str = told["queue"]
        configure_django(told, "rmq_publisher", RMQ_URL=told["url"], **told.get("settings", {}))
        from django.db import connection  # noqa: PLC0415 (after the settings)

        from rmq_publisher.outbox import after_commit  # noqa: PLC0415

        self.connection = connection
        self.send_committed = after_commit.send_committed
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, note text)"
            )

    def _sql(self, sql: str, *values: Any) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def empty(self) -> Measured:
        self._sql(f"TRUNCATE {TABLE}")
        self._sql(f"VACUUM ANALYZE {TABLE}")
        return {}

    def fill(self, messages: int, keys: int = 0) -> None:
        """Rows that are due at once, with so many keys in turn; nobody sends them yet."""
        from rmq_publisher import Message, publish_many  # noqa: PLC0415
        from rmq_publisher.outbox import after_commit  # noqa: PLC0415

        after_commit.send_committed = lambda *_: None
        items = [
            Message(BODY, ordering_key=f"key-{number % keys}" if keys else None)
            for number in range(messages)
        ]
        publish_many(items, queue=self.queue, delivery="outbox")
        after_commit.send_committed = self.send_committed
        self._sql(
            f"UPDATE {TABLE} SET token = 0, available_at = now() "
            "WHERE state = 'pending' AND scheduled_at IS NULL"
        )
        self._sql(f"VACUUM ANALYZE {TABLE}")

    # Rates

    def relay(self, messages: int, keys: int = 0) -> Measured:
        """So many rows through one relay."""
        from rmq_publisher.outbox.relay import Relay  # noqa: PLC0415

        self.fill(messages, keys)
        relay = Relay("default", once=True)
        started, cpu = time.perf_counter(), time.process_time()
        relay.run()
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {"messages": relay.sent, "seconds": seconds, "cpu": used}

    def many(self, messages: int) -> Measured:
        """The same messages by `publish_many` without the table."""
        from rmq_publisher import publish_many  # noqa: PLC0415

        started, cpu = time.perf_counter(), time.process_time()
        publish_many([BODY] * messages, queue=self.queue, delivery="now")
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {"messages": messages, "seconds": seconds, "cpu": used}

    # What a request pays

    def request(self, delivery: str, threads: int, seconds: float) -> Measured:
        """Requests that insert one row and publish one message; ``delivery`` may be "" for none.

        ``"written"`` is the outbox of which nothing is sent.
        """
        from rmq_publisher.outbox import after_commit  # noqa: PLC0415

        if is_written := delivery == "written":
            after_commit.send_committed, delivery = lambda *_: None, "outbox"
        with ThreadPoolExecutor(threads) as pool:
            gate = threading.Barrier(threads)
            jobs = [pool.submit(self._requests, delivery, seconds, gate) for _ in range(threads)]
            taken = [latency for job in jobs for latency in job.result()]
        after_commit.send_committed = self.send_committed
        after_commit.flush(30)
        sent = 0 if is_written or not delivery else len(taken)
        return {"messages": sent, "p50": statistics.median(taken) * 1e3}

    def _requests(self, delivery: str, seconds: float, gate: threading.Barrier) -> list[float]:
        from django.db import connection, transaction  # noqa: PLC0415

        from rmq_publisher import publish  # noqa: PLC0415

        clock, taken = time.perf_counter, []
        connection.ensure_connection()
        gate.wait()
        end = clock() + seconds
        while (before := clock()) < end:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders (note) VALUES ('benchmark')")
                if delivery:
                    publish(BODY, queue=self.queue, delivery=delivery)
            taken.append(clock() - before)
        connection.close()
        return taken

    # From commit to queue

    def arrival(self, messages: int) -> Measured:
        """How long after its commit a message is in a consumer's hands; one after the other."""
        from django.db import transaction  # noqa: PLC0415

        from rmq_publisher import publish  # noqa: PLC0415

        clock, taken = time.perf_counter, []
        committed: list[float] = []
        arrivals = Arrivals(self.told["url"], self.queue)
        for _ in range(messages):
            with transaction.atomic():
                self._sql("INSERT INTO orders (note) VALUES ('benchmark')")
                transaction.on_commit(lambda: committed.append(clock()))
                publish(BODY, queue=self.queue, delivery="outbox")
            taken.append(arrivals.wait() - committed.pop())
        arrivals.close()
        return {
            "messages": 0,
            "p50": statistics.median(taken) * 1e3,
            "p99": sorted(taken)[-1 - messages // 100] * 1e3,
        }

    def start_relay(self) -> Measured:
        """A relay on our database, in a process of its own."""
        told = json.dumps({**self.told, "migrate": False})
        command = [sys.executable, "-m", "tests.bench.stored.relaying", told]
        self._relay = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._relay.stdout is not None
        self._relay.stdout.readline()
        return {}

    def end_relay(self) -> Measured:
        self._relay.terminate()
        self._relay.wait(30)
        return {}

    def confirmed(self, messages: int) -> Measured:
        """One confirmed publish, for comparison."""
        from rmq_publisher import publish  # noqa: PLC0415

        clock, taken = time.perf_counter, []
        for _ in range(messages):
            before = clock()
            publish(BODY, queue=self.queue, delivery="now")
            taken.append(clock() - before)
        return {"messages": messages, "p50": statistics.median(taken) * 1e3}

    # Claims

    def claim(self, delivered: int, pending: int, rounds: int) -> Measured:
        """The claim of a batch beside so many rows that are history."""
        self._sql(f"TRUNCATE {TABLE}")
        if delivered:
            self._history(delivered)
        return self._claims(rounds, pending)

    def _claims(self, rounds: int, pending: int = 1000) -> Measured:
        from rmq_publisher.outbox import claims  # noqa: PLC0415

        self.fill(pending)
        taken = []
        for _ in range(rounds + 10):
            before = time.perf_counter()
            rows = claims.claim(
                "default", aliases=["default"], limit=256, max_bytes=2**24, lease=60
            )
            taken.append(time.perf_counter() - before)
            assert len(rows) == 256
            mine = ", ".join(str(row.id) for row in rows)  # by their ids: no look at the millions
            self._sql(f"UPDATE {TABLE} SET token = 0, available_at = now() WHERE id IN ({mine})")
        self._sql(f"TRUNCATE {TABLE}")
        return {"p50": statistics.median(taken[10:]) * 1e3}

    def _history(self, delivered: int) -> None:
        self.fill(1)
        kept = "message_id, using, exchange, routing_key, ordering_key, correlation_id, header, topology"
        quoted = kept.replace("using", '"using"')
        self._sql(
            f"INSERT INTO {TABLE} ({quoted}, body, size, state, token, attempts, unanswered, "
            "created_at, available_at, failed_at, last_failed_at, finished_at, "
            "first_error_type, first_error_text, "
            "last_error_type, last_error_text, history) "
            f"SELECT {quoted}, 'x', 1, 'delivered', 0, 1, 0, now(), NULL, now(), now(), now(), "
            f"'Nacked', '', 'Nacked', '', '[]' FROM {TABLE}, generate_series(1, {delivered})"
        )
        self._sql(f"DELETE FROM {TABLE} WHERE state = 'pending'")
        self._sql(f"VACUUM ANALYZE {TABLE}")

    # What waits for its time

    def waiting(self, waiting: int, rounds: int) -> Measured:
        """The claim of a batch beside so many rows that are due tomorrow."""
        self._sql(f"TRUNCATE {TABLE}")
        self._tomorrow(waiting)
        return self._claims(rounds)

    def _tomorrow(self, waiting: int) -> None:
        if not waiting:
            return
        self.fill(1)
        columns = ", ".join(f'"{name}"' for name in self._columns())
        later = "now() + interval '1 day'"
        values = columns.replace('"available_at"', later).replace('"scheduled_at"', later)
        self._sql(
            f"INSERT INTO {TABLE} ({columns}) SELECT {values} FROM {TABLE}, "
            f"generate_series(1, {waiting})"
        )
        self._sql(f"DELETE FROM {TABLE} WHERE scheduled_at IS NULL")
        self._sql(f"VACUUM ANALYZE {TABLE}")

    def _columns(self) -> list[str]:
        from rmq_publisher.models import OutboxMessage  # noqa: PLC0415

        return [
            field.column for field in OutboxMessage._meta.concrete_fields if field.name != "id"
        ]

    def lateness(self, messages: int, waiting: int) -> Measured:
        """Seconds between the time of messages with ``countdown=2`` and their confirms."""
        from rmq_publisher import publish, signals  # noqa: PLC0415
        from rmq_publisher.outbox.relay import Relay  # noqa: PLC0415

        self._sql(f"TRUNCATE {TABLE}")
        self._tomorrow(waiting)
        sent: dict[str, float] = {}

        def arrive(message_id: str, **_: Any) -> None:
            sent[message_id] = time.time()  # the database's clock: it is on this machine

        signals.message_published.connect(arrive)
        relay = Relay("default")
        thread = threading.Thread(target=relay.run)
        thread.start()
        due: dict[str, float] = {}
        for _ in range(messages):
            id_ = publish(BODY, queue=self.queue, countdown=2)
            [(at,)] = self._sql(
                f"SELECT extract(epoch FROM scheduled_at) FROM {TABLE} WHERE message_id = %s", id_
            )
            due[id_] = float(at)
            time.sleep(0.037)  # not in step with the relay's polls
        until = time.monotonic() + 30
        while len(sent) < messages and time.monotonic() < until:
            time.sleep(0.05)
        relay.stop()
        thread.join()
        late = [sent[id_] - at for id_, at in due.items()]
        self._sql(f"TRUNCATE {TABLE}")
        return {"first": min(late), "p50": statistics.median(late), "last": max(late)}

    def race(self, messages: int) -> Measured:
        """`cancel` of messages that are due, while a relay sends them: how many of each."""
        from rmq_publisher import Message, cancel, publish_many  # noqa: PLC0415
        from rmq_publisher.outbox.relay import Relay  # noqa: PLC0415

        self._sql(f"TRUNCATE {TABLE}")
        items = [Message(BODY, countdown=0.5) for _ in range(messages)]
        ids = publish_many(items, queue=self.queue)
        self._sql(f"UPDATE {TABLE} SET available_at = now(), scheduled_at = now()")
        relay = Relay("default", batch_size=64)
        thread = threading.Thread(target=relay.run)
        thread.start()
        cancelled = sum(cancel(id_) for id_ in reversed(ids))
        relay.stop()
        thread.join()
        rest = Relay("default", once=True)
        rest.run()
        [(left,)] = self._sql(f"SELECT count(*) FROM {TABLE}")
        return {"messages": relay.sent + rest.sent, "cancelled": cancelled, "left": left}

    def bad_keys(self, case: str, rows: int) -> Measured:
        """The longest claim of keyed rows where claims are known to go wrong."""
        from rmq_publisher.outbox import claims  # noqa: PLC0415

        self._sql(f"TRUNCATE {TABLE}")
        self.fill(rows, keys=rows // 2)
        if case == "every head leased":
            self._sql(
                f"UPDATE {TABLE} SET token = 1, available_at = now() + interval '1 hour' WHERE id IN "
                f"(SELECT min(id) FROM {TABLE} GROUP BY ordering_key)"
            )
        else:  # half of the rows share one key
            self._sql(f"UPDATE {TABLE} SET ordering_key = 'key-0' WHERE id % 2 = 0")
        self._sql(f"VACUUM ANALYZE {TABLE}")
        taken, claimed, after = [], 0, ""
        for _ in range(100):
            before = time.perf_counter()
            found, after = claims.claim_keys(
                "default",
                aliases=["default"],
                limit=256,
                max_bytes=2**24,
                lease=60,
                after_key=after,
            )
            taken.append(time.perf_counter() - before)
            claimed += len(found)
        self._sql(f"TRUNCATE {TABLE}")
        return {"p50": statistics.median(taken) * 1e3, "max": max(taken) * 1e3, "claimed": claimed}


class Arrivals:
    """A consumer on a thread of its own, which notes when each message came."""

    def __init__(self, url: str, queue: str) -> None:
        self._times: list[float] = []
        self._news = threading.Semaphore(0)
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.basic_consume(queue, self._on_message, auto_ack=True)
        self._thread = threading.Thread(target=self._channel.start_consuming, daemon=True)
        self._thread.start()

    def _on_message(self, *_: object) -> None:
        self._times.append(time.perf_counter())
        self._news.release()

    def wait(self) -> float:
        """The time of the next message."""
        assert self._news.acquire(timeout=60)
        return self._times.pop(0)

    def close(self) -> None:
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join()
        self._connection.close()
