"""What keeps a connection from being used is told at once and in the broker's words; no guesses."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rmq_publisher import BrokerUnavailable, Consumer, QueueConfig, Rejected, connections
from rmq_publisher.topology import declare
from tests.support.calls import AT_ONCE, PATIENCE, Took, error_of, now, status
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.certificates import Certificates
from tests.support.rig.faults import Fault, Verdict
from tests.support.rig.link import Link
from tests.support.rig.node import PrivateNode
from tests.support.rig.proxy import Proxy
from tests.support.rig.wire import Frame

Serve = Callable[[socket.socket], None]


class Port:
    """A port that does something with each client, and closes it."""

    def __init__(self, serve: Serve) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # it was closed
            with client:
                try:
                    self._serve(client)
                except OSError:
                    pass

    def close(self) -> None:
        self._server.close()


def at_once(client: socket.socket) -> None:
    """Close it."""


def after_the_header(client: socket.socket) -> None:
    client.recv(8)


def by_reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.fixture
def port() -> Iterator[Callable[[Serve], Port]]:
    ports: list[Port] = []

    def make(serve: Serve) -> Port:
        ports.append(Port(serve))
        return ports[-1]

    yield make
    connections.close()
    for one in ports:
        one.close()


def refused(**options: Any) -> str:
    """The words of an unusable broker: at once, the same from a publish and from `rmq_check`."""
    with Took() as took:
        error = error_of(timeout=PATIENCE, **options)
    assert isinstance(error, BrokerUnavailable)
    assert took.seconds < PATIENCE / 2
    with pytest.raises(BrokerUnavailable) as caught:
        declare.inspect("default")
    assert error.reason in str(caught.value)
    return str(error)


@pytest.mark.parametrize("serve", [at_once, after_the_header, by_reset])
def test_a_port_that_closes(rmq: Any, port: Callable[[Serve], Port], serve: Serve) -> None:
    """A broker that starts, a container's proxy, a load balancer without a target."""
    rmq.RMQ_URL = f"amqp://guest:guest@127.0.0.1:{port(serve).port}"
    text = refused(queue="q")
    # A reset may come while the connection is still being made.
    assert "it was closed before the broker answered" in text or "reset by peer" in text


CLOSED_DURING = {
    (10, 11): "it was closed during the login",  # StartOk
    (10, 31): "it was closed while the vhost was opened",  # TuneOk
}


class CutAfter(Fault):
    def __init__(self, method: tuple[int, int]) -> None:
        super().__init__()
        self._method = method
        self.reset = False

    def from_client(self, link: Link, frame: Frame, step: Any) -> Verdict:
        return Verdict.CUT if frame.method == self._method else Verdict.PASS


@pytest.mark.parametrize("method", CLOSED_DURING)
def test_a_cut_during_the_login(rmq: Any, through: Proxy, method: tuple[int, int]) -> None:
    through._arm(CutAfter(method))
    text = refused(queue="q")
    assert CLOSED_DURING[method] in text
    assert "refused" not in text


@pytest.fixture
def certificates(tls_node: PrivateNode) -> Certificates:
    assert tls_node.certificates is not None
    return tls_node.certificates


