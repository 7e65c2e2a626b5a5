"""Deliveries put together from frames, and the frames that settle them."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from rmq_publisher.transport.consuming import ACK, ACK_MULTIPLE, REJECT, REQUEUE
from rmq_publisher.transport.rabbitmq.delivery_reader import (
    CONSUME_CHANNEL,
    DeliveryReader,
    SettledTags,
    settle_frame,
)


def frames_of(tag=1, body=b"body", routing_key="orders", *, pieces=1, redelivered=False):
    """The frames' kinds and payloads, as pika marshals them."""
    deliver = spec.Basic.Deliver("ctag", tag, redelivered, "events", routing_key)
    header = frame.Header(1, len(body), spec.BasicProperties(message_id="m"))
    whole = [frame.Method(1, deliver).marshal(), header.marshal()]
    size = max(1, -(-len(body) // pieces))
    whole += [frame.Body(1, body[at : at + size]).marshal() for at in range(0, len(body), size)]
    return [(data[0], data[7:-1]) for data in whole]


def read(reader, frames):
    for kind, payload in frames:
        assert reader.feed(kind, payload)
    complete, reader.complete = reader.complete, []
    return complete


@pytest.mark.parametrize("body", [b"", b"x", b"body" * 999])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_delivery_is_put_together(body, pieces):
    reader = DeliveryReader(10**6)
    reader.opened(7)
    (one,) = read(reader, frames_of(5, body, pieces=pieces, redelivered=True))
    assert (one.session, one.tag, one.consumer_tag, one.redelivered) == (7, 5, "ctag", True)
    assert (one.exchange, one.routing_key, one.body, one.size) == (
        "events",
        "orders",
        body,
        len(body),
    )
    properties = spec.BasicProperties()
    properties.decode(one.header)
    assert properties.message_id == "m"


def test_many_deliveries_with_the_same_and_with_other_names():
    reader = DeliveryReader(100)
    got = [
        one
        for tag in range(3000)
        for one in read(reader, frames_of(tag, routing_key=f"key{tag % 1500}"))
    ]
    assert [one.tag for one in got] == list(range(3000))
    assert [one.routing_key for one in got] == [f"key{tag % 1500}" for tag in range(3000)]


def test_a_body_over_the_limit_is_counted_and_not_kept():
    reader = DeliveryReader(10)
    (one,) = read(reader, frames_of(body=b"x" * 11, pieces=2))
    assert (one.body, one.size) == (b"", 11)
    (one,) = read(reader, frames_of(2, body=b"x" * 10))
    assert one.body == b"x" * 10


def test_what_is_no_delivery_is_left_to_pika():
    reader = DeliveryReader(10)
    method = frame.Method(1, spec.Basic.CancelOk("ctag")).marshal()
    assert not reader.feed(method[0], method[7:-1])
    for kind in (2, 3, 8):
        assert not reader.feed(kind, b"\0" * 20)


def test_a_delivery_that_a_lost_channel_cut_short_never_ends():
    reader = DeliveryReader(10)
    for kind, payload in frames_of()[:2]:
        reader.feed(kind, payload)
    reader.opened(2)
    assert not reader.feed(3, b"body")
    assert [one.session for one in read(reader, frames_of())] == [2]


def test_names_may_be_any_bytes():
    reader = DeliveryReader(10)
    payload = struct.pack(">HH", 60, 60) + b"\x01c" + (9).to_bytes(8) + b"\x00\x01\xff\x01\xfe"
    reader.feed(1, payload)
    header = frame.Header(1, 0, spec.BasicProperties()).marshal()
    reader.feed(2, header[7:-1])
    (one,) = reader.complete
    assert one.exchange.encode("utf-8", "surrogateescape") == b"\xff"


# -- settling ---------------------------------------------------------------------------------


def decoded(data):
    """(verdict, tag) of frames, by pika."""
    found = []
    while data:
        size, one = frame.decode_frame(data)
        assert one.channel_number == CONSUME_CHANNEL
        method = one.method
        if isinstance(method, spec.Basic.Ack):
            found.append((ACK_MULTIPLE if method.multiple else ACK, method.delivery_tag))
        else:
            found.append((REQUEUE if method.requeue else REJECT, method.delivery_tag))
        data = data[size:]
    return found


@pytest.mark.parametrize("verdict", [ACK, REJECT, REQUEUE, ACK_MULTIPLE])
def test_a_frame_is_what_pika_reads_as_that(verdict):
    assert decoded(settle_frame(2**40, verdict)) == [(verdict, 2**40)]


def test_an_unbroken_run_is_one_frame():
    tags = SettledTags()
    assert decoded(tags.take([(2, ACK), (1, ACK), (3, ACK)])) == [(ACK_MULTIPLE, 3)]
    assert decoded(tags.take([(4, ACK)])) == [(ACK, 4)]


def test_what_lies_beyond_a_gap_goes_by_itself_and_at_once():
    tags = SettledTags()
    assert decoded(tags.take([(1, ACK), (3, ACK), (4, ACK)])) == [(ACK, 1), (ACK, 3), (ACK, 4)]
    assert decoded(tags.take([(2, ACK), (5, ACK)])) == [(ACK_MULTIPLE, 5)]


def test_a_tag_is_settled_once_on_the_wire():
    """A second frame would make the broker close the channel."""
    tags = SettledTags()
    tags.take([(1, ACK), (2, REJECT), (4, REQUEUE)])
    assert tags.take([(1, ACK), (2, ACK), (4, REJECT), (1, ACK_MULTIPLE)]) == b""
    assert decoded(tags.take([(6, ACK_MULTIPLE)])) == [(ACK_MULTIPLE, 6)]
    assert tags.take([(3, ACK), (5, REJECT)]) == b""
    assert decoded(tags.take([(7, ACK)])) == [(ACK, 7)]


verdicts = st.sampled_from([ACK, ACK, ACK, REJECT, REQUEUE])


@given(st.lists(verdicts, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_the_broker_sees_each_tag_settled_once_as_it_was_meant(meant, dice: random.Random):
    """A model of the broker's channel: a tag that is not outstanding ends it."""
    order = list(enumerate(meant, start=1))
    dice.shuffle(order)
    tags, outstanding, seen = SettledTags(), set(range(1, len(meant) + 1)), {}
    while order:
        size = dice.randint(1, 8)
        batch, order = order[:size], order[size:]
        for verdict, tag in decoded(tags.take(batch)):
            assert tag in outstanding
            covered = {tag}
            if verdict == ACK_MULTIPLE:
                covered, verdict = {one for one in outstanding if one <= tag}, ACK
            for one in covered:
                seen[one] = verdict
            outstanding -= covered
        settled = {tag for tag, _ in batch}
        assert not settled & outstanding  # nothing that was settled waits for a later turn
    assert seen == dict(enumerate(meant, start=1))
