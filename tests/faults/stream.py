"""A hostile stream: every frame torn to pieces, bodies larger than any buffer, stalls, and cuts."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from typing import Any, Self

from rmq_publisher import Unroutable, connections
from tests.support.rig import wire
from tests.support.rig.proxy import Proxy

from .cuts import cut_at
from .ledger import Ledger, Load, Reading, counts, percentile
from .result import Result
from .stage import PATIENCE, Stage, until

THREADS = 16
STRIKES = 5  # of each kind
_LARGE = 300_000  # bytes: three frames, and more than a socket takes at once
_CUT, _STALL, _WHAT = "cut of a torn stream", "stall of a torn stream", "torn stream"
_PIECES = (3, 30, 300, 3_000, 30_000)  # bytes, at most


class Shredder:
    """A relay in front of a port that passes bytes on in pieces of any size."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self.torn = {"broker": 0, "client": 0}  # pieces that ended within a frame, by where to
        self._port, self._chance = port, chance
        self._server = socket.socket()
        # A small window, so that a large body is not taken at once.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._server, *self._sockets):
            _hang_up(end)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:  # closed: the end of the scenario
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            except OSError:
                _hang_up(client)
                continue
            broker.settimeout(None)
            for where, source, target in (("broker", client, broker), ("client", broker, client)):
                target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(target)
                thread = threading.Thread(
                    target=self._pass, args=(where, source, target), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pass(self, where: str, source: socket.socket, target: socket.socket) -> None:
        begun = bytearray()
        with contextlib.suppress(OSError):
            if where == "broker":  # the greeting is whole: the proxy knows AMQP by it
                target.sendall(source.recv(8, socket.MSG_WAITALL))
            while piece := source.recv(self._chance.randint(1, self._chance.choice(_PIECES))):
                begun += piece
                del begun[: wire.split(begun)[1]]
                self.torn[where] += bool(begun)
                target.sendall(piece)
        for end in (source, target):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def torn_stream(stage: Stage) -> Result:
    """Confirms, returns, retries and large bodies, none of whose frames comes in one piece."""
    size, chance = stage.size, stage.chance("stream")
    result = Result("A torn stream", ["messages", "outcomes", "p50 ms", "p99 ms", "frames torn"])
    queue = stage.name("stream")
    stage.declare(queue)

    def options(name: str) -> dict[str, Any]:
        key = "nowhere" if _is_lost(name) else queue
        return {"routing_key": key, "padding": _LARGE if _is_large(name) else len(name) * 10}

    with stage.proxy() as proxy, Shredder(proxy.port, chance) as shredder:
        url = proxy.url.replace(str(proxy.port), str(shredder.port))
        with stage.library(url, PUBLISH_TIMEOUT=PATIENCE), Ledger() as ledger:
            load = Load(ledger, THREADS, options).start()
            for _ in range(STRIKES):
                before = len(ledger.confirms)
                until(lambda: len(ledger.confirms) > before + 20)  # noqa: B023
                result.struck(_STALL, _stall(proxy))
                fault = cut_at(proxy, chance.randint(20, 60), chance)
                result.struck(_CUT, fault.in_flight if fault.wait(PATIENCE) else 0)
            load.limit(max(0, size.pieces - len(ledger.attempts)))
            came_back = load.join(2 * PATIENCE)
    received = stage.read(stage.node.url(), queue, len(ledger.confirms))
    result.must_hit(_CUT, STRIKES)
    result.must_hit(_STALL)
    result.one_outcome_each(_WHAT, ledger, came_back)
    result.read_back(_WHAT, Reading.of(ledger.attempts, received), 64 * STRIKES)
    _judge(result, ledger)
    cut_short = sum(
        _is_large(message.properties.message_id) and len(message.body) < _LARGE
        for message in received
    )
    result.promise(_WHAT, "large bodies are whole", not cut_short, f"{cut_short} are not")
    torn = ", ".join(f"{count:,} to the {where}" for where, count in shredder.torn.items())
    result.promise(_WHAT, "frames were torn", min(shredder.torn.values()) > 0, torn)
    times = [f"{percentile(ledger.attempts, share) * 1000:.1f}" for share in (0.5, 0.99)]
    result.rows.append([f"{len(ledger.attempts):,}", counts(ledger.attempts), *times, torn])
    return result


def _is_large(name: str) -> bool:
    return int(name[1:]) % 97 == 1


def _is_lost(name: str) -> bool:
    """Whether it goes where no queue is, and must come back."""
    return int(name[1:]) % 13 == 2


def _stall(proxy: Proxy) -> int:
    """The broker reads nothing for a moment; what was on the wire waits."""
    stall = proxy.stall("broker")
    hit = stall.wait(10)
    time.sleep(0.2)  # while buffers fill
    in_flight = connections["default"].status().in_flight if hit else 0
    stall.disarm()
    return in_flight


def _judge(result: Result, ledger: Ledger) -> None:
    """Each has the outcome that is its own, and nobody another's."""
    wrong = Counter(
        one.kind
        for one in ledger.attempts
        if (Unroutable if _is_lost(one.message_id) else type(None)) is not type(one.error)
    )
    told = f"{wrong.total()} of {len(ledger.attempts):,} have another's"
    result.promise(_WHAT, "each message has its own outcome", not wrong, told)
