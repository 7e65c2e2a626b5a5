"""What a message carries through its retries: its handler sees what was published."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.consumer.retry_headers import Carried, Values

NOW = 1_800_000_000_000  # milliseconds
SENT = NOW // 1000 - 10
DIED = [{"queue": "elsewhere", "reason": "rejected", "count": 1, "exchange": "x"}]
LEVEL_DEATH = {"queue": "q.retry.1000", "reason": "expired", "count": 1, "exchange": ""}


def carried(values: Values, exchange: str = "events", key: str = "a.b") -> Carried:
    return Carried(values, "q", exchange, key)


def next_arrival(one: Carried, **options: Any) -> Carried:
    """What the worker reads after a stay: sent over the wire, with what the broker adds."""
    given = {"now": NOW, "failures": 1, "rest": 0, "error": ""} | options
    values = read_properties(basic_properties(one.handed_over(**given)))
    values["headers"] |= {
        "x-death": [LEVEL_DEATH],
        "x-first-death-queue": "q.retry.1000",
        "x-first-death-reason": "expired",
        "x-first-death-exchange": "",
        "x-last-death-queue": "q.retry.1000",
        "x-last-death-reason": "expired",
        "x-last-death-exchange": "",
    }
    return Carried(values, "q", "", "q")


FULL: Values = {
    "content_type": "application/json",
    "delivery_mode": 1,
    "priority": 3,
    "message_id": "m",
    "timestamp": SENT,
    "expiration": "60000",
    "user_id": "guest",
    "headers": {
        "own": [1, {"a": b"b"}],
        "CC": ["c"],
        "BCC": ["d"],
        "x-death": DIED,
        "x-first-death-queue": "elsewhere",
        "x-first-death-reason": "rejected",
        "x-first-death-exchange": "x",
        "x-last-death-queue": "elsewhere",
    },
}


def test_what_must_not_be_sent_again_is_kept_aside() -> None:
    sent = carried(
        FULL | {"headers": FULL["headers"] | {"x-delivery-count": 3, "x-acquired-count": 4}}
    )
    values = sent.handed_over(now=NOW, failures=2, rest=0, error="")
    assert not {"expiration", "user_id"} & values.keys()
    assert values["headers"].keys() == {"own", "x-rmq-attempts", "x-rmq-original"}
    assert (values["headers"]["x-rmq-attempts"], values["delivery_mode"]) == (2, 2)


def test_the_handler_sees_what_was_published() -> None:
    one = carried(FULL)
    for attempt in range(1, 4):
        one = next_arrival(one, failures=attempt)
        assert one.failures == attempt
        headers = one.headers
        assert headers.pop("x-rmq-attempts") == attempt
        assert headers == FULL["headers"]
        properties = one.properties
        assert properties.pop("delivery_mode") == 2  # a level keeps it on disk
        expected = {name: value for name, value in FULL.items() if name != "headers"}
        del expected["delivery_mode"]
        assert properties == expected
        assert (one.place, one.message_id) == (("events", "a.b"), "m")


def test_a_bare_message_shows_nothing_that_was_not_published() -> None:
    again = next_arrival(carried({"message_id": "m"}))
    assert again.headers == {"x-rmq-attempts": 1}
    assert again.properties == {"message_id": "m", "delivery_mode": 2}


def test_a_message_without_id_stays_one() -> None:
    values = carried({}).handed_over(now=NOW, failures=1, rest=0, error="")
    again = Carried(values | {"message_id": "made for the return"}, "q", "", "q")
    assert (again.message_id, "message_id" in again.properties) == ("", False)
    assert next_arrival(again).message_id == ""


def test_a_later_death_is_shown_before_the_earlier_ones() -> None:
    again = next_arrival(carried(FULL))
    values = {**again.properties, "headers": dict(again._headers)}
    here = {"queue": "q", "reason": "rejected", "count": 1}
    values["headers"] |= {
        "x-death": [here, LEVEL_DEATH],
        "x-last-death-queue": "q",
        "x-last-death-reason": "rejected",
    }
    dead = Carried(values, "dead letters", "", "dead letters")
    assert dead.headers["x-death"] == [here, *DIED]
    assert dead.headers["x-last-death-queue"] == "q"
    assert dead.headers["x-first-death-queue"] == "elsewhere"


def test_a_queue_is_in_the_deaths_once_for_each_reason() -> None:
    one = carried(FULL)
    for count in range(1, 4):  # sent back by somebody each time
        again = next_arrival(one)
        death = {"queue": "q", "reason": "rejected", "count": count}
        values = {**again.properties, "headers": dict(again._headers) | {"x-death": [death]}}
        one = Carried(values, "q", "", "q")
    assert next_arrival(one).headers["x-death"] == [death, *DIED]


# -- the end, and a new beginning -----------------------------------------------------------


def test_an_end_is_told_until_it_is_sent_back() -> None:
    error = "failed: ValueError"
    again = next_arrival(carried(FULL), failures=5, error=error)
    assert (again.error, again.failures) == (error, 5)
    values = {"message_id": "m", "headers": dict(again._headers)}
    values["headers"]["x-death"] = [{"queue": "q", "reason": "rejected"}, LEVEL_DEATH]
    sent_back = Carried(values, "q", "", "q")
    assert (sent_back.error, sent_back.failures, sent_back.expires_at(NOW)) == ("", 0, None)
    in_dead_letters = Carried(values, "dead letters", "", "dead letters")
    assert in_dead_letters.error == error


def test_the_rest_of_a_wait() -> None:
    again = next_arrival(carried({}), rest=1500)
    assert again.rest == 1500
    assert next_arrival(again).rest == 0


# -- expiration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"expiration": "60000", "timestamp": SENT}, SENT * 1000 + 61_000),
        ({"expiration": "60000"}, NOW + 60_000),
        ({"expiration": "60000", "timestamp": SENT + 10_000}, NOW + 60_000),  # a clock ahead
        ({"timestamp": SENT}, None),
        ({"expiration": "soon", "timestamp": SENT}, None),
        ({"expiration": "9" * 200}, 2**63 - 1),
    ],
)
def test_when_it_expires(values: Values, expected: int | None) -> None:
    one = carried(values)
    assert one.expires_at(NOW) == expected
    for _ in range(2):
        one = next_arrival(one)
        assert one.expires_at(NOW + 10**9) == expected


# -- hostile headers ------------------------------------------------------------------------

ODD = [
    None,
    True,
    -1,
    7,
    2**63 - 1,
    "text",
    b"\xff",
    [],
    [1, {"queue": []}],
    {},
    {"queue": 1, "reason": {}},
]
NAMES = ["x-death", "expires_at", "expiration", "user_id", "message_id", "exchange", "routing_key"]
odd = st.sampled_from(ODD)
named = st.sampled_from(
    ["x-rmq-attempts", "x-rmq-wait", "x-rmq-error", "x-death", "x-last-death-queue", "CC", "a"]
)
originals = st.dictionaries(st.sampled_from(NAMES), odd | st.dictionaries(named, odd, max_size=3))


@given(st.dictionaries(named, odd, max_size=5), odd | originals)
def test_headers_of_anybody_are_read_and_sent_on(headers: Values, original: Any) -> None:
    headers = headers | {"x-rmq-original": original}
    one = carried({"headers": headers, "message_id": "m"})
    for _ in range(2):
        assert isinstance(one.headers, dict)
        assert isinstance(one.properties, dict)
        assert isinstance(one.message_id, str)
        assert all(isinstance(part, str) for part in one.place)
        assert one.failures >= 0
        assert one.rest >= 0
        assert isinstance(one.error, str)
        one.expires_at(NOW)
        one = next_arrival(one)


@pytest.mark.parametrize("value", [True, -1, 0, 1.5, "3", None, [1], 2**70])
def test_a_count_that_is_none_counts_nothing(value: object) -> None:
    expected = 2**62 if value == 2**70 else 0  # and one more can be sent
    assert carried({"headers": {"x-rmq-attempts": value}}).failures == expected
