"""Messages for pika's errors: which host, what went wrong, and no secrets.

pika's own texts are never passed on: some carry values, others a repr of everything.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from pika import exceptions
from pika.adapters.utils import connection_workflow

# RabbitMQ quotes the beginning of a frame that it cannot read, which may be a body's.
_QUOTED = re.compile(r"octets = .*", re.DOTALL)


def error_place(error: BaseException) -> str:
    """Return where an error was raised; its text may contain values and is left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what lies behind it, as pika nests them."""
    if error is None:
        return
    yield error
    nested = (*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args)
    for inner in nested:
        if isinstance(inner, BaseException):
            yield from causes(inner)


def describe(error: BaseException | None) -> str:
    """Return what a failed or lost connection died of, in a few words."""
    for cause in causes(error):
        for kind, words in _WORDS:
            if isinstance(cause, kind):
                return words(cause)
    return type(error).__name__ if error is not None else "connection lost"


def why_not_started(error: BaseException) -> str:
    """Return why an I/O thread, with what it needs from the system, could not be made."""
    if isinstance(error, RuntimeError):
        if "shutdown" in str(error):  # Python 3.12 and later, in an exit handler (cpython#113964)
            return "the interpreter is shutting down"
        return f"no thread can be started ({error}): the limit of processes may be reached"
    if isinstance(error, OSError):
        return os_words(error)
    return f"{type(error).__name__} at {error_place(error)}"


def said(text: str) -> str:
    """Return the broker's words, without what it quotes."""
    return _QUOTED.sub("octets are not shown", text)


def _closed(error: BaseException) -> str:
    assert isinstance(error, exceptions.ConnectionClosed)  # noqa: S101 (narrowing)
    return f"the broker closed the connection: {error.reply_code} {said(error.reply_text)}"


def _certificate(error: BaseException) -> str:
    assert isinstance(error, ssl.SSLCertVerificationError)  # noqa: S101 (narrowing)
    return f"TLS: the broker's certificate is not accepted: {error.verify_message}"


def _tls(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or type(error).__name__
    if "_ALERT_" in reason:
        return _alert(reason)
    if "UNEXPECTED_EOF" in reason or isinstance(error, ssl.SSLZeroReturnError):
        return "it was closed during the TLS handshake"
    hint = ""
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        hint = " (the port does not speak TLS; amqp:// or another port?)"
    return f"TLS handshake failed: {reason}{hint}"


def _alert(reason: str) -> str:
    """Return what the other side said by a TLS alert."""
    alert = reason.partition("_ALERT_")[2].replace("_", " ").lower()
    hint = ""
    if any(word in alert for word in ("certificate", "unknown ca", "handshake failure")):
        hint = (
            " (it does not accept our certificate, or asks for one: RMQ_TLS CERT_FILE, KEY_FILE)"
        )
    return f"TLS: the broker refuses: {alert}{hint}"


def _thread(error: BaseException) -> str:
    if isinstance(error, NotImplementedError | RecursionError):
        return type(error).__name__
    return f"the host's name cannot be looked up: {error}"


def _name(error: BaseException) -> str:
    return f"the host's name cannot be resolved ({type(error).__name__})"


def os_words(error: BaseException) -> str:
    """Return what the system says of an error of its own."""
    assert isinstance(error, OSError)  # noqa: S101 (narrowing)
    return error.strerror or type(error).__name__


_WORDS = (
    (ssl.SSLCertVerificationError, _certificate),
    (ssl.SSLError, _tls),
    (socket.gaierror, _name),
    (exceptions.ProbableAuthenticationError, lambda _: "it was closed during the login"),
    (exceptions.AuthenticationError, lambda _: "no login mechanism in common"),
    (
        exceptions.ProbableAccessDeniedError,
        lambda _: "it was closed while the vhost was opened",
    ),
    (exceptions.ConnectionClosedByBroker, _closed),
    (exceptions.ProtocolVersionMismatch, lambda _: "the port does not speak AMQP 0-9-1"),
    (exceptions.IncompatibleProtocolError, lambda _: "the port does not speak AMQP 0-9-1"),
    (exceptions.AMQPHeartbeatTimeout, lambda _: "no heartbeat came"),
    (exceptions.StreamLostError, lambda _: "it was cut off"),
    (connection_workflow.AMQPConnectorStackTimeout, lambda _: "no answer in time"),
    (exceptions.ConnectionOpenAborted, lambda _: "no answer in time"),  # pika aborts at its limit
    (TimeoutError, lambda _: "no answer in time"),
    (OSError, os_words),
    (RuntimeError, _thread),
)
