"""`consume`: what it takes, what it refuses, and what it registers."""

import copy
import pickle
from datetime import timedelta

import pytest

from rmq_publisher import QueueConfig, Reject, Retry, consume
from rmq_publisher.consumer import handlers
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.handlers import options_of, registered_handlers


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(handlers, "_registered", {})


def registered(queue="orders", **options) -> HandlerOptions:
    @consume(queue, **options)
    def handler(body, message): ...

    return options_of(handler)


def test_the_defaults_are_the_contracts():
    options = registered()
    assert options.name == "handler"
    assert (options.queue, options.queue_name) == ("orders", "orders")
    assert (options.accept, options.threads, options.prefetch) == (("json",), 1, None)
    assert (options.once, options.once_batch, options.database) == (False, None, None)
    assert (options.max_attempts, options.backoff) == (5, (1.0, 300.0))
    assert (options.timeout, options.dead_letters) == (None, None)
    assert options.alias == "default"
    assert not options.is_async
    assert not options.is_stream


def test_prefetch_is_twenty_for_each_thread_unless_given():
    assert registered().prefetch_of(3) == 60
    assert registered(prefetch=7).prefetch_of(3) == 7
    assert registered().prefetch_of(1000) == 20_000


def test_the_function_stays_what_it_was():
    def double(body, message):
        return 2 * body

    assert consume("orders")(double) is double
    assert double(4, None) == 8


def test_a_module_that_is_imported_again_replaces_its_handlers():
    for _ in range(2):
        registered()
    assert len(registered_handlers()) == 1


def test_seconds_may_be_timedeltas():
    options = registered(
        backoff=(timedelta(milliseconds=5), timedelta(minutes=1)), timeout=timedelta(seconds=9)
    )
    assert options.backoff == (0.005, 60.0)
    assert options.timeout == 9.0


def test_a_name_finds_the_config_that_declares_it(settings):
    config = QueueConfig("orders", queue_type="quorum")
    settings.RMQ_QUEUES = [config]
    assert registered().config == config
    assert registered(queue="others").config is None
    assert registered(queue=QueueConfig("mine")).config == QueueConfig("mine")


def test_a_stream_is_recognised(settings):
    settings.RMQ_QUEUES = [QueueConfig("log", queue_type="stream")]
    assert registered("log", max_attempts=1).is_stream
    assert registered(("events", {"x-stream-offset": "first"}), max_attempts=1).is_stream


REFUSED = {
    "no queue": ({"queue": 4}, TypeError, "a queue must be a name"),
    "empty queue": ({"queue": ""}, ValueError, "queue"),
    "threads 0": ({"threads": 0}, ValueError, "threads must be from 1"),
    "threads bool": ({"threads": True}, TypeError, "threads must be an int"),
    "prefetch": ({"prefetch": 65_536}, ValueError, "prefetch must be from 1 to 65535"),
    "attempts": ({"max_attempts": 0}, ValueError, "max_attempts must be from 1"),
    "backoff one": ({"backoff": 3}, TypeError, "backoff must be a pair"),
    "backoff zero": ({"backoff": (0, 3)}, ValueError, "backoff must be more than 0"),
    "backoff order": ({"backoff": (4, 3)}, ValueError, "exceeds the longest"),
    "timeout": ({"timeout": "9"}, TypeError, "timeout must be seconds"),
    "timeout nan": ({"timeout": float("nan")}, ValueError, "timeout must be more"),
    "name": ({"name": ""}, ValueError, "name must have"),
    "name type": ({"name": 3}, TypeError, "name must be a str"),
    "using": ({"using": 3}, TypeError, "using must be the name"),
    "database": ({"database": 3}, TypeError, "database must be the name"),
    "accept": ({"accept": "json"}, TypeError, "accept must be a list"),
    "accept unknown": ({"accept": ["pickle"]}, LookupError, "pickle"),
    "once": ({"once": 1}, TypeError, "once must be True or False"),
    "batch without once": ({"once_batch": 20}, ValueError, "once_batch needs once=True"),
    "dead letters": ({"dead_letters": "keep"}, ValueError, "dead_letters must be None"),
    "stream": (
        {"queue": QueueConfig("log", queue_type="stream")},
        ValueError,
        "set max_attempts=1",
    ),
}


@pytest.mark.parametrize(("options", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_a_bad_argument_is_refused_where_the_handler_is_written(options, error, text):
    with pytest.raises(error, match=text):
        registered(**options)


def test_once_is_refused_for_a_coroutine_function():
    async def handler(body, message): ...

    with pytest.raises(TypeError, match="once=True needs a plain function"):
        consume("orders", once=True)(handler)
    consume("orders")(handler)
    assert options_of(handler).is_async


def test_a_function_without_the_decorator_is_named():
    def plain(body, message): ...

    with pytest.raises(LookupError, match="plain is not a handler"):
        options_of(plain)


def test_what_a_handler_raises():
    assert Reject().requeue is False
    assert Retry().countdown is None
    assert Retry(timedelta(minutes=2)).countdown == 120.0
    for bad in (-1, float("nan"), 10**9):
        with pytest.raises(ValueError, match="countdown"):
            Retry(bad)
    for bad in ("1", True):
        with pytest.raises(TypeError, match="countdown"):
            Retry(bad)
    with pytest.raises(TypeError, match="requeue"):
        Reject("no")


@pytest.mark.parametrize("error", [Reject(), Reject(True), Retry(), Retry(5)], ids=repr)
def test_what_a_handler_raises_can_be_copied_and_pickled(error):
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert vars(other) == vars(error)
