"""The TLS context of a connection, made from the files in RMQ_TLS."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from rmq_publisher.conf.schema import TLSSettings

_NO_PASSWORD = "the key has a passphrase: set KEY_PASSWORD"  # noqa: S105
_WRONG_PASSWORD = "KEY_PASSWORD is not the passphrase of the key"  # noqa: S105


class TLSFileError(Exception):
    """A file in RMQ_TLS cannot be used; the message says which, and why."""


def context(settings: TLSSettings) -> ssl.SSLContext:
    """Return a context that verifies the broker, and presents our certificate if there is one.

    Raises:
        TLSFileError: a file does not exist or has the wrong content.
    """
    with _naming(CA_FILE=settings.ca_file):
        made = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file:
        passphrase = _Passphrase(settings.key_password or "")
        with _naming(passphrase, CERT_FILE=settings.cert_file, KEY_FILE=settings.key_file):
            made.load_cert_chain(settings.cert_file, settings.key_file, password=passphrase)
    return made


class _Passphrase:
    """Gives the passphrase when OpenSSL asks for it, which it does only if the key is encrypted.

    Without one OpenSSL would ask on the terminal.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.was_asked_for = False

    def __call__(self) -> str:
        self.was_asked_for = True
        return self._text

    def problem(self) -> str:
        """Return why an encrypted key could not be read; empty if it is not encrypted."""
        if not self.was_asked_for:
            return ""
        return _WRONG_PASSWORD if self._text else _NO_PASSWORD


@contextmanager
def _naming(passphrase: _Passphrase | None = None, **files: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(f"{name} {path}" for name, path in files.items() if path)
        problem = passphrase.problem() if passphrase else ""
        raise TLSFileError(f"RMQ_TLS: {problem or _reason(error)} ({names})") from error


def _reason(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or type(error).__name__
    reason = getattr(error, "reason", None)  # None where OpenSSL says no more than "PEM lib"
    if not reason:
        return "no certificate or key in PEM format was found"
    return str(reason).lower().replace("_", " ")
