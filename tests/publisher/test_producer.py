"""`Producer`: one destination, published now, and what a decorated function returns."""

import asyncio
import inspect
from datetime import timedelta

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from pika import BasicProperties

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ExchangeConfig,
    InvalidMessage,
    Nacked,
    Producer,
    QueueConfig,
    Rejected,
    Unroutable,
    connections,
)
from tests.support.publishing import bodies, count, only, taken
from tests.support.rig.proxy import closed_port

SECRET = "s3cr3t-value"


# -- publishing -------------------------------------------------------------------------------


@pytest.mark.smoke
def test_it_publishes_now_and_returns_the_id(rmq, amqp):
    """Producer.publish(...) -> str: now"""
    queue = amqp.declare_queue()
    producer = Producer(queue=queue)
    message_id = producer.publish("x")
    message = only(amqp, queue)
    assert (message.body, message.method.routing_key) == (b"x", queue)
    assert message.properties.message_id == message_id
    assert (message.properties.delivery_mode, message.properties.content_type) == (
        2,
        "application/json",
    )


@pytest.mark.django_db(transaction=True)
def test_it_publishes_inside_a_transaction_and_whatever_the_setting_says(rmq, amqp):
    """now; it takes no delivery, and RMQ_DELIVERY does not concern it"""
    rmq.RMQ_DELIVERY = "on_commit"
    queue = amqp.declare_queue()
    with transaction.atomic():
        Producer(queue=queue).publish("x")
        assert bodies(amqp, queue) == [b"x"]
        transaction.set_rollback(True)
    rmq.RMQ_DELIVERY = "outbox"
    Producer(queue=queue).publish("y")
    assert bodies(amqp, queue) == [b"y"]


def test_its_positional_arguments(rmq, amqp):
    """Producer(exchange="", queue="", using=None, ...); publish(body, routing_key, properties)"""
    queue, exchange = amqp.declare_queue(), amqp.declare_exchange(kind="topic")
    amqp.bind(queue, exchange, "#")
    producer = Producer(exchange, "", "default")
    producer.publish("x", "a.b", BasicProperties(type="t"))
    message = only(amqp, queue)
    assert (message.method.exchange, message.method.routing_key) == (exchange, "a.b")
    assert (message.properties.type, message.properties.content_type) == ("t", None)


def test_its_defaults_and_what_a_call_says_instead(rmq, amqp):
    """routing_key=None, serializer=None, declare=(), timeout=None"""
    one, two = amqp.declare_queue(), amqp.declare_queue()
    exchange = amqp.declare_exchange(kind="topic")
    amqp.bind(one, exchange, "default")
    amqp.bind(two, exchange, "call")
    producer = Producer(exchange, routing_key="default", serializer="json")
    producer.publish({"a": 1})
    producer.publish({"a": 2}, "call")
    producer.publish({"a": 3}, serializer="json+gzip", priority=3)
    assert [message.body for message in taken(amqp, two)] == [b'{"a":2}']
    first, third = taken(amqp, one)
    assert first.body == b'{"a":1}'
    assert (third.properties.content_encoding, third.properties.priority) == ("gzip", 3)
    Producer(queue=one).publish("elsewhere", queue=two)
    assert bodies(amqp, two) == [b"elsewhere"]


def test_a_serializer_of_the_producer_wins_over_the_setting(rmq, amqp):
    """on the call, the producer or as ``RMQ_SERIALIZER``"""
    rmq.RMQ_SERIALIZER = "json"
    queue = amqp.declare_queue()
    Producer(queue=queue).publish([1])
    Producer(queue=queue, serializer="json+zlib").publish([2])
    plain, zipped = taken(amqp, queue)
    assert plain.body == b"[1]"
    assert zipped.properties.content_encoding == "deflate"


def test_its_topology_is_declared_once(rmq, amqp, proxy):
    """Verified once per connection"""
    rmq.RMQ_URL = proxy.url
    exchange = ExchangeConfig(amqp.names.exchange(), "fanout")
    queue = QueueConfig(amqp.names.queue(), bindings=[Binding(exchange)])
    audit = QueueConfig(amqp.names.queue(), bindings=[Binding(exchange)])
    producer = Producer(exchange, declare=(one for one in [queue]))
    for n in range(3):
        producer.publish(str(n))
    assert count(proxy, "client Queue.Declare") == 1
    assert bodies(amqp, queue.name) == [b"0", b"1", b"2"]
    # All is gone, and the connection is a new one: its own and the call's are declared again.
    amqp.delete_queue(queue.name)
    amqp.delete_exchange(exchange.name)
    connections["default"].close()
    producer.publish("3", declare=[audit])
    assert bodies(amqp, queue.name) == bodies(amqp, audit.name) == [b"3"]


def test_using_names_its_connection(rmq, amqp, proxy):
    rmq.RMQ_CONNECTIONS = {"events": {"URL": proxy.url}}
    queue = amqp.declare_queue()
    with pytest.raises(InvalidMessage, match="using="):
        Producer(queue=queue).publish("x")
    Producer("", queue, "events").publish("x")
    Producer(queue=QueueConfig(queue, using="events")).publish("x")
    assert proxy.publishes == 2
    Producer("", queue, "events").publish("x", using="default")
    assert proxy.publishes == 2


