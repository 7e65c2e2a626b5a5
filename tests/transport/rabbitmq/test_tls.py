"""The files of RMQ_TLS: what cannot be used is named, with the setting."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rmq_publisher.conf.schema import TLSSettings
from rmq_publisher.transport.rabbitmq.tls import TLSFileError, context
from tests.support.calls import PATIENCE
from tests.support.rig.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def settings(certificates: Certificates, **paths: Path) -> TLSSettings:
    certificate, key = certificates.client()
    known = {"ca_file": certificates.ca_file, "cert_file": certificate, "key_file": key}
    return TLSSettings(**{name: str(path) for name, path in {**known, **paths}.items()})


def test_files_that_are_right(certificates: Certificates) -> None:
    made = context(settings(certificates))
    assert len(made.get_ca_certs()) == 1
    assert made.check_hostname


def missing(path: Path) -> None:
    assert not path.exists()


def garbage(path: Path) -> None:
    path.write_text("not a certificate")


@pytest.mark.parametrize("spoil", [missing, garbage])
@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_the_one_at_fault_is_named(
    certificates: Certificates, tmp_path: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "spoilt.pem"
    spoil(path)
    with pytest.raises(TLSFileError) as caught:
        context(settings(certificates, **{name: path}))
    text = str(caught.value)
    assert text.startswith("RMQ_TLS: ")
    assert f"{name.upper()} {path}" in text
    assert ("No such file" in text) is (spoil is missing)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.fixture
def encrypted(certificates: Certificates, tmp_path: Path) -> Path:
    """A client's key with the passphrase "secret"."""
    path = tmp_path / "encrypted.key"
    key = certificates.client()[1]
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", path, "-passout", "pass:secret"],
        check=True,
        timeout=PATIENCE,
    )
    return path


@pytest.mark.parametrize(
    ("password", "words"),
    [
        (None, "the key has a passphrase: set KEY_PASSWORD"),
        ("wrong-1", "KEY_PASSWORD is not the passphrase of the key"),
    ],
)
def test_an_encrypted_key_is_told_from_a_bad_file_and_nothing_is_asked_on_the_terminal(
    certificates: Certificates, encrypted: Path, password: str | None, words: str
) -> None:
    made = replace(settings(certificates, key_file=encrypted), key_password=password)
    with pytest.raises(TLSFileError, match=rf"^RMQ_TLS: {words} \(CERT_FILE .*encrypted\.key\)"):
        context(made)
    assert "wrong-1" not in repr(made)


def test_an_encrypted_key_with_its_passphrase(certificates: Certificates, encrypted: Path) -> None:
    context(replace(settings(certificates, key_file=encrypted), key_password="secret"))


_READS = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # OpenSSL asks on the terminal that controls the process
from rmq_publisher.conf.schema import TLSSettings
from rmq_publisher.transport.rabbitmq import tls
try:
    tls.context(TLSSettings(cert_file=sys.argv[1], key_file=sys.argv[2]))
except tls.TLSFileError as error:
    print(error)
"""


def test_on_a_terminal_nobody_is_asked_for_a_passphrase(
    certificates: Certificates, encrypted: Path
) -> None:
    mine, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _READS, certificates.client()[0], encrypted],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(terminal)
    said = b""
    try:
        while b"\n" not in said and b"phrase:" not in said:
            said += os.read(mine, 1000)
    finally:
        process.kill()
        process.wait()
        os.close(mine)
    assert said.startswith(b"RMQ_TLS: the key has a passphrase: set KEY_PASSWORD")


def test_a_file_that_is_no_certificate_is_not_called_pem_lib(
    certificates: Certificates, tmp_path: Path
) -> None:
    path = tmp_path / "spoilt.pem"
    garbage(path)
    with pytest.raises(TLSFileError, match="no certificate or key in PEM format was found"):
        context(settings(certificates, cert_file=path))
