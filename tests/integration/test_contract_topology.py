"""The memory broker and RabbitMQ agree on declarations and routing."""

import re
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    QueueConfig,
    Rejected,
    Unroutable,
    connections,
)
from rmq_publisher.amqp.entities import Bare, Entity, ExchangeName, QueueName
from tests.support.sides import WHILE, Side, send, words

# -- declarations ---------------------------------------------------------------------------------


def test_a_publish_declares_what_it_is_given(side: Side) -> None:
    exchange = ExchangeConfig(side.unused_exchange(), "topic")
    queue = QueueConfig(side.unused_queue(), bindings=[Binding(exchange, "a.#")])
    send(exchange=exchange, routing_key="a.b", queue=queue)
    assert side.bodies(queue.name, 1) == [b"x"]


def test_topology_is_verified_once_per_connection(side: Side) -> None:
    queue = side.queue()
    send(queue=queue.name)
    side.delete_queue(queue.name)
    with pytest.raises(Unroutable):  # and not the 404 of a passive declare
        send(queue=queue.name)
    connections["default"].close()
    with pytest.raises(Rejected, match="404"):
        send(queue=queue.name)


def test_declaring_tells_how_much_waits(side: Side) -> None:
    exchange = side.exchange()
    queue = side.queue(bindings=[Binding(exchange.name, "k")])
    send(exchange=exchange.name, routing_key="k")
    side.take(queue.name).reject(requeue=True)
    time.sleep(WHILE)
    declared = side.declare(queue, QueueName(queue.name), exchange, ExchangeName(exchange.name))
    assert [(item.entity, item.messages, item.consumers) for item in declared] == [
        (f"queue '{queue.name}'", 1, 0),
        (f"binding of queue '{queue.name}' to exchange '{exchange.name}'", None, None),
        (f"queue '{queue.name}'", 1, 0),
        (f"exchange '{exchange.name}'", None, None),
        (f"exchange '{exchange.name}'", None, None),
    ]


def test_a_declaration_names_what_was_refused(side: Side) -> None:
    made, missing = QueueConfig(side.unused_queue()), side.unused_queue()
    with pytest.raises(Rejected) as caught:
        side.declare(made, QueueName(missing), QueueConfig(side.unused_queue()))
    error = caught.value
    assert (error.reply_code, error.message_id) == (404, "")
    assert words(error, missing) == "NOT_FOUND - no queue 'NAME1' in vhost '/'"
    assert error.__notes__ == [f"while declaring queue '{missing}'"]
    assert side.depth(made.name) == 0


FIVE = {"max_length": 5, "overflow": "drop-head"}
DIFFERENT_QUEUES = [
    ({}, {"durable": False}, "'durable'", "received 'false' but current is 'true'"),
    (FIVE, {"overflow": "drop-head"}, "'x-max-length'",
     "received none but current is the value '5' of type 'signedint'"),
    ({}, FIVE, "'x-max-length'", "received the value '5' of type 'signedint' but current is none"),
    ({}, {"max_length": 2**40}, "'x-max-length'",
     "received the value '1099511627776' of type 'long' but current is none"),
    (FIVE, {**FIVE, "max_length": 6}, "'x-max-length'", "received '6' but current is '5'"),
    (FIVE, {**FIVE, "overflow": "reject-publish"}, "'x-overflow'",
     "received 'reject-publish' but current is 'drop-head'"),
    ({}, {"message_ttl": 5}, "'x-message-ttl'",
     "received the value '5000' of type 'signedint' but current is none"),
    ({}, {"dead_letter_exchange": "x"}, "'x-dead-letter-exchange'",
     "received the value 'x' of type 'longstr' but current is none"),
    ({"dead_letter_exchange": ""}, {"dead_letter_exchange": "", "dead_letter_routing_key": "k"},
     "'x-dead-letter-routing-key'", "received the value 'k' of type 'longstr' but current is none"),
    ({}, {"single_active_consumer": True}, "'x-single-active-consumer'",
     "received the value 'true' of type 'bool' but current is none"),
    ({}, {"max_priority": 3}, "'x-max-priority'",
     "received the value '3' of type 'signedint' but current is none"),
    ({}, {"max_length_bytes": 3}, "'x-max-length-bytes'",
     "received the value '3' of type 'signedint' but current is none"),
    ({}, {"expires": 60}, "'x-expires'",
     "received the value '60000' of type 'signedint' but current is none"),
    ({"queue_type": "quorum"}, {"queue_type": "classic"}, "'x-queue-type'",
     "received 'classic' but current is 'quorum'"),
    ({"queue_type": "quorum"}, {"queue_type": "quorum", "delivery_limit": 3}, "'x-delivery-limit'",
     "received the value '3' of type 'signedint' but current is none"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "what", "difference"), DIFFERENT_QUEUES)
