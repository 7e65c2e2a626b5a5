"""What a worker asks the broker for before it starts: the retry queues, and where dead letters go."""

from typing import Any

import pytest

from rmq_publisher import QueueConfig
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.retry_levels import wanted_levels
from rmq_publisher.consumer.retry_topology import missing
from tests.support.attempts import fail
from tests.support.configured import configurer
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.node import PrivateNode
from tests.support.sides import Side


def options_of(queue: Any, **given: Any) -> HandlerOptions:
    return HandlerOptions("book", fail, queue, max_attempts=3, **given)


def test_missing_retry_queues_are_named(rmq: Any, amqp: Amqp) -> None:
    options = options_of(amqp.declare_queue())
    first, second = wanted_levels(options).names
    (text,) = missing(options)
    assert (
        f"need {first!r}, {second!r}, which RabbitMQ does not have: run manage.py rmq_declare"
        in text
    )
    assert "handler 'book'" in text


def test_nothing_is_missing_once_they_are_declared(side: Side) -> None:
    options = options_of(side.queue().name)
    side.declare_own(*wanted_levels(options).configs())
    assert missing(options) == []


def test_in_memory_they_are_declared(settings: Any) -> None:
    configurer(settings)(URL="memory://")
    options = options_of(QueueConfig("q"))
    assert missing(options) == []
    assert missing(options) == []


@pytest.mark.parametrize(
    ("exchange", "key", "kind"),
    [("", "{}", "queue"), ("{}", None, "exchange"), ("{}", "key", "exchange")],
)
def test_dead_letters_that_would_be_lost_are_told(
    rmq: Any, amqp: Amqp, names: Names, exchange: str, key: str | None, kind: str
) -> None:
    name = names.unique()
    key = key and key.format(name)
    queue = QueueConfig(
        names.queue(), dead_letter_exchange=exchange.format(name), dead_letter_routing_key=key
    )
    (text,) = missing(HandlerOptions("book", fail, queue, max_attempts=1))
    assert f"its dead letters go to {kind} {name!r}" in text


@pytest.mark.disturbs
def test_a_user_that_may_not_publish_to_the_default_exchange_is_told(
    settings: Any, node: PrivateNode, node_amqp: Amqp
) -> None:
    node.add_user("reader", "reader", write="^nothing$")
    options = options_of(node_amqp.declare_queue())
    for name in wanted_levels(options).names:
        node_amqp.declare_queue(name)
    configurer(settings)(URL=node.url("reader"))
    (text,) = missing(options)
    assert "write permission on amq.default (403 ACCESS_REFUSED" in text
