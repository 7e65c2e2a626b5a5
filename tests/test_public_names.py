"""The names that others write programs against: their signatures, their errors, what importing does."""

import asyncio
import copy
import inspect
import pickle
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import pytest

import rmq_publisher
from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ConfirmTimeout,
    ExchangeConfig,
    InvalidMessage,
    Message,
    Nacked,
    Producer,
    PublishError,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.messages.compose import NOW_OPTIONS, PRODUCER_OPTIONS
from rmq_publisher.messages.envelope import MESSAGE_OPTIONS
from rmq_publisher.publisher.api import MANY_OPTIONS
from tests.support.publishing import taken

NAMES = [
    "publish",
    "apublish",
    "publish_many",
    "cancel",
    "Message",
    "Producer",
    "Consumer",
    "consume",
    "Reject",
    "Retry",
    "QueueConfig",
    "ExchangeConfig",
    "Binding",
    "connections",
    "PublishError",
    "InvalidMessage",
    "Unroutable",
    "Nacked",
    "Rejected",
    "ConfirmTimeout",
    "BrokerUnavailable",
    "PublishManyError",
]


# -- the names --------------------------------------------------------------------------------


def test_the_public_names_are_these():
    """from rmq_publisher import (...)"""
    assert sorted(rmq_publisher.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(rmq_publisher))
    for name in NAMES:
        assert getattr(rmq_publisher, name).__doc__


def test_no_submodule_has_a_public_name():
    """Importing it would put the module in the object's place."""
    modules = {path.stem for path in Path(rmq_publisher.__file__).parent.iterdir()}
    assert not modules & set(NAMES)
    for module in ("publisher.api", "messages.envelope", "transport.handler", "exceptions"):
        import_module(f"rmq_publisher.{module}")
    assert callable(rmq_publisher.publish)
    assert isinstance(rmq_publisher.Producer, type)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'publishing'"):
        rmq_publisher.publishing  # noqa: B018
    with pytest.raises(ImportError):
        from rmq_publisher import Publisher  # noqa: F401, PLC0415


