"""The memory broker and RabbitMQ agree on time, limits and dead letters."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pika import BasicProperties

from rmq_publisher import (
    Binding,
    Nacked,
    QueueConfig,
    Rejected,
)
from tests.support.sides import WHILE, Side, Taken, fill, send

# From then on what a consumer had in one queue is known in the next one.
ATTEMPTS_COUNT_ON = (4, 3)

# -- queues that are full -------------------------------------------------------------------------


def test_a_full_queue_drops_its_head(side: Side) -> None:
    queue = side.queue(max_length=2).name
    assert fill(queue, b"1", b"2", b"3", b"4") == ["ack"] * 4
    assert side.bodies(queue, 2) == [b"3", b"4"]


def test_a_full_queue_refuses(side: Side) -> None:
    queue = side.queue(max_length=2, overflow="reject-publish").name
    assert fill(queue, b"1", b"2", b"3", b"4") == ["ack", "ack", "nack", "nack"]
    assert side.bodies(queue, 2) == [b"1", b"2"]
    assert fill(queue, b"5") == ["ack"]


def test_what_a_refusal_says(side: Side) -> None:
    queue = side.queue(max_length=0, overflow="reject-publish").name
    with pytest.raises(Nacked) as caught:
        send(routing_key=queue, message_id="m")
    assert caught.value.retryable
    assert caught.value.message_id == "m"
    assert str(caught.value).replace(queue, "NAME") == (
        "refused by a queue (exchange '', routing key 'NAME', message m)"
    )


def test_a_queue_is_full_of_bytes(side: Side) -> None:
    dropping = side.queue(max_length_bytes=3).name
    assert fill(dropping, b"aa", b"b", b"cc", b"dddd") == ["ack"] * 4
    assert side.bodies(dropping, 0) == []
    fill(dropping, b"aa", b"b", b"cc")
    assert side.bodies(dropping, 2) == [b"b", b"cc"]
    refusing = side.queue(max_length_bytes=4, overflow="reject-publish").name
    assert fill(refusing, b"aaa", b"bb", b"c") == ["ack", "nack", "ack"]
    assert side.bodies(refusing, 2) == [b"aaa", b"c"]


def test_one_of_several_queues_refuses(side: Side) -> None:
    exchange = side.exchange("fanout")
    full = side.queue(
        max_length=0, overflow="reject-publish", bindings=[Binding(exchange.name)]
    ).name
    other = side.queue(bindings=[Binding(exchange.name)]).name
    with pytest.raises(Nacked):
        send(exchange=exchange.name)
    assert side.bodies(other, 1) == [b"x"]
    assert side.bodies(full, 0) == []


def test_what_a_consumer_holds_takes_no_place(side: Side) -> None:
    queue = side.queue(max_length=1, overflow="reject-publish").name
    fill(queue, b"1")
    held = side.take(queue)
    assert fill(queue, b"2", b"3") == ["ack", "nack"]
    held.reject(requeue=True)
    time.sleep(WHILE)
    assert side.depth(queue) == 2
    assert side.bodies(queue, 2) == [b"1", b"2"]


def test_what_comes_back_to_a_full_queue_is_its_head(side: Side) -> None:
    queue = side.queue(max_length=1).name
    fill(queue, b"1")
    held = side.take(queue)
    fill(queue, b"2")
    held.reject(requeue=True)
    time.sleep(WHILE)
    assert side.bodies(queue, 1) == [b"2"]


# -- time and dead letters ------------------------------------------------------------------------


def death(message: Taken) -> list[dict[str, Any]]:
    """The entries of x-death, without their time, which must be now."""
    entries = [dict(entry) for entry in message.properties.headers["x-death"]]
    for entry in entries:
        assert abs(entry.pop("time") - datetime.now(UTC)).total_seconds() < 120
    return entries


def firsts(message: Taken) -> tuple[str, ...]:
    headers = message.properties.headers
    return tuple(headers[f"x-first-death-{name}"] for name in ("exchange", "queue", "reason"))


def test_messages_expire(side: Side) -> None:
    queue = side.queue(message_ttl=2).name
    plain = side.queue().name
    fill(queue, b"1")
    fill(queue, b"2", expiration=0.05)
    fill(plain, b"3", expiration=0.05)
    fill(plain, b"4")
    assert side.depth(queue) + side.depth(plain) >= 2
    side.wait(2.5)
    assert side.bodies(queue, 0) == []
    assert side.bodies(plain, 1) == [b"4"]


def test_zero_expires_at_once(side: Side) -> None:
    queue = side.queue().name
    fill(queue, b"1", properties=BasicProperties(expiration="0"))
    assert side.stays_empty(queue)


def test_what_stands_behind_another_message_expires_at_the_head_only(side: Side) -> None:
    queue = side.queue().name
    fill(queue, b"long", expiration=60)
    fill(queue, b"short", expiration=0.05)
    side.wait(0.3)
    assert side.depth(queue) == 2
    assert side.bodies(queue, 1) == [b"long"]


def test_a_rejected_message_goes_to_the_dead_letters(side: Side) -> None:
    exchange = side.exchange("direct")
    dead = side.queue(bindings=[Binding(exchange.name, "dead")])
    queue = side.queue(dead_letter_exchange=exchange.name, dead_letter_routing_key="dead")
    send(
        b"body", queue=queue.name, message_id="m", expiration=60, type="t",
        headers={"mine": 1.0, "CC": ["elsewhere"]},
    )  # fmt: skip
    side.take(queue.name).reject()
    message = side.take(dead.name)
    assert (message.exchange, message.routing_key) == (exchange.name, "dead")
    assert (message.body, message.redelivered) == (b"body", side.version >= ATTEMPTS_COUNT_ON)
    properties = message.properties
    assert (properties.message_id, properties.type, properties.delivery_mode) == ("m", "t", 2)
    assert properties.content_type == "application/json"
    assert properties.expiration is None
    assert properties.headers["mine"] == 1
    assert death(message) == [
        {
            "count": 1,
            "reason": "rejected",
            "queue": queue.name,
            "exchange": "",
            "routing-keys": [queue.name, "elsewhere"],
            "original-expiration": "60000",
        }
    ]
    assert firsts(message) == ("", queue.name, "rejected")


def test_an_acknowledged_message_does_not(side: Side) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name)
    fill(queue.name, b"1", b"2")
    side.take(queue.name).ack()
    side.take(queue.name).reject(requeue=True)
    assert side.stays_empty(dead.name)
    assert side.bodies(queue.name, 1) == [b"2"]


@pytest.mark.parametrize(
    ("options", "expiration", "original"),
    [
        ({}, 0.05, {"original-expiration": "50"}),
        ({"message_ttl": 0.05}, None, {}),
        ({"message_ttl": 0.05}, 60, {"original-expiration": "60000"}),
    ],
)
def test_an_expired_message_goes_to_the_dead_letters(
    side: Side, options: dict[str, Any], expiration: float | None, original: dict[str, str]
) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name, **options)
    send(queue=queue.name, expiration=expiration)
    side.wait(0.2)
    message = side.take(dead.name)
    [entry] = death(message)
    expected = {"count": 1, "reason": "expired", "queue": queue.name, "exchange": "", **original}
    assert entry == {**expected, "routing-keys": [queue.name]}
    assert message.properties.expiration is None


def test_without_a_key_for_dead_letters_they_keep_their_own(side: Side) -> None:
    exchange, graves = side.exchange("direct"), side.exchange("direct")
    dead = side.queue(bindings=[Binding(graves.name, "own")])
    copied = side.queue(bindings=[Binding(graves.name, "copy")])
    queue = side.queue(
        dead_letter_exchange=graves.name, bindings=[Binding(exchange.name, "own")]
    ).name
    send(exchange=exchange.name, routing_key="own", headers={"CC": ["copy"]})
    side.take(queue).reject()
    for name in (dead.name, copied.name):
        message = side.take(name)
        assert (message.exchange, message.routing_key) == (graves.name, "own")
        assert message.properties.headers["CC"] == ["copy"]
        [entry] = death(message)
        assert (entry["exchange"], entry["routing-keys"]) == (exchange.name, ["own", "copy"])


@pytest.mark.parametrize(
    ("overflow", "outcomes", "dead_bodies"),
    [
        ("drop-head", ["ack", "ack"], [b"1"]),
        ("reject-publish", ["ack", "nack"], []),
        ("reject-publish-dlx", ["ack", "nack"], [b"2"]),
    ],
)
def test_what_a_full_queue_does_with_dead_letters(
    side: Side, overflow: str, outcomes: list[str], dead_bodies: list[bytes]
) -> None:
    dead = side.queue()
    queue = side.queue(
        max_length=1, overflow=overflow, dead_letter_exchange="", dead_letter_routing_key=dead.name
    )
    assert fill(queue.name, b"1", b"2") == outcomes
    if dead_bodies:
        message = side.take(dead.name)
        assert message.body == dead_bodies[0]
        assert [entry["reason"] for entry in death(message)] == ["maxlen"]
    assert side.stays_empty(dead.name)


def test_dead_letters_without_an_exchange_are_dropped(side: Side) -> None:
    queue = side.queue(dead_letter_exchange=side.unused_exchange())
    fill(queue.name, b"1", b"2")
    side.take(queue.name).reject()
    assert side.bodies(queue.name, 1) == [b"2"]


def test_dead_letters_go_by_alternate_exchanges_too(side: Side) -> None:
    last = side.exchange("fanout")
    dead = side.queue(bindings=[Binding(last.name)])
    exchange = side.exchange("direct", alternate_exchange=last.name)
    queue = side.queue(dead_letter_exchange=exchange.name)
    fill(queue.name, b"1")
    side.take(queue.name).reject()
    assert side.bodies(dead.name, 1) == [b"1"]


def test_a_retry_by_way_of_a_waiting_queue(side: Side) -> None:
    work, waiting = side.unused_queue(), side.unused_queue()
    side.declare(
        QueueConfig(
            waiting, message_ttl=0.05, dead_letter_exchange="", dead_letter_routing_key=work
        ),
        QueueConfig(work, dead_letter_exchange="", dead_letter_routing_key=waiting),
    )
    send(queue=work)
    for tries in range(4):
        if tries:
            side.wait(0.2)
        message = side.take(work)
        if tries:
            entries = death(message)
            assert [(entry["queue"], entry["reason"], entry["count"]) for entry in entries] == [
                (waiting, "expired", tries),
                (work, "rejected", tries),
            ]
            assert firsts(message) == ("", work, "rejected")
        message.reject()


def test_dead_letters_do_not_run_in_circles(side: Side) -> None:
    one, two = side.unused_queue(), side.unused_queue()
    for name, other in ((one, two), (two, one)):
        side.declare(
            QueueConfig(
                name, message_ttl=0.05, dead_letter_exchange="", dead_letter_routing_key=other
            )
        )
    send(queue=one)
    side.wait(0.5)
    assert (side.depth(one), side.depth(two)) == (0, 0)


def test_dead_letters_do_not_come_back_by_themselves_after_a_rejection_either(side: Side) -> None:
    waiting = side.unused_queue()
    side.declare(
        QueueConfig(
            waiting, message_ttl=0.05, dead_letter_exchange="", dead_letter_routing_key=waiting
        )
    )
    work = side.queue(dead_letter_exchange="", dead_letter_routing_key=waiting)
    send(queue=work.name)
    side.take(work.name).reject()
    side.wait(0.3)
    assert side.depth(waiting) == 0


def test_a_quorum_queue_buries_what_was_given_back_too_often(side: Side) -> None:
    dead = side.queue()
    queue = side.queue(
        queue_type="quorum", delivery_limit=2, dead_letter_exchange="",
        dead_letter_routing_key=dead.name,
    ).name  # fmt: skip
    send(queue=queue, headers={"mine": 1})
    for attempts in range(3):
        message = side.take(queue)
        assert message.redelivered is bool(attempts)
        headers = message.properties.headers
        assert headers.pop("x-delivery-count", 0) == attempts  # 3.10 also says 0
        newest = side.version >= ATTEMPTS_COUNT_ON
        assert headers.pop("x-acquired-count", 0) == (attempts if newest else 0)
        assert headers == {"mine": 1}
        message.reject(requeue=True)
    message = side.take(dead.name)
    assert [entry["reason"] for entry in death(message)] == ["delivery_limit"]
    assert "x-delivery-count" not in message.properties.headers
    assert side.get(queue) is None


def test_attempts_count_on_in_the_dead_letters(side: Side) -> None:
    """Since 4.3: so a quorum queue of dead letters has less patience with what comes to it."""
    dead = side.queue(queue_type="quorum", delivery_limit=2).name
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead).name
    send(queue=queue)
    side.take(queue).reject(requeue=True)
    side.take(queue).reject()
    message = side.take(dead)
    counts_on = side.version >= ATTEMPTS_COUNT_ON
    assert message.redelivered is counts_on
    headers = message.properties.headers
    counts = [headers.get(name, 0) for name in ("x-delivery-count", "x-acquired-count")]
    assert counts == [2 * counts_on] * 2
    message.reject(requeue=True)
    if counts_on:
        assert side.stays_empty(dead)
        return
    assert side.take(dead).redelivered


def test_counts_of_a_queue_of_dead_letters(side: Side) -> None:
    dead = side.queue(queue_type="quorum").name
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead).name
    send(queue=queue)
    side.take(queue).reject()
    side.take(dead).reject(requeue=True)
    headers = side.take(dead).properties.headers
    counts_on = side.version >= ATTEMPTS_COUNT_ON
    assert headers["x-delivery-count"] == 1 + counts_on
    assert headers.get("x-acquired-count", 0) == counts_on  # of this queue's consumers only


def test_what_no_consumer_had_is_not_redelivered(side: Side) -> None:
    dead = side.queue().name
    queue = side.queue(message_ttl=0.3, dead_letter_exchange="", dead_letter_routing_key=dead).name
    send(queue=queue)
    side.wait(0.5)
    assert side.take(dead).redelivered is False
    send(queue=queue)
    side.take(queue).reject(requeue=True)
    side.wait(0.5)
    assert side.take(dead).redelivered is (side.version >= ATTEMPTS_COUNT_ON)


def test_a_stream_takes_messages(side: Side) -> None:
    queue = side.queue(queue_type="stream")
    send(queue=queue.name)
    with pytest.raises(Rejected, match="x-queue-type"):
        side.declare(QueueConfig(queue.name))
