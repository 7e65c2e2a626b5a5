"""The frames of a publish, read by pika, within the limit that was negotiated."""

import pytest
from pika.frame import Body, Frame, Header, Method, decode_frame
from pika.spec import Basic

from rmq_publisher.messages.envelope import FRAME_MAX, seal
from rmq_publisher.transport.rabbitmq.frames import marshal

FRAME_OVERHEAD = 8


def read(data: bytes, frame_max: int) -> list[Frame]:
    """All frames, each of at most `frame_max` bytes."""
    frames: list[Frame] = []
    while data:
        size, frame = decode_frame(data)
        assert isinstance(frame, Frame)
        assert size <= frame_max
        data = data[size:]
        frames.append(frame)
    return frames


@pytest.mark.parametrize("frame_max", [4096, FRAME_MAX])
@pytest.mark.parametrize("beside", [-1, 0, 1])
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_no_frame_is_longer_than_was_negotiated(frame_max: int, beside: int, parts: int) -> None:
    body = b"b" * max(0, parts * (frame_max - FRAME_OVERHEAD) + beside)
    envelope = seal(body, exchange="x", routing_key="k", max_body_size=2**24)
    method, header, *rest = read(marshal(envelope, frame_max), frame_max)
    assert isinstance(method, Method)
    assert isinstance(method.method, Basic.Publish)
    assert method.method.mandatory
    assert isinstance(header, Header)
    assert header.body_size == len(body)
    assert all(isinstance(frame, Body) for frame in rest)
    assert b"".join(frame.fragment for frame in rest if isinstance(frame, Body)) == body