@pytest.mark.parametrize("timeout", [0.3, timedelta(seconds=0.3)])
def test_its_timeout_bounds_a_call(rmq, amqp, proxy, timeout):
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, 60
    queue = amqp.declare_queue()
    Producer(queue=queue).publish("x")
    proxy.swallow_acks(None)
    with pytest.raises(Exception, match=r"within 0\.3 s"):
        Producer(queue=queue, timeout=timeout).publish("x")
    connections["default"].close(0)


def test_it_may_be_made_before_the_settings_are_there(rmq, amqp):
    """Nothing raises or connects at import: a producer is made in a module's body."""
    url, rmq.RMQ_URL = rmq.RMQ_URL, None
    queue = amqp.declare_queue()
    producer = Producer(queue=queue, using="default")
    rmq.RMQ_URL = url
    producer.publish("x")
    assert bodies(amqp, queue) == [b"x"]


# -- raising ----------------------------------------------------------------------------------


def test_it_raises_what_is_no_confirm(rmq, amqp):
    """Producer.publish(...): raises"""
    full = amqp.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    Producer(queue=full).publish("x")
    with pytest.raises(Nacked):
        Producer(queue=full).publish("x")
    with pytest.raises(Unroutable):
        Producer(routing_key=amqp.names.unique()).publish("x")
    with pytest.raises(Rejected):
        Producer(queue=amqp.names.unique()).publish("x")
    with pytest.raises(InvalidMessage, match="nowhere to go"):
        Producer().publish("x")
    with pytest.raises(TypeError, match="must be str or bytes"):
        Producer(queue="q").publish({"a": 1})
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    with pytest.raises(BrokerUnavailable):
        Producer(queue="q").publish("x")


# -- the decorator ----------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(("result", "sent"), [("é", "é".encode()), (b"\xff", b"\xff"), ("", b"")])
def test_it_publishes_what_the_function_returns_and_returns_it_unchanged(rmq, amqp, result, sent):
    """Decorator: ``str``/``bytes`` is published and returned unchanged"""
    queue = amqp.declare_queue()

    @Producer(queue=queue)
    def announce():
        return result

    assert announce() is result
    assert bodies(amqp, queue) == [sent]


def test_none_means_do_not_publish(rmq, proxy):
    """``None`` means do not publish"""
    rmq.RMQ_URL = proxy.url

    @Producer(queue="q", serializer="json")
    def announce():
        return None

    assert announce() is None
    assert proxy.connections_made == 0


@pytest.mark.parametrize("result", [{"a": 1}, [], 0, False, {}])
def test_anything_with_a_serializer_and_it_fails_without(rmq, amqp, result):
    """(or anything, with a serializer)"""
    queue = amqp.declare_queue()
    assert Producer(queue=queue, serializer="json")(lambda: result)() is result
    assert len(taken(amqp, queue)) == 1
    with pytest.raises(TypeError, match="must be str or bytes"):
        Producer(queue=queue)(lambda: result)()
    rmq.RMQ_SERIALIZER = "json"
    assert Producer(queue=queue)(lambda: result)() is result
    assert len(taken(amqp, queue)) == 1


@pytest.mark.django_db(transaction=True)
def test_the_decorator_publishes_now_like_publish_and_raises_like_it(rmq, amqp):
    """it publishes now, like ``Producer.publish``"""
    queue = amqp.declare_queue()
    called = []

    @Producer(queue=queue)
    def announce():
        called.append(1)
        return "x"

    with transaction.atomic():
        announce()
        assert bodies(amqp, queue) == [b"x"]
    amqp.delete_queue(queue)
    connections["default"].close()
    with pytest.raises(Rejected):
        announce()
    assert called == [1, 1]


def test_the_decorated_function_keeps_its_face_and_its_arguments(rmq, amqp):
    queue = amqp.declare_queue()
    producer = Producer(queue=queue)

    class Order:
        @producer
        def placed(self, number: int, *, note: str = "") -> str:
            """Say that it was placed."""
            return f"{number}{note}"

    assert Order.placed.__name__ == "placed"
    assert Order.placed.__doc__ == "Say that it was placed."
    assert list(inspect.signature(Order.placed).parameters) == ["self", "number", "note"]
    assert Order().placed(5, note="!") == "5!"
    assert bodies(amqp, queue) == [b"5!"]


def test_what_the_function_raises_is_raised_and_nothing_published(rmq, proxy):
    rmq.RMQ_URL = proxy.url

    @Producer(queue="q")
    def announce():
        raise LookupError("none")

    with pytest.raises(LookupError, match="none"):
        announce()
    assert proxy.connections_made == 0


def test_a_producer_is_shared_by_threads(rmq, amqp, proxy):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    announce = Producer(queue=queue)(lambda name: name)

    async def main():
        await asyncio.gather(*(asyncio.to_thread(announce, str(n)) for n in range(50)))

    asyncio.run(main())
    assert sorted(bodies(amqp, queue)) == sorted(str(n).encode() for n in range(50))
    assert proxy.connections_made == 1


def test_the_decorator_in_an_event_loop_names_apublish(rmq):
    async def main():
        Producer(queue="q")(lambda: "x")()

    with pytest.raises(SynchronousOnlyOperation, match="apublish"):
        asyncio.run(main())
