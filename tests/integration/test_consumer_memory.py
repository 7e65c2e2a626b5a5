"""What a running consumer's process holds after hostile messages: in a process of its own."""

import bz2
import gzip
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from pika import BasicProperties

from tests.support.rig import PATIENCE
from tests.support.rig.amqp import Amqp

ROOT = Path(__file__).parents[2]
MIB = 2**20
LIMIT = 8 * MIB  # of a body
ROOM = 64  # MiB that may be held afterwards
BOMB = 80  # MiB
# Measures after a first message, says so, and measures again after so many others were rejected.
CONSUMER = f"""
import sys
import django
from django.conf import settings
url, queue, hostile = sys.argv[1], sys.argv[2], int(sys.argv[3])
settings.configure(
    INSTALLED_APPS=["rmq_publisher"], RMQ_URL=url, RMQ_MAX_BODY_SIZE={LIMIT}, DATABASES={{}}
)
django.setup()
from rmq_publisher import Consumer

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

handled, refused = [], []
def handle(body, message):
    handled.append(body)
    message.ack()
def refuse(message, error):
    refused.append(type(error).__name__)
    message.reject()
with Consumer([queue], callbacks=[handle], on_decode_error=refuse, accept=["json"]) as consumer:
    consumer.run(limit=1, timeout=60)
    before = resident()
    print("ready", flush=True)
    consumer.run(limit=hostile + 1, timeout=60)
    after = resident()
assert handled == ["first", "last"], len(handled)
print(len(refused), round(after - before))
"""


def _hostile() -> list[tuple[bytes, BasicProperties]]:
    """Bodies that become much larger, that are larger than may be held, and that are no JSON."""
    bomb = bytes(BOMB * MIB)
    kind = {"content_type": "application/json", "content_encoding": "utf-8"}
    packed = {
        "application/x-gzip": zlib.compress(bomb, 1),
        "application/x-bz2": bz2.compress(bomb),
    }
    found = [
        (body, BasicProperties(**kind, headers={"compression": name}))
        for name, body in packed.items()
    ]
    gzipped = gzip.compress(bomb, 1)
    encoded = BasicProperties(content_type="application/json", content_encoding="gzip")
    found += [(gzipped, encoded), (gzipped[: len(gzipped) // 2], encoded)]
    found += [(bytes(3 * LIMIT), BasicProperties(**kind))] * 4
    found += [(b"[" * (LIMIT - 1), BasicProperties(**kind))] * 2
    found += [(b"{", BasicProperties(**kind, headers={"h": "x" * 100_000}))] * 20
    pickled = BasicProperties(content_type="application/x-python-serialize")
    found.append((pickle.dumps(bomb[:MIB]), pickled))
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_hostile_messages_leave_nothing_behind_in_memory(amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    kind = BasicProperties(content_type="application/json")
    hostile = _hostile()
    amqp.channel.basic_publish("", queue, b'"first"', kind)
    consumer = subprocess.Popen(
        [sys.executable, "-c", CONSUMER, amqp.url, queue, str(len(hostile))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    with consumer:
        try:
            assert consumer.stdout is not None
            assert consumer.stdout.readline() == "ready\n"
            for body, properties in [*hostile, (b'"last"', kind)]:
                amqp.channel.basic_publish("", queue, body, properties)
            output, errors = consumer.communicate(timeout=6 * PATIENCE)
        finally:
            consumer.kill()
    assert consumer.returncode == 0, errors[-2000:]
    refused, grown = map(int, output.split())
    assert refused == len(hostile)
    assert grown < ROOM
