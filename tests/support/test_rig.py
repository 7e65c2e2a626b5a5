"""Tests of the test rig, with plain pika."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pika
import pytest
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
)

from tests.support.calls import eventually
from tests.support.plain_clients import beside, client, confirming, publish
from tests.support.rig import PATIENCE, wire
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.erlang import ErlangError
from tests.support.rig.ladder import Broker, NoBrokerError, find_broker
from tests.support.rig.node import PrivateNode
from tests.support.rig.ports import SilentPort, closed_port, free_port
from tests.support.rig.proxy import Proxy

# -- the ladder ---------------------------------------------------------------------------------


def test_broker_is_named(broker: Broker) -> None:
    assert "RabbitMQ" in broker.description
    assert broker.rung in ("url", "docker", "local")


def test_a_url_that_nobody_answers_is_no_reason_to_take_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("_RMQ_TEST_SHARED_BROKER", raising=False)
    monkeypatch.delenv("RMQ_TEST_RUNG", raising=False)
    monkeypatch.setenv("RMQ_TEST_URL", f"amqp://u:secret@127.0.0.1:{closed_port()}/")
    with pytest.raises(NoBrokerError, match="no broker answers") as caught:
        find_broker()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("ci", "says"), [("1", "so it fails here"), ("", "apt-get install")])
def test_no_broker_is_an_error(monkeypatch: pytest.MonkeyPatch, ci: str, says: str) -> None:
    monkeypatch.delenv("_RMQ_TEST_SHARED_BROKER", raising=False)
    monkeypatch.delenv("RMQ_TEST_URL", raising=False)
    monkeypatch.setenv("RMQ_TEST_RUNG", "url")
    monkeypatch.setenv("CI", ci)
    with pytest.raises(NoBrokerError, match=says):
        find_broker()


def test_ports_are_not_given_out_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_silent_and_closed_ports() -> None:
    with SilentPort() as silent, pytest.raises(wire.NotAnsweringError, match="Timeout"):
        wire.hello(silent.url, timeout=0.1)
    with pytest.raises(wire.NotAnsweringError, match="Refused"):
        wire.hello(f"amqp://127.0.0.1:{closed_port()}")


def test_drain_takes_the_surplus_too(amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    for number in range(3):
        amqp.publish(b"%d" % number, queue)
    assert amqp.wait_for_depth(queue, 3) == 3
    assert [message.body for message in amqp.drain(queue, 1)] == [b"0", b"1", b"2"]


# -- the proxy ----------------------------------------------------------------------------------


def test_the_proxy_counts_what_passes(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with client(proxy.url) as connection:
        publish(confirming(connection), queue, b"", b"small", b"x" * 300_000)
        assert proxy.wait_for_publishes(3)
        assert proxy.wait_for_connections(1)
        assert proxy.connections_open == 1
        assert proxy.wait_for_event("client Confirm.Select")
    assert [len(message.body) for message in amqp.drain(queue, 3)] == [0, 5, 300_000]
    assert (proxy.publishes, proxy.acks) == (3, 3)
    assert proxy.wait_for_open(0)


def test_cut_after_publish(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    fault = proxy.cut_after_publish(2)
    with client(proxy.url) as connection:
        channel = confirming(connection)
        publish(channel, queue, b"1")
        with pytest.raises(AMQPConnectionError):
            publish(channel, queue, b"2")
    assert fault.wait()
    assert fault.answered
    assert proxy.publishes == 2
    assert [message.body for message in amqp.drain(queue, 2)] == [b"1", b"2"]


def test_cut_after_publish_of_a_pipeline(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    proxy.cut_after_publish(20)
    with client(proxy.url) as connection:
        channel = connection.channel()
        channel._impl.confirm_delivery(lambda _: None)  # type: ignore[attr-defined] # no waiting
        with pytest.raises(AMQPConnectionError):  # noqa: PT012
            publish(channel, queue, *(b"%d" % number for number in range(50)))
            connection.process_data_events(5)
    assert len(amqp.drain(queue, 20)) == 20


def test_cut_before_publish(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    fault = proxy.cut_before_publish(2)
    with client(proxy.url) as connection:
        channel = confirming(connection)
        publish(channel, queue, b"1")
        with pytest.raises(AMQPConnectionError):
            publish(channel, queue, b"2")
    assert fault.hits == 1
    assert [message.body for message in amqp.drain(queue, 1)] == [b"1"]


def test_reset_in_body(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    fault = proxy.reset_in_body(1)
    with client(proxy.url) as connection:
        channel = confirming(connection)
        with pytest.raises(AMQPConnectionError):
            publish(channel, queue, b"x" * 100_000)
    assert fault.wait()
    assert proxy.publishes == 0
    assert amqp.depth(queue) == 0


def test_swallow_acks(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    fault = proxy.swallow_acks(1)
    with client(proxy.url) as connection:
        channel = confirming(connection)
        with beside(fault.wait, proxy.cut), pytest.raises(AMQPConnectionError):
            publish(channel, queue, b"1")
    assert fault.hits == 1
    assert not fault.armed
    with client(proxy.url) as connection:
        publish(confirming(connection), queue, b"2")
    assert len(amqp.drain(queue, 2)) == 2


def test_delay_acks(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with client(proxy.url) as connection:
        channel = confirming(connection)
        fault = proxy.delay_acks(0.2)
        began = time.monotonic()
        publish(channel, queue, b"1")
        assert time.monotonic() - began >= 0.2
        fault.disarm()
        publish(channel, queue, b"2")
    assert fault.hits == 1


def test_stall_and_resume(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with client(proxy.url) as connection:
        channel = confirming(connection)
        stall = proxy.stall()
        with pytest.raises(wire.NotAnsweringError):
            wire.hello(proxy.url, timeout=0.1)
        assert stall.wait()  # the greeting of `hello` was noticed, and left where it was
        with beside(lambda: stall.wait(hits=2), proxy.resume):
            publish(channel, queue, b"late")
    assert [message.body for message in amqp.drain(queue, 1)] == [b"late"]


def test_stall_towards_the_client_alone(proxy: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with client(proxy.url) as connection:
        channel = confirming(connection)
        stall = proxy.stall("client")
        with beside(stall.wait, stall.disarm):
            publish(channel, queue, b"1")
        assert stall.hits == 1


def test_drop_heartbeats(proxy: Proxy) -> None:
    fault = proxy.drop_heartbeats()
    with client(proxy.url, heartbeat=1) as connection:
        connection.process_data_events(0.1)
        assert fault.wait()


def test_refuse_and_accept_on_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(wire.NotAnsweringError, match="Refused"):
        wire.hello(proxy.url)
    proxy.accept()
    assert proxy.port == port
    assert wire.hello(proxy.url)["product"] == "RabbitMQ"


@pytest.mark.parametrize("reset", [True, False])
def test_cut(proxy: Proxy, reset: bool) -> None:
    with client(proxy.url) as connection:
        assert proxy.cut(reset) == 1
        with pytest.raises(AMQPConnectionError):
            connection.process_data_events(5)
    assert proxy.connections_open == 0


# -- one node -----------------------------------------------------------------------------------


def test_kill_and_restart_keep_durable_messages(node: PrivateNode, names: Names) -> None:
    queue, pid = names.queue(), node.pid
    with client(node.url()) as connection:
        channel = confirming(connection)
        channel.queue_declare(queue, durable=True)
        publish(channel, queue, b"kept")
        node.kill()
        with pytest.raises(AMQPConnectionError):
            publish(channel, queue, b"lost")
    assert not node.running
    node.restart()
    assert node.pid != pid
    # It takes clients before it has recovered every queue, and says 404 until then.
    eventually(lambda: depth_of(node, queue) == 1)


def depth_of(node: PrivateNode, queue: str) -> int | None:
    """None if there is no such queue (yet)."""
    with client(node.url()) as connection:
        try:
            declared = connection.channel().queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return None
    count: int = declared.method.message_count
    return count


def test_freeze_and_thaw(node: PrivateNode, node_amqp: Amqp) -> None:
    queue = node_amqp.declare_queue()
    node.freeze()
    _eventually(lambda: _is_silent(node.url()))  # its threads stop one after the other
    with pytest.raises(ErlangError, match="did not answer"):
        node.eval("ok", timeout=0.5)
    node.thaw()
    node_amqp.publish(b"1", queue)


def test_block_and_unblock(node: PrivateNode, node_proxy: Proxy, names: Names) -> None:
    queue = names.queue()
    with client(node_proxy.url) as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        blocked, unblocked = _listen_for_alarms(connection)
        node.block()
        publish(channel, queue, b"1")
        connection.process_data_events(5)
        assert node_proxy.wait_for_event("broker Connection.Blocked")
        node.unblock()
        connection.process_data_events(5)
    assert (len(blocked), len(unblocked)) == (1, 1)


def _listen_for_alarms(connection: pika.BlockingConnection) -> tuple[list[object], list[object]]:
    blocked: list[object] = []
    unblocked: list[object] = []
    connection.add_on_connection_blocked_callback(lambda *args: blocked.append(args))
    connection.add_on_connection_unblocked_callback(lambda *args: unblocked.append(args))
    return blocked, unblocked


def test_users_hosts_and_permissions(node: PrivateNode, names: Names) -> None:
    node.add_vhost("a/b")
    node.add_user("wr:iter", "p@ss", configure="^$", write="^amq\\.default$", vhost="a/b")
    with client(node.url(vhost="a/b")) as admin:
        queue = names.queue()
        admin.channel().queue_declare(queue)
        with client(node.url("wr:iter", "p@ss", "a/b")) as connection:
            publish(confirming(connection), queue, b"1")
    assert node.queue_depth(queue, "a/b") == 1
    node.delete_queue(queue, "a/b")
    with pytest.raises(ErlangError):
        node.queue_depth(queue, "a/b")


def test_a_healed_node_is_empty(shared_node: PrivateNode) -> None:
    shared_node.add_user("someone", "secret")
    shared_node.add_vhost("somewhere")
    with client(shared_node.url()) as connection:
        connection.channel().queue_declare("left")
        connection.channel().exchange_declare("left")
    shared_node.block()
    shared_node.freeze()
    shared_node.heal()
    with client(shared_node.url()) as connection:
        channel = connection.channel()
        channel.queue_declare("left", durable=True)  # other properties: it is gone
        channel.exchange_declare("left", "fanout")
    assert shared_node.eval("rabbit_vhost:list_names()") == '[<<"/">>]'
    assert "someone" not in shared_node.eval("rabbit_auth_backend_internal:list_users()")
    shared_node.heal()


def test_connections_are_listed_and_closed(node: PrivateNode) -> None:
    named = {"connection_name": "tëst"}
    with client(node.url(), client_properties=named) as one, client(node.url()) as two:
        # One that only looked whether the node is up may still be on its way out.
        eventually(lambda: sorted(each.name for each in node.list_connections()) == ["", "tëst"])
        assert node.close_connection("tëst") == 1
        with pytest.raises(ConnectionClosedByBroker, match="320"):
            one.process_data_events(5)
        assert node.close_all_connections() == 1
        with pytest.raises(ConnectionClosedByBroker):
            two.process_data_events(5)


_START_AND_DIE = """
import os, signal
from tests.support.rig.node import PrivateNode
node = PrivateNode().start()
print(node.directory, node.epmd_port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.thorough
def test_nothing_is_left_of_a_node() -> None:
    command = [sys.executable, "-c", _START_AND_DIE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        node = PrivateNode().start()
        told, _ = killed.communicate(timeout=60)
    directory, epmd_port = told.split()
    _eventually(lambda: not _processes_of(directory, epmd_port) and not Path(directory).exists())

    before = _processes_of(str(node.directory), node.epmd_port)
    assert any("beam" in line for line in before)
    assert any("epmd" in line for line in before)
    node.stop()
    assert not node.directory.exists()
    _eventually(lambda: not _processes_of(str(node.directory), node.epmd_port))


def _processes_of(directory: str, epmd_port: int | str) -> list[str]:
    """The node's, by their arguments or their environment."""
    listing = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    signs = (directory, f"-port {epmd_port}")
    return [line for line in listing.splitlines() if any(sign in line for sign in signs)]


def _is_silent(url: str) -> bool:
    try:
        wire.hello(url, timeout=0.2)
    except wire.NotAnsweringError:
        return True
    return False


def _eventually(holds: Callable[[], bool], timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fork_does_not_take_the_node_away(node: PrivateNode) -> None:
    if (child := os.fork()) == 0:
        node.discard()
        os._exit(0)
    os.waitpid(child, 0)
    assert node.running
    assert node.directory.exists()


# -- TLS ----------------------------------------------------------------------------------------


def test_tls_certificates(tls_node: PrivateNode) -> None:
    certificates = tls_node.certificates
    assert certificates is not None
    ours, other = str(certificates.ca_file), str(certificates.other_authority())
    assert _tls_error(tls_node, ours) is None
    assert "self-signed certificate in certificate chain" in str(_tls_error(tls_node, other))
    tls_node.present(*certificates.expired())
    assert "certificate has expired" in str(_tls_error(tls_node, ours))
    tls_node.present(*certificates.wrong_host())
    assert "Hostname mismatch" in str(_tls_error(tls_node, ours))
    tls_node.heal()
    assert _tls_error(tls_node, ours) is None


def _tls_error(node: PrivateNode, ca_file: str) -> Exception | None:
    context = ssl.create_default_context(cafile=ca_file)
    try:
        with client(node.tls_url(), ssl_options=pika.SSLOptions(context, "localhost")):
            return None
    except (ssl.SSLError, AMQPError) as error:
        return error