@pytest.mark.parametrize("settings", ["", "tests.settings"])
def test_importing_neither_configures_nor_connects_nor_needs_the_apps(settings):
    """`rmq_publisher/__init__.py` offers the public names without importing models (PEP 562).

    Nothing raises or connects at import or in ``ready()``.
    """
    program = f"""
import os, socket, sys, threading
def no(*_): raise SystemExit("it connects")
socket.socket.connect = no
if {settings!r}: os.environ["DJANGO_SETTINGS_MODULE"] = {settings!r}
else: os.environ.pop("DJANGO_SETTINGS_MODULE", None)
import rmq_publisher
assert "django" not in sys.modules and "pika" not in sys.modules, "a package is imported by itself"
from rmq_publisher import *
for name in rmq_publisher.__all__: globals()[name]
Producer("events", "orders"); Message("x"); QueueConfig("orders", bindings=[Binding("events")])
from django.conf import settings
assert not settings.configured
if {settings!r}:
    import django; django.setup()
assert "rmq_publisher.models" not in sys.modules or {settings!r}
assert threading.active_count() == 1
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


# -- signatures -------------------------------------------------------------------------------

PUBLISH = """(body, *, queue='', exchange='', routing_key=None, using=None, database=None,
    delivery=None, ordering_key=None, properties=None, headers=None, priority=None, expiration=None,
    delivery_mode=None, message_id=None, correlation_id=None, reply_to=None, type=None,
    user_id=None, app_id=None, content_type=None, content_encoding=None, serializer=None,
    compression=None, mandatory=True, countdown=None, eta=None, declare=(), timeout=None)"""
SIGNATURES = {
    publish: PUBLISH,
    Producer: """(exchange='', queue='', using=None, *, routing_key=None, serializer=None,
        compression=None, declare=(), auto_declare=True, on_return=None, timeout=None)""",
    QueueConfig: """(name, durable=True, dead_letter_exchange=None, dead_letter_routing_key=None, *,
        queue_type=None, message_ttl=None, max_length=None, max_length_bytes=None, overflow=None,
        max_priority=None, delivery_limit=None, single_active_consumer=False, expires=None,
        arguments=None, bindings=(), using=None)""",
    ExchangeConfig: """(name, type='direct', durable=True, *, auto_delete=False, internal=False,
        alternate_exchange=None, arguments=None, bindings=(), using=None)""",
    Binding: "(exchange, routing_key='', arguments=None)",
}


def plain(function):
    """The signature without annotations."""
    signature = inspect.signature(function)
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__name__)
def test_signatures_are_those_of_the_contract(function):
    assert plain(function) == " ".join(SIGNATURES[function].split())


def options_of(function):
    return {
        name
        for name, one in inspect.signature(function).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }


def test_what_the_others_take_is_what_publish_takes_with_the_contracts_exceptions():
    """apublish(body, **as publish without delivery, database, ordering_key)

    publish_many(bodies, **as publish without message_id)
    Message(body, *, what publish takes about the message itself)
    Producer.publish(body, routing_key=None, properties=None, **as publish without delivery,
    database, ordering_key)
    """
    every = options_of(publish)
    timed = {"countdown", "eta"}
    now = every - {"delivery", "database", "ordering_key"} - timed
    assert now == NOW_OPTIONS
    assert every - {"message_id"} == MANY_OPTIONS
    assert now - {"routing_key", "properties"} == PRODUCER_OPTIONS
    assert options_of(Message) == {"routing_key", "ordering_key"} | timed
    place = {"queue", "exchange", "using", "database", "delivery", "declare", "timeout"}
    assert every - place - options_of(Message) == MESSAGE_OPTIONS
    assert plain(apublish) == "(body, **options)"
    assert plain(publish_many) == "(bodies, **options)"
    assert plain(Producer.publish) == "(self, body, routing_key=None, properties=None, **options)"
    assert inspect.iscoroutinefunction(apublish)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (publish, "immediate"), (publish, "retries"),
        (publish_many, "message_id"), (publish_many, "immediate"),
        *((Producer("x").publish, option) for option in ("delivery", "database", "ordering_key")),
        *((Message, option) for option in ("queue", "exchange", "using", "declare", "timeout",
                                           "database", "delivery")),
    ],
)  # fmt: skip
def test_an_unknown_keyword_is_a_type_error_as_in_any_function(call, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        call("x", **{option: "y"})


@pytest.mark.parametrize("option", ["delivery", "database", "ordering_key", "immediate"])
def test_an_unknown_keyword_of_apublish_is_one_too(option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        asyncio.run(apublish("x", **{option: "y"}))


@pytest.mark.parametrize("call", [Message, publish_many, Producer("x").publish])
def test_a_misspelt_keyword_is_told_the_right_one(call):
    with pytest.raises(TypeError, match="did you mean 'priority'"):
        call("x", prioriti=5)


# -- errors -----------------------------------------------------------------------------------

WHERE = {"message_id": "m", "exchange": "x", "routing_key": "k"}
ERRORS = [
    (InvalidMessage("refused", **WHERE), False),
    (Unroutable(312, "NO_ROUTE", **WHERE), True),
    (Nacked("nacked", **WHERE), True),
    (Rejected(404, "NOT_FOUND", **WHERE), True),
    (Rejected(403, "ACCESS_REFUSED", **WHERE), False),
    (Rejected(406, "PRECONDITION_FAILED", **WHERE), False),
    (ConfirmTimeout("late", **WHERE), True),
    (BrokerUnavailable("down", **WHERE), True),
    (PublishManyError([None, Nacked("nacked", **WHERE), Unroutable(312, "NO", **WHERE)]), True),
    (PublishManyError([Nacked("nacked", **WHERE), Rejected(403, "NO", **WHERE)]), False),
]
error_ids = [f"{type(error).__name__}-{n}" for n, (error, _) in enumerate(ERRORS)]


@pytest.mark.parametrize(("error", "retryable"), ERRORS, ids=error_ids)
def test_every_error_knows_its_message_and_whether_it_may_go_through_later(error, retryable):
    """PublishError: root: .message_id, .exchange, .routing_key, .retryable

    InvalidMessage: not retryable; Unroutable, Nacked, ConfirmTimeout, BrokerUnavailable: retryable;
    Rejected: retryable if 404
    """
    assert isinstance(error, PublishError)
    assert (error.message_id, error.exchange, error.routing_key) == ("m", "x", "k")
    assert error.retryable is retryable


def test_an_invalid_message_is_a_value_error_too():
    assert issubclass(InvalidMessage, ValueError)


def test_an_answer_of_the_broker_has_its_code_and_words():
    """Unroutable: .reply_code, .reply_text; Rejected: .reply_code"""
    for kind in (Unroutable, Rejected):
        error = kind(404, "NOT_FOUND - no such thing", **WHERE)
        assert (error.reply_code, error.reply_text) == (404, "NOT_FOUND - no such thing")
        assert "404 NOT_FOUND - no such thing (exchange 'x', routing key 'k', message m)" in str(
            error
        )


def test_publish_many_error_has_the_outcomes_in_order():
    """PublishManyError: .outcomes, in order, None where confirmed"""
    outcomes = [None, Nacked("one", **WHERE), None, Unroutable(312, "NO_ROUTE", **WHERE)]
    error = PublishManyError(outcomes)
    assert error.outcomes == outcomes
    assert str(error) == (
        "2 of 4 messages were not confirmed (Nacked, Unroutable); the first: one "
        "(exchange 'x', routing key 'k', message m)"
    )


@pytest.mark.parametrize(("error", "retryable"), ERRORS, ids=error_ids)
def test_errors_travel_between_processes(error, retryable):
    """Test runners, pools and task queues pickle what was raised."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.retryable is retryable
        assert again.message_id == "m"
        assert getattr(again, "reply_code", None) == getattr(error, "reply_code", None)
        assert list(map(str, getattr(again, "outcomes", []))) == list(
            map(str, getattr(error, "outcomes", []))
        )