def test_a_queue_declared_differently(
    side: Side, first: dict[str, Any], second: dict[str, Any], what: str, difference: str
) -> None:
    queue = side.queue(**first)
    with pytest.raises(Rejected) as caught:
        send(queue=QueueConfig(queue.name, **second))
    assert (caught.value.reply_code, caught.value.retryable) == (406, False)
    assert words(caught.value, queue.name) == (
        f"PRECONDITION_FAILED - inequivalent arg {what} for queue 'NAME1' in vhost '/': {difference}"
    )
    side.declare(queue)  # as it is


def test_another_type_of_queue(side: Side) -> None:
    queue = side.queue()
    with pytest.raises(Rejected) as caught:
        side.declare(QueueConfig(queue.name, queue_type="quorum"))
    assert caught.value.reply_code == 406
    assert "inequivalent arg 'x-queue-type'" in caught.value.reply_text  # 3.10 and 4.0 go on apart


def test_queues_that_are_the_same(side: Side) -> None:
    queue = side.queue(arguments={"x-mine": 1}, max_length=5)
    side.declare(
        QueueConfig(queue.name, max_length=5, queue_type="classic"),
        QueueConfig(queue.name, max_length=5, arguments={"x-mine": 2}),  # unknown to the broker
    )


DIFFERENT_EXCHANGES = [
    ({}, {"type": "topic"}, "'type'", "received 'topic' but current is 'direct'"),
    ({}, {"durable": False}, "'durable'", "received 'false' but current is 'true'"),
    ({}, {"auto_delete": True}, "'auto_delete'", "received 'true' but current is 'false'"),
    ({}, {"internal": True}, "'internal'", "received 'true' but current is 'false'"),
    ({"alternate_exchange": "a"}, {}, "'alternate-exchange'",
     "received none but current is the value 'a' of type 'longstr'"),
    ({"alternate_exchange": "a"}, {"alternate_exchange": "b"}, "'alternate-exchange'",
     "received 'b' but current is 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "what", "difference"), DIFFERENT_EXCHANGES)
def test_an_exchange_declared_differently(
    side: Side, first: dict[str, Any], second: dict[str, Any], what: str, difference: str
) -> None:
    exchange = side.exchange(**first)
    with pytest.raises(Rejected) as caught:
        send(exchange=ExchangeConfig(exchange.name, **second), routing_key="k")
    assert caught.value.reply_code == 406
    assert words(caught.value, exchange.name) == (
        f"PRECONDITION_FAILED - inequivalent arg {what} for exchange 'NAME1' in vhost '/': {difference}"
    )
    side.declare(exchange)


IMPOSSIBLE_QUEUES: list[tuple[dict[str, Any], str]] = [
    ({"arguments": {"x-max-length": -1}}, "'x-max-length' {where}: {{value_negative,-1}}"),
    ({"arguments": {"x-max-length": "5"}}, "'x-max-length' {where}: \"expected integer, got longstr\""),
    ({"arguments": {"x-message-ttl": "60000"}},
     "'x-message-ttl' {where}: \"expected integer, got longstr\""),
    ({"arguments": {"x-message-ttl": 2**40}},
     "'x-message-ttl' {where}: {{value_too_large,1099511627776}}"),
    ({"arguments": {"x-max-priority": 256}}, "'x-max-priority' {where}: {{max_value_exceeded,256}}"),
    ({"arguments": {"x-overflow": "drop"}}, "'x-overflow' {where}: invalid_overflow"),
    ({"arguments": {"x-overflow": 1}}, "'x-overflow' {where}: {{unacceptable_type,signedint}}"),
    ({"arguments": {"x-expires": 0}}, "'x-expires' {where}: {{value_zero,0}}"),
    ({"arguments": {"x-single-active-consumer": 1}},
     "'x-single-active-consumer' {where}: {{unacceptable_type,signedint}}"),
    ({"arguments": {"x-queue-type": "lazy"}},
     "'x-queue-type' {where}: \"unsupported queue type 'lazy'\""),
    ({"arguments": {"x-dead-letter-routing-key": "k"}},
     "'x-dead-letter-routing-key' {where}: routing_key_but_no_dlx_defined"),
    ({"delivery_limit": 3}, "'x-delivery-limit' {where} of queue type rabbit_classic_queue"),
    ({"queue_type": "quorum", "arguments": {"x-max-priority": 3}},
     "'x-max-priority' {where} of queue type rabbit_quorum_queue"),
    ({"queue_type": "stream", "dead_letter_exchange": "x"},
     "'x-dead-letter-exchange' {where} of queue type rabbit_stream_queue"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "wrong"), IMPOSSIBLE_QUEUES)
def test_a_queue_that_cannot_be(side: Side, options: dict[str, Any], wrong: str) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        send(queue=QueueConfig(name, **options))
    assert caught.value.reply_code == 406
    where = "for queue 'NAME1' in vhost '/'"
    expected = f"PRECONDITION_FAILED - invalid arg {wrong.format(where=where)}"
    assert words(caught.value, name) == expected
    with pytest.raises(Rejected, match="404"):
        side.declare(QueueName(name))


def test_a_type_that_dead_letters_cannot_have(side: Side) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        send(queue=QueueConfig(name, arguments={"x-dead-letter-exchange": 5}))
    assert words(caught.value, name) == (
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' "
        "in queue 'NAME1' in vhost '/'"
    )


def test_an_alternate_exchange_of_no_name(side: Side) -> None:
    name = side.unused_exchange()
    with pytest.raises(Rejected) as caught:
        side.declare(ExchangeConfig(name, arguments={"alternate-exchange": 5}))
    assert words(caught.value, name) == (
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' "
        "in exchange 'NAME1' in vhost '/'"
    )


def test_a_quorum_queue_is_durable(side: Side) -> None:
    name = side.unused_queue()
    with pytest.raises(Rejected) as caught:
        side.declare(QueueConfig(name, durable=False, arguments={"x-queue-type": "quorum"}))
    assert words(caught.value, name) == (
        "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'NAME1' in vhost '/'"
    )


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        (QueueConfig("amq.mine"), "queue name 'amq.mine' contains reserved prefix 'amq.*'"),
        (ExchangeConfig("amq.mine"), "exchange name 'amq.mine' contains reserved prefix 'amq.*'"),
    ],
)
def test_reserved_names(side: Side, entity: Entity, text: str) -> None:
    with pytest.raises(Rejected) as caught:
        side.declare(entity)
    assert caught.value.reply_code == 403
    assert caught.value.reply_text == f"ACCESS_REFUSED - {text}"


