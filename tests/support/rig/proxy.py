"""A TCP proxy on the loopback address that knows AMQP's frames and breaks things on order."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from . import PATIENCE, faults, wire
from .faults import Fault, Stall
from .link import Link
from .loop import Loop
from .ports import SilentPort, closed_port, free_port, release_port

__all__ = ["Event", "Fault", "Proxy", "SilentPort", "closed_port"]

F = TypeVar("F", bound=Fault)


class Event(NamedTuple):
    """Something that happened, at a time of `time.monotonic()`."""

    at: float
    what: str


class Proxy(Loop):
    """Stands between clients and one broker; its thread ends with the context."""

    def __init__(
        self, upstream_port: int, upstream_host: str = "127.0.0.1", upstream_url: str = ""
    ) -> None:
        super().__init__()
        self._upstream = (upstream_host, upstream_port)
        self._upstream_url = upstream_url or f"amqp://guest:guest@127.0.0.1:{upstream_port}/%2F"
        self.port = free_port()
        self.faults: list[Fault] = []
        self.changed = threading.Condition()
        self.publishes = self.acks = self.nacks = self.returns = 0
        self.connections_made = 0
        self.events: deque[Event] = deque(maxlen=10_000)
        self._links: set[Link] = set()
        self._listener: socket.socket | None = None

    @classmethod
    def to(cls, url: str) -> Self:
        """In front of the broker at this URL."""
        parts = urlsplit(url)
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
        return cls(port, parts.hostname or "127.0.0.1", url)

    @property
    def url(self) -> str:
        """The broker's URL, but through this proxy."""
        parts = urlsplit(self._upstream_url)
        login = parts.netloc.rpartition("@")[0]
        # A certificate is made out to localhost, so TLS keeps that name.
        host = "localhost" if parts.scheme == "amqps" else "127.0.0.1"
        netloc = f"{login}@{host}:{self.port}" if login else f"{host}:{self.port}"
        return urlunsplit(parts._replace(netloc=netloc))

    def start(self) -> Self:
        self._listen()
        return super().start()

    def stop(self) -> None:
        super().stop()
        release_port(self.port)

    # -- faults -------------------------------------------------------------------------------

    def cut(self, reset: bool = True) -> int:
        """Cut all connections now, by RST or by FIN; tells how many there were."""
        return self.order(lambda: self._cut_all(reset))

    def cut_before_publish(self, n: int = 1, reset: bool = True) -> Fault:
        """The nth publish from now never leaves; both sides are cut instead."""
        return self._arm(faults.CutBeforePublish(n, reset))

    def cut_after_publish(self, n: int = 1, reset: bool = True) -> faults.CutAfterPublish:
        """The broker takes and confirms the nth publish from now; the client never hears."""
        return self._arm(faults.CutAfterPublish(n, reset))

    def reset_in_body(self, n: int = 1) -> Fault:
        """A reset in the middle of the body of the nth publish from now."""
        return self._arm(faults.ResetInBody(n))

    def swallow_acks(self, n: int | None = 1) -> Fault:
        """The next n acks never reach the client; None: until disarmed."""
        return self._arm(faults.SwallowAcks(n))

    def delay_acks(self, seconds: float) -> Fault:
        """Acks and nacks are late by so much until disarmed."""
        return self._arm(faults.DelayAcks(seconds))

    def drop_heartbeats(self) -> Fault:
        return self._arm(faults.DropHeartbeats())

    def stall(self, towards: str = "both") -> Stall:
        """Open but silent, towards "client", "broker" or "both": accepts, moves no bytes."""
        fault = self._arm(Stall(towards, self._end_stall))
        self.order(self._refresh)
        return fault

    def resume(self) -> None:
        """End every stall; what was held back goes on its way."""
        for fault in tuple(self.faults):
            if isinstance(fault, Stall):
                self._end_stall(fault)

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        self.order(self._unlisten)

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self.order(self._listen)

    def disarm(self) -> None:
        """Take all faults away and take connections."""
        for fault in tuple(self.faults):
            fault.disarm()
        self.accept()

    # -- statistics ---------------------------------------------------------------------------

    @property
    def connections_open(self) -> int:
        return len(self._links)

    def wait_for_publishes(self, n: int, timeout: float = PATIENCE) -> bool:
        """Wait until n messages in all went by completely."""
        return self._wait(lambda: self.publishes >= n, timeout)

    def wait_for_acks(self, n: int, timeout: float = PATIENCE) -> bool:
        """Wait until n ack frames in all came from the broker (a `multiple` one counts once)."""
        return self._wait(lambda: self.acks >= n, timeout)

    def wait_for_connections(self, n: int, timeout: float = PATIENCE) -> bool:
        """Wait until n connections in all were made."""
        return self._wait(lambda: self.connections_made >= n, timeout)

    def wait_for_open(self, n: int, timeout: float = PATIENCE) -> bool:
        """Wait until exactly n connections are open."""
        return self._wait(lambda: len(self._links) == n, timeout)

    def wait_for_event(self, what: str, timeout: float = PATIENCE) -> bool:
        """Wait for a logged event, for instance "broker Connection.Blocked"."""
        return self._wait(lambda: any(event.what == what for event in self.events), timeout)

    def _wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        with self.changed:
            return self.changed.wait_for(reached, timeout)

    # -- for the links, in the proxy's thread -------------------------------------------------

    def count(self, published: int, answers: list[tuple[int, int]]) -> None:
        if not published and not answers:
            return
        with self.changed:
            self.publishes += published
            self.acks += answers.count(wire.ACK)
            self.nacks += answers.count(wire.NACK)
            self.returns += answers.count(wire.RETURN)
            self.changed.notify_all()

    def log(self, what: str) -> None:
        with self.changed:
            self.events.append(Event(time.monotonic(), what))
            self.changed.notify_all()

    def forget(self, link: Link, why: str) -> None:
        with self.changed:
            self._links.discard(link)
        self.log(f"closed: {why}")

    def stalled(self, to_broker: bool) -> Stall | None:
        for fault in self.faults:
            if isinstance(fault, Stall) and (fault.to_broker if to_broker else fault.to_client):
                return fault
        return None

    # -- inside -------------------------------------------------------------------------------

    def _handle(self, sock: socket.socket, mask: int, data: Any) -> None:
        if isinstance(data, Link):
            data.ready(sock, mask)
        else:
            self._take(sock)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen(128)
            self._listener.setblocking(False)
            self.watch(self._listener, selectors.EVENT_READ, None)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self.watch(self._listener, 0, None)
            self._listener.close()
            self._listener = None

    def _take(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        try:
            broker = socket.create_connection(self._upstream, timeout=5)
        except OSError as error:
            client.close()
            self.log(f"broker unreachable: {type(error).__name__}")
            return
        link = Link(self, client, broker)
        with self.changed:
            self._links.add(link)
            self.connections_made += 1
        self.log("connected")

    def _cut_all(self, reset: bool) -> int:
        links = tuple(self._links)
        for link in links:
            link.cut(reset)
        return len(links)

    def _refresh(self) -> None:
        for link in tuple(self._links):
            link.refresh()

    def _arm(self, fault: F) -> F:
        def arm() -> None:
            self.faults = [*(known for known in self.faults if known.armed), fault]

        self.order(arm)
        return fault

    def _end_stall(self, stall: Stall) -> None:
        def end() -> None:
            stall.armed = False
            self.faults = [fault for fault in self.faults if fault is not stall]
            self._refresh()

        self.order(end)

    def _closing(self) -> None:
        self._unlisten()
        self._cut_all(reset=True)