# -- connections ------------------------------------------------------------------------------


@pytest.mark.smoke
def test_status_before_during_and_after(rmq, amqp, broker):
    """connections["default"].status(): state, node, blocked, in flight, connects, last error"""
    queue = amqp.declare_queue()
    connection = connections["default"]
    status = connection.status()
    assert (status.state, status.node) == ("closed", f"127.0.0.1:{broker.port}")
    publish("x", queue=queue, delivery="now")
    status = connection.status()
    assert (status.state, status.blocked, status.in_flight, status.connects) == ("open", "", 0, 1)
    assert (status.alias, status.vhost, status.last_error) == ("default", "/", "")
    connection.close()
    assert connections["default"].status().state == "closed"


def test_closing_lets_the_next_publish_open_anew(rmq, amqp, proxy):
    """connections["default"].close(): drains within the timeout, then closes; the next publish
    opens anew"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    publish("1", queue=queue, delivery="now")
    connections["default"].close()
    assert proxy.wait_for_open(0)
    publish("2", queue=queue, delivery="now")
    assert proxy.connections_made == 2
    assert [message.body for message in taken(amqp, queue)] == [b"1", b"2"]


def test_closing_waits_for_what_is_in_flight(rmq, amqp, proxy):
    """drains within the timeout: the message that is on its way gets its confirm"""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    publish("1", queue=queue, delivery="now")
    held = proxy.delay_acks(0.3)
    outcomes = []

    def send():
        outcomes.append(publish("2", queue=queue, delivery="now", timeout=30, message_id="m"))

    thread = threading.Thread(target=send)
    thread.start()
    assert held.wait(30)  # the broker has answered, and its answer is held back
    assert connections["default"].status().in_flight == 1
    connections["default"].close(30)
    thread.join(30)
    assert outcomes == ["m"]
    assert connections["default"].status().state == "closed"


def test_connections_iterates_over_the_aliases(rmq):
    rmq.RMQ_CONNECTIONS = {"events": {}}
    assert list(connections) == ["default", "events"]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"connections"}))
def test_the_public_names_are_of_the_package_wherever_they_are_written(name):
    """The layout is nobody's API: what an error, a repr or a pickle names is the package."""
    value = getattr(rmq_publisher, name)
    if isinstance(value, type):
        assert value.__module__ == "rmq_publisher"
    assert pickle.loads(pickle.dumps(value)) is value