def test_exchanges_that_are_always_there(side: Side) -> None:
    kinds = ("direct", "topic", "fanout", "headers")
    side.declare(
        *(ExchangeName(f"amq.{kind}") for kind in (*kinds, "match")),
        *(Bare(ExchangeConfig(f"amq.{kind}", kind)) for kind in kinds),
    )


@pytest.mark.parametrize("ends", ["queue", "exchange"])
def test_a_binding_from_nowhere(side: Side, ends: str) -> None:
    source = side.unused_exchange()
    with pytest.raises(Rejected) as caught:
        getattr(side, ends)(bindings=[Binding(source, "k")])
    assert caught.value.reply_code == 404
    assert words(caught.value, source) == "NOT_FOUND - no exchange 'NAME1' in vhost '/'"
    [note] = caught.value.__notes__
    assert re.fullmatch(rf"while declaring binding of {ends} '.*' to exchange '{source}'", note)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("some", 'value <<"some">>; expected all, any, all-with-x, or any-with-x'),
        (5, "type signedint (value 5); expected longstr"),
    ],
)
def test_a_headers_binding_that_cannot_be(side: Side, value: object, text: str) -> None:
    exchange = side.exchange("headers")
    with pytest.raises(Rejected) as caught:
        side.queue(bindings=[Binding(exchange.name, arguments={"x-match": value})])
    assert caught.value.reply_code == 406
    assert caught.value.reply_text == f"PRECONDITION_FAILED - Invalid x-match field {text}"


