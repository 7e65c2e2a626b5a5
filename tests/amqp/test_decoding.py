"""Whatever properties are written to the wire are read back the same."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.amqp.decoding import BrokerMessage, read_properties, read_property
from rmq_publisher.amqp.encoding import PROPERTIES as NAMES
from rmq_publisher.amqp.encoding import basic_properties

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.decimals(-1000, 1000, places=3),
)
KEYS = st.text(max_size=20)
FIELDS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)
SHORT = st.text(max_size=40)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.dictionaries(KEYS, FIELDS, max_size=5),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "timestamp": st.integers(0, 2**62),
        **dict.fromkeys(
            ("content_type", "content_encoding", "correlation_id", "reply_to", "expiration",
             "message_id", "type", "user_id", "app_id", "cluster_id"),
            SHORT,
        ),
    },
)  # fmt: skip


@given(PROPERTIES)
def test_what_is_written_is_read(values: dict[str, Any]) -> None:
    read = read_properties(basic_properties(values))
    assert read == values
    assert repr(read).replace("-0.0", "0.0") == repr({name: read[name] for name in read}).replace(
        "-0.0", "0.0"
    )
    assert basic_properties(read) == basic_properties(values)


@given(PROPERTIES)
def test_one_property_is_read_without_the_others(values: dict[str, Any]) -> None:
    header = basic_properties(values)
    assert {name: read_property(header, name) for name in NAMES} == {
        **dict.fromkeys(NAMES),
        **values,
    }


def test_content_without_anything() -> None:
    content = BrokerMessage("", "k", basic_properties({}), b"\xff")
    assert (content.headers, content.message_id) == ({}, "")
    with pytest.raises(ValueError, match="utf-8"):
        content.text()
    with pytest.raises(ValueError, match="utf-8"):
        content.json()
