"""Topology values: equality by value and type, refusals that name the argument, AMQP steps."""

import copy
import pickle
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.amqp.entities import (
    Bare,
    Binding,
    Bound,
    ExchangeConfig,
    ExchangeName,
    QueueConfig,
    QueueName,
)
from rmq_publisher.amqp.validation import TopologyError

EVENTS = ExchangeConfig("events", "topic")


def operations(entity):
    return [(step.operation, dict(step.arguments)) for step in entity.steps()]


# -- equality ---------------------------------------------------------------------------------


def test_equal_by_value_whoever_made_it():
    def make():
        return QueueConfig(
            "q",
            queue_type="quorum",
            arguments={"x-a": [1, {"b": True}]},
            bindings=[Binding(ExchangeConfig("events", "topic"), "k", {"h": 1})],
        )

    assert make() == make()
    assert hash(make()) == hash(make())
    assert len({make(), make()}) == 1


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))]
)
@pytest.mark.parametrize("wrap", [dict, MappingProxyType])
def test_a_copy_is_the_same_value(again, wrap):
    """Also in another process, where strings have other hashes."""
    events = ExchangeConfig("events", "topic", alternate_exchange="rest", using="other")
    queue = QueueConfig(
        "q",
        queue_type="quorum",
        message_ttl=timedelta(seconds=2),
        arguments=wrap({"x-a": [1, {"b": True}]}),
        bindings=[Binding(events, "k", wrap({"h": 1}))],
        using="other",
    )
    copied = again(queue)
    assert copied == queue
    assert hash(copied) == hash(queue)
    assert repr(copied) == repr(queue)
    assert copied.using == "other"
    assert operations(copied) == operations(queue)


def test_what_was_given_is_not_kept():
    """The caller may change its own dict and list afterwards."""
    arguments = {"x-a": [1]}
    binding = Binding("events", "k", arguments)
    queue = QueueConfig("q", arguments=arguments, bindings=[binding])
    before = operations(queue)
    arguments["x-b"] = 2
    arguments["x-a"].append(2)
    assert operations(queue) == before
    assert pickle.loads(pickle.dumps(queue)) == queue


def test_keywords_and_their_arguments_are_the_same_value():
    assert QueueConfig("q", max_length=5) == QueueConfig("q", arguments={"x-max-length": 5})
    assert QueueConfig("q", message_ttl=timedelta(seconds=2)) == QueueConfig("q", message_ttl=2.0)


def test_the_order_of_arguments_does_not_count_and_that_of_items_does():
    one = QueueConfig("q", arguments={"a": 1, "b": [1, 2]})
    assert one == QueueConfig("q", arguments={"b": [1, 2], "a": 1})
    assert one != QueueConfig("q", arguments={"a": 1, "b": [2, 1]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (QueueConfig("q", arguments={"x": 1}), QueueConfig("q", arguments={"x": True})),
        (QueueConfig("q", arguments={"x": "1"}), QueueConfig("q", arguments={"x": b"1"})),
        (QueueConfig("q", arguments={"x": {"y": 1}}), QueueConfig("q", arguments={"x": {"y": True}})),
        (QueueConfig("q"), QueueConfig("q", durable=False)),
        (QueueConfig("q"), QueueConfig("q", bindings=[Binding("e")])),
        (QueueConfig("q", bindings=[Binding("e")]), QueueConfig("q", bindings=[Binding("e", "k")])),
        (Binding("events"), Binding(EVENTS)),
        (Binding(EVENTS), Binding(ExchangeConfig("events", "fanout"))),
        (QueueConfig("q"), ExchangeConfig("q")),
        (QueueConfig("q"), QueueConfig("r")),
        (ExchangeConfig("e"), ExchangeConfig("e", "topic")),
        (ExchangeConfig("e"), ExchangeConfig("e", durable=False)),
        (ExchangeConfig("e"), ExchangeConfig("e", auto_delete=True)),
        (ExchangeConfig("e"), ExchangeConfig("e", internal=True)),
        (ExchangeConfig("e"), ExchangeConfig("e", alternate_exchange="a")),
        (ExchangeConfig("e"), ExchangeConfig("e", bindings=[Binding("s")])),
        (QueueConfig("q"), "q"),
        (QueueName("q"), ExchangeName("q")),
    ],
)  # fmt: skip
def test_what_differs_on_the_wire_is_not_equal(one, other):
    assert one != other
    assert len({one, other}) == 2