# -- routing --------------------------------------------------------------------------------------


def reached(side: Side, queues: Mapping[Any, str], **options: Any) -> list[Any]:
    """Which of the queues one message reaches; each must get it once."""
    try:
        send(**options)
    except Unroutable:
        return []
    found = []
    for label, queue in queues.items():
        message = side.get(queue)
        if message is not None:
            message.ack()
            found.append(label)
            assert side.get(queue) is None, f"{label} got it twice"
    assert found, "confirmed, but in no queue"
    return found


def test_direct(side: Side) -> None:
    exchange = side.exchange("direct")
    keys = ("a", "b", "", "a.b", "#")
    queues = {key: side.queue(bindings=[Binding(exchange.name, key)]).name for key in keys}
    queues["a and b"] = side.queue(
        bindings=[Binding(exchange.name, "a"), Binding(exchange.name, "b")]
    ).name
    for key, expected in {
        "a": ["a", "a and b"], "b": ["b", "a and b"], "": [""], "a.b": ["a.b"], "#": ["#"],
        "c": [], "A": [],
    }.items():  # fmt: skip
        found = reached(side, queues, exchange=exchange.name, routing_key=key)
        assert found == expected, key


def test_fanout(side: Side) -> None:
    exchange = side.exchange("fanout")
    queues = {n: side.queue(bindings=[Binding(exchange.name, f"key{n}")]).name for n in range(3)}
    found = reached(side, queues, exchange=exchange.name, routing_key="whatever")
    assert found == [0, 1, 2]


PATTERNS = (
    "", "#", "*", "a", "a.*", "a.#", "#.a", "*.a", "a.", "*.", "a..b", "a.*.b", "#.#", "*.#", "#.*",
    "a.#.b", "*.*", ".", ".*", "#.b.#", "a.*.#",
)  # fmt: skip
# What RabbitMQ answered.
MATCHES = {
    "": ["", "#", "#.#"],
    "a": ["#", "*", "a", "a.#", "#.a", "#.#", "*.#", "#.*"],
    "b": ["#", "*", "#.#", "*.#", "#.*", "#.b.#"],
    "a.b": ["#", "a.*", "a.#", "#.#", "*.#", "#.*", "a.#.b", "*.*", "#.b.#", "a.*.#"],
    "b.a": ["#", "#.a", "*.a", "#.#", "*.#", "#.*", "*.*", "#.b.#"],
    "a.": ["#", "a.*", "a.#", "a.", "*.", "#.#", "*.#", "#.*", "*.*", "a.*.#"],
    ".a": ["#", "#.a", "*.a", "#.#", "*.#", "#.*", "*.*", ".*"],
    ".": ["#", "*.", "#.#", "*.#", "#.*", "*.*", ".", ".*"],
    "..": ["#", "#.#", "*.#", "#.*"],
    "a..b": ["#", "a.#", "a..b", "a.*.b", "#.#", "*.#", "#.*", "a.#.b", "#.b.#", "a.*.#"],
    "a.b.c": ["#", "a.#", "#.#", "*.#", "#.*", "#.b.#", "a.*.#"],
    "a.x.y.b": ["#", "a.#", "#.#", "*.#", "#.*", "a.#.b", "#.b.#", "a.*.#"],
}


