"""Empties a queue into a file of ids; a process of its own, since there may be a million.

Run as ``python -m tests.chaos.drain URL QUEUE FILE``. A line is the id, and the one in the body where
that is another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pika

from .checker import Arrived

_ROOT = Path(__file__).parents[2]


def drain(url: str, queue: str, path: Path) -> None:
    """Take all messages out, in order, until the queue is empty and nothing is under way."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    # A queue that was made an instant before a broker was killed may be gone.
    channel.queue_declare(queue, durable=True)
    lines: list[str] = []

    def take(_: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        own = properties.message_id or ""
        inside = body.partition(b"|")[0].decode("utf-8", "replace")
        lines.append(own if own == inside else f"{own} {inside}")
        if method.delivery_tag % 500 == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)

    channel.basic_qos(prefetch_count=2000)
    tag = channel.basic_consume(queue, take)
    seen = -1
    while seen != len(lines) or _ready(channel, queue):
        seen, until = len(lines), time.monotonic() + 0.5
        while seen == len(lines) and time.monotonic() < until:
            connection.process_data_events(time_limit=0.1)
    channel.basic_cancel(tag)
    path.write_text("".join(f"{line}\n" for line in lines))
    # What is not acknowledged goes back into the queue, which is deleted.
    channel.queue_delete(queue)
    connection.close()


def _ready(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def drain_all(url: str, queues: Sequence[str], place: Path) -> Arrived:
    """Empty the queues, side by side; the ids of each queue are in its order."""
    running = []
    for number, queue in enumerate(queues):
        path = place / f"drained.{number}"
        command = [sys.executable, "-m", "tests.chaos.drain", url, queue, str(path)]
        running.append((subprocess.Popen(command, cwd=_ROOT, env={**os.environ}), path))
    ids: list[str] = []
    strangers: list[str] = []
    for process, path in running:
        if process.wait():
            raise RuntimeError(f"a queue could not be emptied (exit code {process.returncode})")
        for line in path.read_text().splitlines():
            own, _, inside = line.partition(" ")
            ids.append(own)
            if inside:
                strangers.append(f"{inside} as {own}")
    return Arrived(ids, strangers)


if __name__ == "__main__":
    drain(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