def test_values_cannot_be_changed():
    queue = QueueConfig("q", arguments={"x-a": 1}, bindings=[Binding("e")])
    with pytest.raises(AttributeError):
        queue.name = "r"
    with pytest.raises(TypeError):
        queue.x_arguments["x-a"] = 2
    assert isinstance(queue.bindings, tuple)


def test_the_arguments_given_are_copied():
    given_arguments = {"x-a": 1}
    queue = QueueConfig("q", arguments=given_arguments)
    given_arguments["x-a"] = 2
    assert dict(queue.x_arguments) == {"x-a": 1}
    [(_, step)] = operations(queue)
    step["arguments"]["x-a"] = 3
    assert operations(queue)[0][1]["arguments"] == {"x-a": 1}


def test_bindings_may_come_from_a_generator():
    queue = QueueConfig("q", bindings=(Binding("e", key) for key in "ab"))
    assert [binding.routing_key for binding in queue.bindings] == ["a", "b"]
    assert len(operations(queue)) == 3


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "must not be empty"),
        (None, "must be a str, not NoneType"),
        (b"q", "must be a str, not bytes"),
        ("é" * 128, "256 bytes"),
        ("\ud800", "surrogate"),
    ],
)
@pytest.mark.parametrize("kind", [QueueConfig, ExchangeConfig])
def test_names_are_short_strings(kind, name, words):
    with pytest.raises(TopologyError, match=rf"{kind.__name__}\(name\).*{words}"):
        kind(name)


def test_the_longest_name():
    assert QueueConfig("é" * 127 + "x").name == "é" * 127 + "x"


@pytest.mark.parametrize(
    ("keywords", "argument"),
    [
        ({"queue_type": "Quorum"}, "queue_type"),
        ({"queue_type": "quorum", "durable": False}, "durable"),
        ({"queue_type": "stream", "durable": False}, "durable"),
        ({"queue_type": "quorum", "max_priority": 5}, "max_priority"),
        ({"overflow": "reject"}, "overflow"),
        ({"dead_letter_exchange": 5}, "dead_letter_exchange"),
        ({"dead_letter_exchange": "x" * 256}, "dead_letter_exchange"),
        ({"dead_letter_routing_key": "k"}, "dead_letter_exchange"),
        ({"dead_letter_exchange": "x", "dead_letter_routing_key": 5}, "dead_letter_routing_key"),
        ({"message_ttl": -1}, "message_ttl"),
        ({"message_ttl": True}, "message_ttl"),
        ({"message_ttl": "5"}, "message_ttl"),
        ({"message_ttl": float("nan")}, "message_ttl"),
        ({"message_ttl": timedelta(seconds=-1)}, "message_ttl"),
        ({"expires": 0}, "expires"),
        ({"expires": float("inf")}, "expires"),
        ({"max_length": -1}, "max_length"),
        ({"max_length": 2**63}, "max_length"),
        ({"max_length": True}, "max_length"),
        ({"max_length_bytes": 1.5}, "max_length_bytes"),
        ({"max_priority": 0}, "max_priority"),
        ({"max_priority": 256}, "max_priority"),
        ({"delivery_limit": -1}, "delivery_limit"),
        ({"max_length": 1, "arguments": {"x-max-length": 2}}, "x-max-length"),
        ({"bindings": ["events"]}, "bindings"),
    ],
)
def test_a_queue_that_no_broker_takes(keywords, argument):
    with pytest.raises(TopologyError, match=argument):
        QueueConfig("q", **keywords)