def test_topic(side: Side) -> None:
    exchange = side.exchange("topic")
    queues = {
        pattern: side.queue(bindings=[Binding(exchange.name, pattern)]).name
        for pattern in PATTERNS
    }
    for key, expected in MATCHES.items():
        found = reached(side, queues, exchange=exchange.name, routing_key=key)
        assert found == expected, key


BINDINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "all of nothing": {"x-match": "all"},
    "any of nothing": {"x-match": "any"},
    "1": {"k": 1},
    "'1'": {"k": "1"},
    "true": {"k": True},
    "present": {"k": None},
    "any": {"x-match": "any", "k": 1, "l": 2},
    "all": {"x-match": "all", "k": 1, "l": 2},
    "any present": {"x-match": "any", "z": None, "k": 5},
    "x-": {"x-k": 1},
    "any x-": {"x-match": "any", "x-k": 1},
    "all with x": {"x-match": "all-with-x", "x-k": 1, "k": 7},
    "any with x": {"x-match": "any-with-x", "x-k": 1, "k": 3},
    "big": {"k": 2**40},
    "list": {"k": [1, "a"]},
    "table": {"k": {"a": 1}},
    "decimal": {"k": Decimal("1.5")},
}
ALWAYS = ["nothing", "all of nothing"]
HEADERS_MATCHES: list[tuple[dict[str, Any] | None, list[str]]] = [
    (None, []),
    ({"k": 1}, ["1", "present", "any"]),
    ({"k": "1"}, ["'1'", "present"]),
    ({"k": True}, ["true", "present"]),
    ({"k": None}, ["present"]),
    ({"k": 1, "l": 2}, ["1", "present", "any", "all"]),
    ({"l": 2}, ["any"]),
    ({"k": 2, "l": 1}, ["present"]),
    ({"x-k": 1}, ["any with x"]),
    ({"x-k": 1, "k": 7}, ["present", "all with x", "any with x"]),
    ({"k": 3}, ["present", "any with x"]),
    ({"k": 5}, ["present", "any present"]),
    ({"z": 0}, ["any present"]),
    ({"k": 2**40}, ["present", "big"]),
    ({"k": [1, "a"]}, ["present", "list"]),
    ({"k": ["a", 1]}, ["present"]),
    ({"k": {"a": 1}}, ["present", "table"]),
    ({"k": Decimal("1.5")}, ["present", "decimal"]),
    ({"k": Decimal(1)}, ["present"]),
]


def test_headers(side: Side) -> None:
    exchange = side.exchange("headers")
    queues = {
        label: side.queue(bindings=[Binding(exchange.name, arguments=arguments)]).name
        for label, arguments in BINDINGS.items()
    }
    for headers, expected in HEADERS_MATCHES:
        # "x-" alone asks for nothing: what begins with x- is passed over.
        wanted = {*ALWAYS, "x-", *expected}
        found = reached(side, queues, exchange=exchange.name, headers=headers)
        assert set(found) == wanted, headers


def test_from_exchange_to_exchange(side: Side) -> None:
    source = side.exchange("topic")
    middle = side.exchange("fanout", bindings=[Binding(source.name, "a.*")])
    queues = {
        "through": side.queue(bindings=[Binding(middle.name, "not.looked.at")]).name,
        "both ways": side.queue(
            bindings=[Binding(middle.name), Binding(source.name, "#")]
        ).name,
    }  # fmt: skip
    assert reached(side, queues, exchange=source.name, routing_key="a.b") == [
        "through",
        "both ways",
    ]
    assert reached(side, queues, exchange=source.name, routing_key="b") == ["both ways"]


