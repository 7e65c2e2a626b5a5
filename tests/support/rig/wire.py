"""Just enough of AMQP 0-9-1 on the wire: splitting frames, and asking a broker who it is."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pika.frame

from . import PATIENCE

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_OVERHEAD = 8  # type, channel, size; the end octet

PUBLISH = (60, 40)
RETURN = (60, 50)
ACK = (60, 80)
NACK = (60, 120)
CONFIRM_SELECT = (85, 10)
CHANNEL_OPEN = (20, 10)

_HEAD = struct.Struct(">BHL")
_METHOD = struct.Struct(">HH")


class Frame(NamedTuple):
    """One frame inside a buffer, from `start` up to `end`."""

    kind: int
    channel: int
    method: tuple[int, int] | None
    start: int
    end: int


def split(buffer: bytes | bytearray) -> tuple[list[Frame], int]:
    """The complete frames of the buffer, and how many bytes they (and a greeting) take."""
    frames = []
    at = len(PROTOCOL_HEADER) if buffer.startswith(b"AMQP") else 0
    length = len(buffer)
    while length - at >= FRAME_OVERHEAD:
        kind, channel, size = _HEAD.unpack_from(buffer, at)
        end = at + size + FRAME_OVERHEAD
        if end > length:
            break
        method = _METHOD.unpack_from(buffer, at + 7) if kind == METHOD else None
        frames.append(Frame(kind, channel, method, at, end))
        at = end
    return frames, min(at, length)


class NotAnsweringError(Exception):
    """Nobody speaks AMQP at this address."""


def hello(url: str, timeout: float = 1.0) -> dict[str, Any]:
    """What a broker says of itself before anybody logs in (product, version, ...)."""
    try:
        method = _connection_start(url, timeout)
    except (OSError, struct.error) as error:
        raise NotAnsweringError(f"{type(error).__name__}: {error}") from error
    return {key: _text(value) for key, value in method.server_properties.items()}


def product(url: str, timeout: float = PATIENCE) -> str:
    """For instance "RabbitMQ 3.10.8"."""
    said = hello(url, timeout)
    return f"{said.get('product', 'unknown broker')} {said.get('version', '')}".strip()


def _connection_start(url: str, timeout: float) -> Any:
    parts = urlsplit(url)
    secure = parts.scheme == "amqps"
    address = (parts.hostname or "localhost", parts.port or (5671 if secure else 5672))
    with socket.create_connection(address, timeout) as plain:
        stream = _unverified().wrap_socket(plain) if secure else plain
        with stream:
            stream.sendall(PROTOCOL_HEADER)
            data = b""
            while True:
                received = stream.recv(4096)
                if not received:
                    raise NotAnsweringError("closed the connection at our greeting")
                data += received
                if split(data)[0]:
                    _, frame = pika.frame.decode_frame(data)
                    return frame.method  # type: ignore[union-attr]


def _unverified() -> ssl.SSLContext:
    # Only the greeting is read over it; the tests' own certificates are checked by the tests.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