@pytest.mark.parametrize(
    ("keywords", "argument"),
    [
        ({"type": "Topic"}, "type"),
        ({"type": None}, "type"),
        ({"alternate_exchange": ""}, "alternate_exchange"),
        ({"alternate_exchange": 5}, "alternate_exchange"),
        (
            {"alternate_exchange": "a", "arguments": {"alternate-exchange": "b"}},
            "alternate-exchange",
        ),
        ({"bindings": [("events", "k")]}, "bindings"),
    ],
)
def test_an_exchange_that_no_broker_takes(keywords, argument):
    with pytest.raises(TopologyError, match=argument):
        ExchangeConfig("e", **keywords)


@pytest.mark.parametrize("arguments", [("",), (None,), ("e", None), ("e", "k" * 256)])
def test_a_binding_that_no_broker_takes(arguments):
    with pytest.raises(TopologyError, match="Binding"):
        Binding(*arguments)


def test_the_same_argument_twice_with_one_value_is_no_contradiction():
    assert QueueConfig("q", max_length=1, arguments={"x-max-length": 1}).x_arguments == {
        "x-max-length": 1
    }


# -- steps ------------------------------------------------------------------------------------


def test_a_plain_queue_is_verified_passively():
    assert operations(QueueName("q")) == [("queue_declare", {"queue": "q", "passive": True})]


def test_a_plain_exchange_is_verified_passively_but_not_the_default_one():
    assert operations(ExchangeName("e")) == [
        ("exchange_declare", {"exchange": "e", "passive": True})
    ]
    assert operations(ExchangeName("")) == []


def test_a_queue_is_declared_with_exactly_its_arguments():
    queue = QueueConfig(
        "q", True, "dlx", "dead",
        queue_type="classic", message_ttl=1.5, max_length=0, max_length_bytes=2,
        overflow="reject-publish", max_priority=3, single_active_consumer=True,
        expires=timedelta(minutes=1), arguments={"x-own": "y"},
    )  # fmt: skip
    assert operations(queue) == [
        (
            "queue_declare",
            {
                "queue": "q",
                "durable": True,
                "arguments": {
                    "x-queue-type": "classic",
                    "x-dead-letter-exchange": "dlx",
                    "x-dead-letter-routing-key": "dead",
                    "x-message-ttl": 1500,
                    "x-max-length": 0,
                    "x-max-length-bytes": 2,
                    "x-overflow": "reject-publish",
                    "x-max-priority": 3,
                    "x-single-active-consumer": True,
                    "x-expires": 60_000,
                    "x-own": "y",
                },
            },
        )
    ]


def test_a_queue_with_nothing_said_has_no_arguments():
    assert operations(QueueConfig("q"))[0][1]["arguments"] == {}
    limited = QueueConfig("q", queue_type="quorum", delivery_limit=0)
    assert operations(limited)[0][1]["arguments"] == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 0,
    }


def test_messages_may_live_for_no_time_at_all():
    assert operations(QueueConfig("q", message_ttl=0))[0][1]["arguments"] == {"x-message-ttl": 0}


