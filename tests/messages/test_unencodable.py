"""A body that cannot be encoded: its place and its type are named, its value is not."""

import math
from typing import Any

import pytest

from rmq_publisher import InvalidMessage, Message, Producer, publish, publish_many
from rmq_publisher.serialization import register_serializer

CYCLE: list[Any] = []
CYCLE.append(CYCLE)

DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    settings.RMQ_SERIALIZER = "json"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"items": [1, 2, 3, {4}]}, 'body["items"][3]: set'),
        ([{"total": math.nan}], 'body[0]["total"]: float that is not finite'),
        ({"a": ({"b": object()},)}, 'body["a"][0]["b"]: object'),
        ({"id": b"1"}, 'body["id"]: bytes'),
        ({"a": {(1, 2): 3}}, 'body["a"]: dict with a key that is a tuple'),
        ({"name": "\ud800"}, 'body["name"]: str with a surrogate'),
        ({"jo@example.com": {"x": {1}}}, 'body[<str>]["x"]: set'),
        ({4111111111111111: {1}}, "body[<int>]: set"),
        ({1: {1}}, "body[1]: set"),
        ({1, 2}, "body: set"),
        ([CYCLE], "body[0][0]: a list that contains itself"),
        (DEEP, "nested too deeply"),
    ],
    ids=range(12),
)
def test_the_place_and_the_type_are_named(body, place):
    with pytest.raises(InvalidMessage) as caught:
        publish(body, queue="orders")
    assert place in str(caught.value)
    with pytest.raises(InvalidMessage) as caught:
        Producer(queue="orders").publish(body)
    assert place in str(caught.value)


@pytest.mark.parametrize("serializer", ["msgpack", "yaml", "json+gzip"])
def test_every_serializer_of_ours_names_the_place(serializer):
    with pytest.raises(InvalidMessage, match=r'body\["items"\]\[1\]: object'):
        publish({"items": [1, object()]}, queue="orders", serializer=serializer)


def test_a_serializer_of_others_is_not_asked_for_parts():
    def encode(value):
        raise TypeError("this text may quote the value")

    register_serializer("strange", encode, "application/x-strange")
    with pytest.raises(InvalidMessage, match=r"cannot encode this dict \(TypeError\)$"):
        publish({"a": 1}, queue="orders", serializer="strange")


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"a": {1}}, InvalidMessage, 'body["a"]: set'),
        (Message("x", priority=999), InvalidMessage, "priority"),
        (Message("x", headers={"a": object()}), InvalidMessage, "object"),
        (Message("x", expiration="soon"), InvalidMessage, "expiration"),
    ],
)
def test_publish_many_says_which_body(bad, error, words):
    with pytest.raises(error) as caught:
        publish_many(["good", {"good": 1}, bad, "good"], queue="orders")
    assert str(caught.value).startswith("bodies[2]: ")
    assert words in str(caught.value)


def test_publish_many_says_which_body_needs_a_serializer(settings):
    settings.RMQ_SERIALIZER = None
    with pytest.raises(TypeError, match=r"^bodies\[1\]: the body must be str or bytes"):
        publish_many(["good", {"bad": 1}], queue="orders")
