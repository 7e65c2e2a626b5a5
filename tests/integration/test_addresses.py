"""A host with several addresses: each is tried, whatever is wrong with those before it."""

import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from rmq_publisher import BrokerUnavailable, Consumer, connections
from tests.support.calls import PATIENCE, error_of, now, status
from tests.support.rig.amqp import Amqp
from tests.support.rig.ports import closed_port


def here(broker: Any) -> tuple[str, int]:
    return "127.0.0.1", urlsplit(broker.url).port or 5672


@pytest.fixture
def host(
    monkeypatch: pytest.MonkeyPatch, broker: Any, rmq: Any
) -> Iterator[list[tuple[str, int]]]:
    """A name whose addresses the test lists."""
    parts = urlsplit(broker.url)
    addresses: list[tuple[str, int]] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "broker.example":
            return real(host, port, *args, **options)
        if (args[3] if len(args) > 3 else options.get("flags", 0)) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not in figures")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    rmq.RMQ_URL = f"amqp://{parts.username}:{parts.password}@broker.example:{parts.port}/"
    rmq.RMQ_CONNECT_TIMEOUT = 1
    rmq.RMQ_PUBLISH_TIMEOUT = PATIENCE
    yield addresses
    connections.close()


@pytest.fixture(params=["closes", "silent", "nobody", "reset"])
def bad(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """An address of this machine at which there is no broker."""
    if request.param == "nobody":
        yield "127.0.0.9", closed_port()
        return

    with socket.create_server(("127.0.0.9", 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                if request.param == "silent":
                    held.append(client)
                    continue
                if request.param == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)  # ends accept()
        thread.join()
        for client in held:
            client.close()


def test_every_address_of_a_host_is_tried(
    host: list[tuple[str, int]], bad: tuple[str, int], broker: Any, amqp: Amqp
) -> None:
    host += [bad, here(broker)]
    queue = amqp.declare_queue()
    now(b"x", queue=queue)
    assert status().connects == 1
    assert amqp.depth(queue) == 1


@pytest.mark.parametrize("bad", ["silent"], indirect=True)
def test_several_silent_addresses_leave_time_for_the_living_one(
    host: list[tuple[str, int]], bad: tuple[str, int], broker: Any, amqp: Amqp, rmq: Any
) -> None:
    """Within one call, though each could take all of its time to connect."""
    rmq.RMQ_CONNECT_TIMEOUT = rmq.RMQ_PUBLISH_TIMEOUT = 6
    host += [bad, bad, here(broker)]
    queue = amqp.declare_queue()
    now(b"x", queue=queue)
    assert amqp.depth(queue) == 1


def test_a_consumer_too(
    host: list[tuple[str, int]], bad: tuple[str, int], broker: Any, amqp: Amqp
) -> None:
    host += [bad, here(broker)]
    consumer = Consumer([amqp.declare_queue()])
    consumer.consume()
    consumer.close()


def test_where_none_is_left_each_is_told(
    host: list[tuple[str, int]], bad: tuple[str, int]
) -> None:
    host += [bad, ("127.0.0.8", closed_port())]
    error = error_of(queue="q", timeout=PATIENCE)
    assert isinstance(error, BrokerUnavailable)
    assert "broker.example" in str(error)
    assert "127.0.0.9" in str(error)
    assert "127.0.0.8" in str(error)


def test_no_thread_to_look_a_name_up(
    host: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, rmq: Any, broker: Any
) -> None:
    """It is told as what it is; an address in figures needs none."""

    def start(_timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", start)
    error = error_of(queue="q", timeout=PATIENCE)
    assert isinstance(error, BrokerUnavailable)
    assert "can't start new thread" in str(error)
    connections.close()
    rmq.RMQ_URL = broker.url
    now(routing_key="q", mandatory=False)
