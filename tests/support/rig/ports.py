"""Private ports on the loopback address that no other test process is given too."""

from __future__ import annotations

import random
import socket
import sys
from typing import Self

# Below the range from which the kernel draws the ports of outgoing connections: nobody can be
# handed one of ours while a killed node is down.
_FIRST, _LAST = 20000, 32000

# Held for the life of the process; the kernel drops them with it, so nothing goes stale.
_reservations: dict[int, socket.socket] = {}


def free_port() -> int:
    """A port nobody listens on, reserved against other test processes (xdist's workers too)."""
    rng = random.SystemRandom()
    for _ in range(200):
        port = rng.randrange(_FIRST, _LAST)
        if port not in _reservations and _reserve(port):
            if _bindable(port):
                return port
            release_port(port)
    raise RuntimeError(f"no free port found between {_FIRST} and {_LAST}")


def release_port(port: int) -> None:
    """Let others have the port again."""
    held = _reservations.pop(port, None)
    if held is not None:
        held.close()


def closed_port() -> int:
    """A port that refuses connections, for as long as this process lives."""
    return free_port()


def _reserve(port: int) -> bool:
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sys.platform == "linux":
        try:
            held.bind(f"\0rmq-publisher-rig-{port}")  # abstract: leaves no file behind
        except OSError:
            held.close()
            return False
    _reservations[port] = held
    return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class SilentPort:
    """Listens and never answers: the kernel's backlog accepts, nobody reads."""

    def __init__(self) -> None:
        self.port = free_port()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self._socket.listen(128)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def close(self) -> None:
        self._socket.close()
        release_port(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