def test_exchanges_bound_in_a_circle(side: Side) -> None:
    one, two = side.exchange("fanout"), side.exchange("fanout")
    side.declare(
        ExchangeConfig(one.name, "fanout", bindings=[Binding(two.name)]),
        ExchangeConfig(two.name, "fanout", bindings=[Binding(one.name)]),
    )
    queue = side.queue(bindings=[Binding(two.name)])
    assert reached(side, {"q": queue.name}, exchange=one.name) == ["q"]


def test_alternate_exchanges(side: Side) -> None:
    last = side.exchange("fanout", internal=True)
    caught = side.queue(bindings=[Binding(last.name)])
    second = side.exchange("direct", alternate_exchange=last.name)
    first = side.exchange("direct", alternate_exchange=second.name)
    bound = side.queue(bindings=[Binding(first.name, "k"), Binding(second.name, "second")])
    dead_end = side.exchange("fanout", bindings=[Binding(first.name, "nowhere")])
    queues = {"caught": caught.name, "bound": bound.name}

    def to(key: str) -> list[str]:
        return reached(side, queues, exchange=first.name, routing_key=key)

    assert to("k") == ["bound"]
    assert to("second") == ["bound"]
    assert to("other") == ["caught"]
    assert to("nowhere") == [], f"it matched, though {dead_end.name} led no further"


def test_an_alternate_exchange_that_is_missing(side: Side) -> None:
    exchange = side.exchange("direct", alternate_exchange=side.unused_exchange())
    with pytest.raises(Unroutable):
        send(exchange=exchange.name, routing_key="k")


def test_an_exchange_of_its_own_accord_goes_with_its_last_binding(side: Side) -> None:
    exchange = side.exchange("direct", auto_delete=True)
    queues = [side.queue(bindings=[Binding(exchange.name, key)]) for key in "ab"]
    side.delete_queue(queues[0].name)
    side.declare(ExchangeName(exchange.name))
    side.delete_queue(queues[1].name)
    with pytest.raises(Rejected, match="404"):
        side.declare(ExchangeName(exchange.name))


def test_a_deleted_exchange_takes_its_bindings_along(side: Side) -> None:
    source = side.exchange("fanout")
    middle = side.exchange("fanout", bindings=[Binding(source.name)])
    side.queue(bindings=[Binding(middle.name)])
    side.delete_exchange(middle.name)
    with pytest.raises(Unroutable):
        send(exchange=source.name)


def test_carbon_copies(side: Side) -> None:
    queues = {name: side.queue().name for name in ("to", "cc", "bcc")}
    send(
        routing_key=queues["to"],
        headers={"CC": [queues["cc"], queues["to"]], "BCC": [queues["bcc"]], "h": 2.5},
    )
    for name in queues.values():
        message = side.take(name)
        assert message.routing_key == queues["to"]
        headers = message.properties.headers
        assert set(headers) == {"CC", "h"}  # nobody sees the blind ones
        assert headers["CC"] == [queues["cc"], queues["to"]]
        assert side.get(name) is None


@pytest.mark.parametrize("copies", ["CC", "BCC"])
def test_a_carbon_copy_is_enough(side: Side, copies: str) -> None:
    exchange = side.exchange("topic")
    queue = side.queue(bindings=[Binding(exchange.name, "c.*")])
    send(exchange=exchange.name, routing_key="a", headers={copies: ["b", "c.d"]})
    message = side.take(queue.name)
    assert message.routing_key == "a"
    with pytest.raises(Unroutable):
        send(exchange=exchange.name, routing_key="a", headers={copies: ["b"]})
