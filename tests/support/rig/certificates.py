"""A certificate authority for the tests, made by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
GOOD_NAMES = "DNS:localhost,IP:127.0.0.1"


class Certificates:
    """A CA and what it signed; `server_file` is what the node presents at the moment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.server_file = directory / "presented.pem"
        self.server_key_file = directory / "presented.key"
        self.ca_file, self._ca_key = self._authority("ca")
        self.server = self.issue("server")
        self.present(*self.server)

    def issue(
        self, name: str, names: str = GOOD_NAMES, *, expired: bool = False
    ) -> tuple[Path, Path]:
        """A certificate of our CA and its key."""
        return self._sign(name, names, self.ca_file, self._ca_key, expired)

    def client(self, name: str = "client") -> tuple[Path, Path]:
        return self.issue(name, f"DNS:{name}")

    def expired(self) -> tuple[Path, Path]:
        return self.issue("expired", expired=True)

    def wrong_host(self) -> tuple[Path, Path]:
        return self.issue("wrong-host", "DNS:elsewhere.example")

    def other_authority(self) -> Path:
        """A CA that signed nothing here: clients that trust only it must refuse the node."""
        return self._authority("other-ca")[0]

    def present(self, certificate: Path, key: Path) -> None:
        """What the node shows to connections from now on (go through `PrivateNode.present`)."""
        shutil.copy(certificate, self.server_file)
        shutil.copy(key, self.server_key_file)

    def _authority(self, name: str) -> tuple[Path, Path]:
        certificate, key = self._paths(name)
        if not certificate.exists():
            # Python 3.13 refuses an authority that does not say what its key is for.
            usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign", "-days", "30")
            subject = ("-subj", f"/CN=rig {name}", *usage)
            _openssl("req", "-x509", *_KEY, "-keyout", key, "-out", certificate, *subject)
        return certificate, key

    def _sign(
        self, name: str, names: str, ca: Path, ca_key: Path, expired: bool
    ) -> tuple[Path, Path]:
        certificate, key = self._paths(name)
        if certificate.exists():
            return certificate, key
        request, extensions = certificate.with_suffix(".csr"), certificate.with_suffix(".ext")
        extensions.write_text(
            f"subjectAltName={names}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-out", certificate, "-CA", ca, "-CAkey", ca_key),
            *("-CAcreateserial", "-extfile", extensions, "-days", "-1" if expired else "30"),
        )
        return certificate, key

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
