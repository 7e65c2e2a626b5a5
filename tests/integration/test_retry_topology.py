"""What a worker asks the broker for before it starts: the retry queues, and where dead letters go."""

import sqlite3
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from rmq_publisher import QueueConfig, consume
from rmq_publisher.consumer import handlers, retry_topology
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.handler_problems import handler_problems
from rmq_publisher.consumer.retry_levels import wanted_levels
from rmq_publisher.consumer.retry_topology import NotReady, missing, require
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


# -- at a worker's start --------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(handlers, "_registered", {})

    def register(queue: Any, **options: Any) -> None:
        consume(queue, name="book", **options)(lambda body, message: None)

    return register


@pytest.mark.django_db(transaction=True)
def test_a_worker_ends_naming_what_is_missing(rmq: Any, amqp: Amqp, registered: Any) -> None:
    queue = amqp.declare_queue()
    registered(queue, max_attempts=2)
    with pytest.raises(
        CommandError, match=rf"need '{queue}\.retry\.1000', which RabbitMQ does not"
    ):
        call_command("rmq_consume", "--once")
    amqp.names.queues.append(f"{queue}.retry.1000")
    call_command("rmq_declare")
    call_command("rmq_consume", "--once")


def test_the_table_of_starts_must_be_there(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configurer(settings)(URL="memory://")

    def no_table(*_: Any) -> Any:
        raise OperationalError from sqlite3.OperationalError(
            "no such table: rmq_publisher_handlerstart"
        )

    monkeypatch.setattr(retry_topology, "apps", Apps(no_table))
    with pytest.raises(NotReady, match=r"run manage\.py migrate"):
        require(options_of("q"))


def test_a_database_that_is_away_is_waited_for(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configurer(settings)(URL="memory://")

    def away(*_: Any) -> Any:
        raise OperationalError

    monkeypatch.setattr(retry_topology, "apps", Apps(away))
    require(options_of("q"))


class Apps:
    """Models of a database that answers so."""

    def __init__(self, using: Any) -> None:
        self._default_manager = self
        self.using = using

    def get_model(self, *_: str) -> Any:
        return self


@pytest.mark.parametrize(
    ("queue", "ids"),
    [
        (QueueConfig("q"), []),
        (QueueConfig("q", expires=60), ["rmq_publisher.W022"]),
        (QueueConfig("q" * 250), ["rmq_publisher.W022"]),
    ],
)
def test_a_check_says_what_has_no_retries(
    settings: Any, registered: Any, queue: QueueConfig, ids: list[str]
) -> None:
    configurer(settings)(URL="memory://")
    registered(queue)
    assert [problem.id for problem in handler_problems()] == ids
    registered(queue, max_attempts=1)
    assert handler_problems() == []
