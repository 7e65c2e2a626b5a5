"""The TLS context of a connection, made from the files in RMQ_TLS."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from rmq_publisher.conf.schema import TLSSettings


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
        with _naming(CERT_FILE=settings.cert_file, KEY_FILE=settings.key_file):
            # Without a password, OpenSSL would ask on the terminal for that of an encrypted key.
            made.load_cert_chain(settings.cert_file, settings.key_file, password="")
    return made


@contextmanager
def _naming(**files: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(f"{name} {path}" for name, path in files.items() if path)
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise TLSFileError(f"RMQ_TLS: {reason} ({names})") from error
