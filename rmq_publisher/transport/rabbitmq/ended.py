"""Why a connection was not opened, or was lost: what is known of it, and not what pika guesses."""

import ssl

from pika import exceptions

from rmq_publisher.amqp.reply_codes import ACCESS_REFUSED
from rmq_publisher.transport.rabbitmq.errors import describe, os_words
from rmq_publisher.transport.rabbitmq.socket_stream import TLSWire, Wire

Refusal = tuple[int, str]  # reply code and text of the broker

_RESETS = (ConnectionResetError, BrokenPipeError)
# An end that says nothing but that it is one.
_CUT = (*_RESETS, ssl.SSLEOFError, ssl.SSLZeroReturnError)

_UNANSWERED = "it was closed before the broker answered"

# How far it had come, as pika tells it; the causes that its names assert are guesses.
_PHASES: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.ProbableAuthenticationError, "it was closed during the login"),
    (exceptions.ProbableAccessDeniedError, "it was closed while the vhost was opened"),
    (exceptions.IncompatibleProtocolError, _UNANSWERED),
)


def why_ended(error: BaseException, refusal: Refusal | None, stream: Wire | None) -> str:
    """Return why a connection was not opened, or was lost, as far as it is known.

    Args:
        error: pika's, which guesses from how far the connection had come.
        refusal: the broker's own words, if it said any.
        stream: what was heard and seen, if it came so far.
    """
    if refusal is not None:
        code, text = refusal
        is_login = code == ACCESS_REFUSED and "Login was refused" in text
        what = "the login was refused" if is_login else "the broker closed the connection"
        return f"{what}: {code} {text}"
    if stream is None:
        return describe(error)
    if stream.error is not None and not isinstance(stream.error, _CUT):
        return describe(stream.error)
    if not stream.framed:
        return "the port does not speak AMQP 0-9-1"
    for kind, words in _PHASES:
        if isinstance(error, kind):
            return (words if stream.heard else _UNANSWERED) + _cut_how(stream)
    if isinstance(error, exceptions.StreamLostError):
        return describe(error) + _cut_how(stream)
    return describe(error)


def _cut_how(stream: Wire) -> str:
    how = f" ({os_words(stream.error)})" if isinstance(stream.error, _RESETS) else ""
    if isinstance(stream, TLSWire) and not stream.heard:
        how += "; the broker may ask for a client certificate (RMQ_TLS CERT_FILE, KEY_FILE)"
    return how
