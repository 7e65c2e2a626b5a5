"""A message as a row, and back: nothing is lost on the way."""

import contextlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rmq_publisher import Binding, ExchangeConfig, InvalidMessage, QueueConfig
from rmq_publisher.amqp.encoding import table
from rmq_publisher.amqp.entities import ExchangeName, QueueName
from rmq_publisher.db.schema import COLUMNS
from rmq_publisher.messages.envelope import seal
from rmq_publisher.outbox.row import (
    check_ordering_key,
    check_storable,
    correlation_id,
    decoded,
    encoded,
    from_row,
    new_token,
    process_token,
    without_content,
)

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)
values = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), names,
    st.binary(max_size=10), st.none(),
)  # fmt: skip
arguments = st.dictionaries(
    names, st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(names, inner)),
    max_size=3,
)  # fmt: skip


def bindings(exchanges):
    return st.lists(st.builds(Binding, exchanges, names, arguments), max_size=2)


exchanges = st.recursive(
    st.builds(
        ExchangeConfig,
        names,
        st.sampled_from(["direct", "topic", "x-delayed-message"]),
        st.booleans(),
        auto_delete=st.booleans(),
        internal=st.booleans(),
        arguments=arguments,
    ),
    lambda inner: st.builds(ExchangeConfig, names, bindings=bindings(inner | names)),
    max_leaves=3,
)
queues = st.builds(
    QueueConfig, names, st.booleans(), arguments=arguments, bindings=bindings(exchanges | names)
)
entities = st.one_of(exchanges, queues, names.map(QueueName), names.map(ExchangeName))


@given(st.lists(entities, max_size=3).map(tuple))
def test_declarations_come_back_equal(topology):
    assert decoded(encoded(topology)) == topology


def test_the_arguments_that_have_names_come_back_too():
    queue = QueueConfig(
        "q", dead_letter_exchange="dead", dead_letter_routing_key="k", queue_type="quorum",
        message_ttl=1.5, max_length=5, overflow="reject-publish", delivery_limit=3,
        single_active_consumer=True, using="other",
    )  # fmt: skip
    [back] = decoded(encoded((queue,)))
    assert isinstance(back, QueueConfig)
    assert back == queue
    assert list(back.steps()) == list(queue.steps())


def test_no_declarations_take_no_room():
    assert encoded(()) == b""
    assert decoded(b"") == ()


def test_declarations_that_are_too_large_are_refused():
    large = tuple(QueueConfig("q" * 250 + str(number)) for number in range(600))
    with pytest.raises(InvalidMessage, match="declare"):
        encoded(large)


def sealed(**options):
    topology = (QueueName("q"),)
    return seal(
        b"\x00body", exchange="", routing_key="q", topology=topology, max_body_size=99, **options
    )


def row_of(envelope, **changes):
    values = {
        "id": 7, "message_id": envelope.message_id, "using": "a", "exchange": envelope.exchange,
        "routing_key": envelope.routing_key, "ordering_key": "k", "header": envelope.header,
        "body": envelope.body, "topology": encoded(envelope.topology), "failed_at": None, **changes,
    }  # fmt: skip
    return [values[name] for name in COLUMNS]


@pytest.mark.parametrize("binary", [bytes, memoryview])
def test_a_row_makes_the_same_message(binary):
    headers = {"at": datetime(2026, 1, 2, tzinfo=UTC), "sum": Decimal("1.5"), "raw": b"\xff\0"}
    envelope = sealed(headers=headers, priority=3)
    row = row_of(envelope, header=binary(envelope.header), body=binary(envelope.body))
    stored = from_row(row, token=5, own_until=1.5)
    assert stored.envelope == envelope
    assert (stored.id, stored.token, stored.using, stored.ordering_key) == (7, 5, "a", "k")
    assert (stored.own_until, stored.failed) == (1.5, False)
    assert from_row(row_of(envelope, failed_at="then"), token=5, own_until=0).failed


@given(st.binary())
def test_a_row_with_spoilt_declarations_is_refused(topology):
    with contextlib.suppress(InvalidMessage):
        from_row(row_of(sealed(), topology=topology), token=5, own_until=0)


@given(st.data())
def test_a_row_with_nearly_right_declarations_is_refused(data):
    spoilt = bytearray(encoded((QueueConfig("q", bindings=[Binding("e", "k", {"at": 1})]),)))
    for place in data.draw(st.lists(st.integers(0, len(spoilt) - 1), max_size=3)):
        spoilt[place] = data.draw(st.integers(0, 255))
    spoilt = spoilt[: data.draw(st.integers(1, len(spoilt)))]
    with contextlib.suppress(InvalidMessage):
        from_row(row_of(sealed(), topology=bytes(spoilt)), token=5, own_until=0)


@pytest.mark.parametrize(
    "topology", [b"s3cret", table("declare", {"": [{"kind": "s3cret"}]})], ids=["bytes", "kind"]
)
def test_what_is_said_of_a_row_that_cannot_be_read(topology):
    row = row_of(sealed(), topology=topology)
    with pytest.raises(InvalidMessage, match="cannot be read") as raised:
        from_row(row, token=5, own_until=0)
    assert raised.value.message_id == row[COLUMNS.index("message_id")]
    assert "s3cret" not in str(raised.value)
    rest = without_content(row, token=5)
    assert (rest.id, rest.token, rest.ordering_key) == (7, 5, "k")


def test_a_row_shows_no_content():
    stored = from_row(row_of(sealed(headers={"h": "s3cret"})), token=5, own_until=0)
    assert "s3cret" not in repr(stored)
    assert "body'" not in repr(stored)


def test_the_correlation_id_is_found():
    assert correlation_id(sealed()) == ""
    assert correlation_id(sealed(correlation_id="c", headers={"h": 1})) == "c"
    assert correlation_id(sealed(properties=BasicProperties(correlation_id="d"))) == "d"


@pytest.mark.parametrize("what", ["message_id", "correlation_id"])
def test_what_a_database_cannot_keep_is_refused(what):
    with pytest.raises(InvalidMessage, match=what):
        check_storable(sealed(**{what: "a\0"}), "default")


@pytest.mark.parametrize(
    "key",
    ["k", " a b ", "\u00e4", "e\u0301", "\u6587", "\U0001f600", "%", "\U0001f600" * 255],
    ids=ascii,
)
def test_ordering_keys(key):
    check_ordering_key(key)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        *((key, "1 to 255") for key in (None, 7, b"k", "", "k" * 256)),
        *(
            (f"{key}k", "control")
            for key in ("\0", "\1", "\t", "\x7f", "\x85", "\u200b", "\ufeff")
        ),
        *((f"k{key}", "control") for key in ("\n", "\u2028", "\u2029", "\ud800", "\u00ad")),
        *((key, "blank") for key in (" ", "\u3000", "\u0301", "\ufe0f", "\ufe70", " \u0301 ")),
    ],
    ids=ascii,
)
def test_what_is_no_ordering_key(key, why):
    """MariaDB's collations take some of it for nothing, or for less than nothing."""
    with pytest.raises(InvalidMessage, match=why):
        check_ordering_key(key)


def test_tokens_are_never_nobodys():
    drawn = {new_token() for _ in range(1000)}
    assert len(drawn) == 1000
    assert min(drawn) > 0
    assert max(drawn) < 2**63
    assert process_token() == process_token() > 0