def test_the_default_exchange_takes_dead_letters():
    queue = QueueConfig("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    assert operations(queue)[0][1]["arguments"] == {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }


def test_an_exchange_is_declared_with_exactly_its_arguments():
    exchange = ExchangeConfig(
        "e", "fanout", False,
        auto_delete=True, internal=True, alternate_exchange="a", arguments={"x-own": 1},
    )  # fmt: skip
    assert operations(exchange) == [
        (
            "exchange_declare",
            {
                "exchange": "e",
                "exchange_type": "fanout",
                "durable": False,
                "auto_delete": True,
                "internal": True,
                "arguments": {"alternate-exchange": "a", "x-own": 1},
            },
        )
    ]


def test_bindings_follow_and_a_source_given_as_config_is_declared_first():
    queue = QueueConfig("q", bindings=[Binding(EVENTS, "a.#", {"h": 1}), Binding("other")])
    assert [operation for operation, _ in operations(queue)] == [
        "queue_declare", "exchange_declare", "queue_bind", "queue_bind",
    ]  # fmt: skip
    assert [step for operation, step in operations(queue) if operation == "queue_bind"] == [
        {"queue": "q", "exchange": "events", "routing_key": "a.#", "arguments": {"h": 1}},
        {"queue": "q", "exchange": "other", "routing_key": "", "arguments": {}},
    ]


def test_an_exchange_is_bound_to_its_source():
    exchange = ExchangeConfig("e", bindings=[Binding(EVENTS, "a")])
    assert operations(exchange)[-1] == (
        "exchange_bind",
        {"destination": "e", "source": "events", "routing_key": "a", "arguments": {}},
    )


def test_bare_leaves_the_bindings_out():
    queue = QueueConfig("q", bindings=[Binding(EVENTS, "a")])
    assert operations(Bare(queue)) == operations(queue)[:1]
    assert str(Bare(queue)) == "queue 'q'"


@pytest.mark.parametrize("kind", [QueueConfig, ExchangeConfig])
def test_bound_is_the_one_binding_alone(kind):
    target = kind("x", bindings=[Binding("other"), Binding(EVENTS, "a")])
    bound = Bound(target, target.bindings[1])
    assert operations(bound) == operations(target)[-1:]
    assert str(bound) == f"binding of {target} to exchange 'events' by 'a'"


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.booleans()
            | st.integers(-(2**31), 2**31)
            | st.text(max_size=5)
            | st.binary(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
            ),
            max_leaves=5,
        ),
        max_size=3,
    )
)
def test_any_arguments_are_hashable_and_equal_to_themselves(arguments):
    one, other = (QueueConfig("q", arguments=dict(arguments)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)


def test_no_argument_value_stands_in_a_text():
    queue = QueueConfig("q", bindings=[Binding("e", "k", {"token": "secret-1"})])
    shown = [str(queue), str(Bound(queue, queue.bindings[0])), *(s.entity for s in queue.steps())]
    assert "secret-1" not in " ".join(shown)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"x-match": "all", "weight": 1.5}, r"arguments\['weight'\]"),
        ({"sizes": [1, 2.0]}, r"arguments\['sizes'\]\[1\]"),
        ({"size": {"min": 0.1}}, r"arguments\['size'\]\['min'\]"),
    ],
)
def test_a_float_is_refused_with_the_reason_and_its_place(arguments, where):
    """AMQP has floats; it is pika that cannot send one, in a headers binding and elsewhere."""
    reason = (
        where + " is a float, which pika cannot send in a declaration: use a whole number or a str"
    )
    exchange = ExchangeConfig("by_headers", "headers")
    for make in (
        lambda: Binding(exchange, arguments=arguments),
        lambda: QueueConfig("q", arguments=arguments),
        lambda: ExchangeConfig("x", arguments=arguments),
    ):
        with pytest.raises(TopologyError, match=reason):
            make()


class Name(StrEnum):
    A = "a"
    TOPIC = "topic"
    QUORUM = "quorum"
    OVERFLOW = "reject-publish"


def test_members_of_enums_become_plain_names_everywhere():
    exchange = ExchangeConfig(Name.A, Name.TOPIC, alternate_exchange=Name.A, using=Name.A)
    queue = QueueConfig(
        Name.A,
        queue_type=Name.QUORUM,
        overflow=Name.OVERFLOW,
        dead_letter_exchange=Name.A,
        dead_letter_routing_key=Name.A,
        arguments={Name.A: Name.A},
        bindings=[Binding(Name.A, Name.A, {Name.A: Name.A}), Binding(exchange, Name.A)],
        using=Name.A,
    )
    assert "Name" not in f"{queue!r} {queue} {exchange!r} {exchange} {list(queue.steps())}"
    assert queue.using == exchange.using == "a"
    with pytest.raises(TopologyError, match="not 'topic'"):
        QueueConfig("q", queue_type=Name.TOPIC)