@pytest.mark.disturbs
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("other", [False, True])
def test_a_client_certificate_that_is_missing_or_of_another_authority(
    rmq: Any,
    port: Callable[[Serve], Port],
    certificates: Certificates,
    version: ssl.TLSVersion,
    other: bool,
) -> None:
    """With TLS 1.3 the refusal comes after the handshake, in place of the broker's first frame."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(
        certificates.other_authority() if other else certificates.ca_file
    )
    context.minimum_version = context.maximum_version = version

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True):
            pass

    rmq.RMQ_URL = f"amqps://guest:guest@localhost:{port(serve).port}"
    rmq.RMQ_TLS = {"CA_FILE": certificates.ca_file}
    if other:
        certificate, key = certificates.client()
        rmq.RMQ_TLS |= {"CERT_FILE": certificate, "KEY_FILE": key}
    text = refused(queue="q")
    assert "TLS: the broker refuses: " in text
    assert ("unknown ca" if other else "certificate required") in text or version.name == "TLSv1_2"
    assert "CERT_FILE" in text


def limited(node: PrivateNode, names: Names, limits: str) -> str:
    """Return the URL of a user who has them."""
    user = names.queue()
    node.add_user(user, "pa55word")
    node.eval(
        f'rabbit_auth_backend_internal:set_user_limits(<<"{user}">>, #{{{limits}}}, <<"rig">>)'
    )
    return node.url(user, "pa55word")


@pytest.mark.disturbs
def test_no_channel_of_the_users_is_left(
    rmq: Any, node: PrivateNode, names: Names, node_amqp: Amqp
) -> None:
    """None to verify a queue on; what needs none goes on. Not every call costs the connection."""
    rmq.RMQ_URL = limited(node, names, '<<"max-channels">> => 1')
    rmq.RMQ_PUBLISH_TIMEOUT = PATIENCE
    queue = node_amqp.declare_queue()
    now(routing_key=queue)
    text = refused(queue=queue)
    assert "530 NOT_ALLOWED" in text
    assert "limit" in text
    connects = status().connects
    with Took() as took:
        for _ in range(3):
            assert "530 NOT_ALLOWED" in str(error_of(queue=queue, timeout=PATIENCE))
    assert took.seconds < AT_ONCE
    now(routing_key=queue)
    assert status().connects <= connects + 1
    with pytest.raises(BrokerUnavailable, match="530 NOT_ALLOWED"):
        Consumer([queue]).consume()


@pytest.mark.disturbs
def test_not_even_a_channel_to_publish_on(rmq: Any, node: PrivateNode, names: Names) -> None:
    rmq.RMQ_URL = limited(node, names, '<<"max-channels">> => 0')
    assert "530 NOT_ALLOWED" in refused(queue="q")


@pytest.mark.disturbs
def test_connections_of_one_channel(rmq: Any, node: PrivateNode, node_amqp: Amqp) -> None:
    queue = node_amqp.declare_queue()
    rmq.RMQ_URL = node.url()
    before = node.eval("application:get_env(rabbit, channel_max)")
    node.eval("application:set_env(rabbit, channel_max, 1)")
    try:
        assert "channel_max" in refused(queue=queue)
        now(routing_key=queue)
        assert status().connects == 1
    finally:
        value = before.strip("{}").partition(",")[2] or "2047"
        node.eval(f"application:set_env(rabbit, channel_max, {value})")


@pytest.mark.disturbs
@pytest.mark.parametrize("limit", ["vhost", "user"])
def test_a_limit_of_connections(rmq: Any, node: PrivateNode, names: Names, limit: str) -> None:
    vhost = names.queue()
    if limit == "user":
        rmq.RMQ_URL = limited(node, names, '<<"max-connections">> => 0')
    else:
        node.add_vhost(vhost)
        rmq.RMQ_URL = node.url(vhost=vhost)
        node.eval(
            f'rabbit_vhost_limit:set(<<"{vhost}">>, [{{<<"max-connections">>, 0}}], <<"rig">>)'
        )
    text = refused(queue="q")
    assert "530 NOT_ALLOWED" in text
    assert "connection limit (0) is reached" in text


def test_an_exclusive_queue_of_another_connection(rmq: Any, amqp: Amqp) -> None:
    """The broker says that it exists, which is all that is verified; what follows is verified too."""
    queue = amqp.declare_queue(exclusive=True, durable=False)
    now(b"x", queue=queue)
    now(b"y", queue=queue, declare=[QueueConfig(f"{queue}.other", expires=60)])
    assert amqp.depth(queue) == 2
    assert status().connects == 1
    with pytest.raises(Rejected) as caught:
        now(queue=QueueConfig(queue))
    assert (caught.value.reply_code, caught.value.retryable) == (405, False)
