"""TLS and logins: what works, and what is refused says in words which it is."""

from pathlib import Path
from typing import Any

import pytest

from rmq_publisher import BrokerUnavailable, QueueConfig, connections, publish_many
from tests.support.calls import PATIENCE, Took, error_of, eventually, now, status
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.certificates import Certificates
from tests.support.rig.node import PrivateNode
from tests.support.rig.proxy import Proxy

pytestmark = pytest.mark.disturbs


@pytest.fixture
def certificates(tls_node: PrivateNode) -> Certificates:
    assert tls_node.certificates is not None
    return tls_node.certificates


@pytest.fixture
def secure(settings: Any, tls_node: PrivateNode, certificates: Certificates) -> Any:
    """Settings that are right."""
    settings.RMQ_URL = tls_node.tls_url()
    settings.RMQ_TLS = {"CA_FILE": certificates.ca_file}
    settings.RMQ_PUBLISH_TIMEOUT = PATIENCE
    return settings


def refused(**options: Any) -> str:
    """The words of a connection that is refused: at once, naming the node, and not the password."""
    with Took() as took:
        error = error_of(routing_key="q", **options)
    assert isinstance(error, BrokerUnavailable)
    assert took.seconds < 15
    assert status().node in str(error)
    assert "guest:" not in str(error)
    return str(error)


def test_tls_works(secure: Any, names: Names, tls_node: PrivateNode) -> None:
    queue = QueueConfig(names.queue())
    now(queue=queue)
    now(b"t" * 3_000_000, queue=queue)
    publish_many([b"many"] * 500, queue=queue, delivery="now")
    assert tls_node.queue_depth(queue.name) == 502
    assert (status().tls, status().connects, status().state) == (True, 1, "open")


def test_tls_through_lost_connections(secure: Any, names: Names, tls_node: PrivateNode) -> None:
    queue = QueueConfig(names.queue())
    with Proxy.to(tls_node.tls_url()) as proxy:
        secure.RMQ_URL = proxy.url
        for number in range(5):
            now(b"%d" % number * 100_000, queue=queue)
            assert proxy.cut() == 1
        now(b"last", queue=queue)
        connections.close()
        assert proxy.wait_for_open(0)
    reader = Amqp(tls_node.url())
    bodies = [message.body[:1] for message in reader.drain(queue.name, 6)]
    reader.close()
    assert bodies == [b"0", b"1", b"2", b"3", b"4", b"l"]


def test_a_client_certificate(secure: Any, certificates: Certificates, names: Names) -> None:
    certificate, key = certificates.client()
    secure.RMQ_TLS = {
        "CA_FILE": certificates.ca_file, "CERT_FILE": certificate, "KEY_FILE": key,
    }  # fmt: skip
    now(queue=QueueConfig(names.queue()))


def test_another_authority(secure: Any, certificates: Certificates) -> None:
    secure.RMQ_TLS = {"CA_FILE": certificates.other_authority()}
    text = refused()
    assert "TLS: the broker's certificate is not accepted" in text
    assert "self-signed certificate in certificate chain" in text


def test_the_systems_authorities_know_nothing_of_ours(secure: Any) -> None:
    secure.RMQ_TLS = None
    assert "certificate is not accepted" in refused()


def test_another_host(secure: Any, tls_node: PrivateNode, certificates: Certificates) -> None:
    tls_node.present(*certificates.wrong_host())
    text = refused()
    assert "certificate is not accepted" in text
    assert "Hostname mismatch" in text
    secure.RMQ_TLS = {
        "CA_FILE": certificates.ca_file, "SERVER_HOSTNAME": "elsewhere.example",
    }  # fmt: skip
    now(queue=QueueConfig("tls"))


def test_an_expired_certificate(
    secure: Any, tls_node: PrivateNode, certificates: Certificates
) -> None:
    tls_node.present(*certificates.expired())
    assert "certificate has expired" in refused()
    tls_node.present(*certificates.server)  # and mended, the process goes on by itself
    eventually(lambda: status().state == "open")
    now(queue=QueueConfig("tls"))


def test_tls_to_a_plain_port(secure: Any, tls_node: PrivateNode) -> None:
    secure.RMQ_URL = f"amqps://guest:guest@localhost:{tls_node.port}"
    assert "does not speak TLS" in refused()


def test_plain_to_a_tls_port(secure: Any, tls_node: PrivateNode) -> None:
    secure.RMQ_URL = f"amqp://guest:guest@localhost:{tls_node.tls_port}"
    secure.RMQ_TLS = None
    assert "does not speak AMQP 0-9-1" in refused()


@pytest.mark.parametrize("holding", [None, "", "not a certificate"])
@pytest.mark.parametrize("name", ["CA_FILE", "CERT_FILE", "KEY_FILE"])
def test_a_file_that_cannot_be_used(
    secure: Any, certificates: Certificates, tmp_path: Path, name: str, holding: str | None
) -> None:
    """It is named, whether it is missing, empty, or something else."""
    path = tmp_path / "given.pem"
    if holding is not None:
        path.write_text(holding)
    certificate, key = certificates.client()
    good = {"CA_FILE": certificates.ca_file, "CERT_FILE": certificate, "KEY_FILE": key}
    secure.RMQ_TLS = {**good, name: path}
    text = refused()
    assert "RMQ_TLS: " in text
    assert f"{name} {path}" in text
    if holding is None:
        assert "No such file or directory" in text


def test_a_refused_login(secure: Any) -> None:
    secure.RMQ_PASSWORD = "wr0ng pa55word"
    text = refused()
    assert "the login was refused: 403 ACCESS_REFUSED - Login was refused using" in text
    assert "pa55word" not in text


def test_a_vhost_that_does_not_exist(secure: Any, tls_node: PrivateNode) -> None:
    secure.RMQ_URL = tls_node.tls_url(vhost="missing")
    assert "530 NOT_ALLOWED - vhost missing not found" in refused()


def test_a_vhost_that_is_not_for_this_user(secure: Any, tls_node: PrivateNode) -> None:
    tls_node.add_vhost("theirs")
    tls_node.add_user("somebody", "guest")
    secure.RMQ_URL = tls_node.tls_url(user="somebody", password="guest", vhost="theirs")
    text = refused()
    assert "530 NOT_ALLOWED - access to vhost 'theirs' refused for user 'somebody'" in text
