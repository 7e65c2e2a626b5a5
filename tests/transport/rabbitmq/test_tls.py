"""The files of RMQ_TLS: what cannot be used is named, with the setting."""

import subprocess
from collections.abc import Callable
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


def test_an_encrypted_key_is_refused_and_not_asked_for_on_the_terminal(
    certificates: Certificates, tmp_path: Path
) -> None:
    certificate, key = certificates.client()
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", encrypted, "-passout", "pass:secret"],
        check=True,
        timeout=PATIENCE,
    )
    with pytest.raises(TLSFileError, match=r"^RMQ_TLS: .*KEY_FILE .*encrypted\.key"):
        context(settings(certificates, cert_file=certificate, key_file=encrypted))
