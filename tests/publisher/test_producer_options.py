"""`Producer` by kombu's names: declaring, retrying, what comes back, compression, mandatory."""

import threading
import zlib

import pytest
from pika import BasicProperties

from rmq_publisher import (
    Binding,
    BrokerUnavailable,
    ExchangeConfig,
    InvalidMessage,
    Message,
    Producer,
    QueueConfig,
    Rejected,
    Unroutable,
    publish,
    publish_many,
)
from rmq_publisher.outbox.row import decoded, encoded, is_mandatory
from rmq_publisher.timing import RetryPolicy
from rmq_publisher.transport import delivery
from tests.publisher.test_publish import bodies, only, taken
from tests.support.rig.proxy import closed_port

# -- compression ------------------------------------------------------------------------------


def test_compression_of_the_producer_and_of_the_call(rmq, amqp):
    """compression=None: on the call, the producer and an item of publish_many"""
    queue = amqp.declare_queue()
    producer = Producer(queue=queue, compression="gzip")
    producer.publish("one")
    producer.publish("two", compression="bzip2", headers={"a": 1})
    publish("three", queue=queue, compression="zlib", delivery="now")
    publish_many([Message("four", compression="lzma")], queue=queue, delivery="now")
    one, two, three, four = taken(amqp, queue)
    assert (zlib.decompress(one.body), zlib.decompress(three.body)) == (b"one", b"three")
    assert one.properties.headers == {"compression": "application/x-gzip"}
    assert two.properties.headers == {"a": 1, "compression": "application/x-bz2"}
    assert four.properties.headers == {"compression": "application/x-lzma"}
    assert one.properties.content_encoding is None


@pytest.mark.parametrize("given", ["rar", 5, ""])
def test_an_unknown_compression_is_refused(rmq, given):
    with pytest.raises(InvalidMessage, match="unknown compression"):
        Producer(queue="q").publish("x", compression=given)


def test_a_body_is_limited_before_and_after_compression(rmq):
    """A consumer decompresses up to RMQ_MAX_BODY_SIZE: what it could not read is not sent."""
    rmq.RMQ_MAX_BODY_SIZE = 20
    for body in (b"x" * 21, bytes(range(20))):
        with pytest.raises(InvalidMessage, match="RMQ_MAX_BODY_SIZE"):
            Producer(queue="q").publish(body, compression="gzip")


# -- mandatory and immediate ------------------------------------------------------------------


def test_what_is_not_mandatory_may_reach_nobody(rmq, amqp):
    exchange = amqp.declare_exchange()
    assert Producer(exchange).publish("x", "nowhere", mandatory=False)
    with pytest.raises(Unroutable):
        Producer(exchange).publish("x", "nowhere")
    with pytest.raises(InvalidMessage, match="mandatory must be True or False"):
        Producer(exchange).publish("x", "nowhere", mandatory="no")


def test_a_row_keeps_whether_it_is_mandatory():
    queue = QueueConfig("orders")
    for topology in ((), (queue,)):
        data = encoded(topology, False)
        assert (decoded(data), is_mandatory(data)) == (topology, False)
        data = encoded(topology)
        assert (decoded(data), is_mandatory(data)) == (topology, True)


def test_immediate_is_refused_with_the_reason(rmq):
    with pytest.raises(InvalidMessage, match=r"RabbitMQ removed the flag in 3\.0"):
        Producer(queue="q").publish("x", immediate=True)


def test_immediate_false_is_no_wish(rmq, amqp):
    queue = amqp.declare_queue()
    Producer(queue=queue).publish("x", immediate=False)
    assert bodies(amqp, queue) == [b"x"]


# -- CC and BCC -------------------------------------------------------------------------------


def test_cc_and_bcc_reach_further_queues(rmq, amqp):
    one, two, three = (amqp.declare_queue() for _ in range(3))
    Producer(queue=one).publish("x", headers={"CC": [two], "BCC": [three]})
    for queue in (one, two, three):
        message = only(amqp, queue)
        assert message.body == b"x"
        assert message.properties.headers == {"CC": [two]}


# -- on_return --------------------------------------------------------------------------------


def test_what_comes_back_is_told_before_it_is_raised(rmq, amqp):
    """on_return(exception, exchange, routing_key, message)"""
    exchange = amqp.declare_exchange()
    calls = []
    producer = Producer(exchange, on_return=lambda *given: calls.append(given))
    with pytest.raises(Unroutable) as caught:
        producer.publish("x", "nowhere", message_id="m", properties=BasicProperties(type="t"))
    ((error, where, key, message),) = calls
    assert error is caught.value
    assert (where, key) == (exchange, "nowhere")
    assert (message.body, message.message_id, message.properties.type) == (b"x", "m", "t")


# -- declaring --------------------------------------------------------------------------------


def test_declare_declares_what_the_producer_names(rmq, amqp, names):
    exchange = ExchangeConfig(names.exchange())
    queue = QueueConfig(names.queue(), bindings=[Binding(exchange, "key")])
    producer = Producer(exchange, routing_key="key", declare=[queue])
    assert producer.declare() is producer
    assert amqp.queue_exists(queue.name)
    producer.publish("x")
    assert bodies(amqp, queue.name) == [b"x"]


def test_without_auto_declare_nothing_is_declared_but_what_the_call_asks_for(rmq, amqp, names):
    queue, other = QueueConfig(names.queue()), QueueConfig(names.queue())
    producer = Producer(queue=queue, auto_declare=False)
    with pytest.raises(Unroutable):
        producer.publish("x")
    assert not amqp.queue_exists(queue.name)
    with pytest.raises(Unroutable):
        producer.publish("x", declare=[other])
    assert amqp.queue_exists(other.name)
    assert producer.revive() is producer
    assert not amqp.queue_exists(queue.name)
    producer.declare()
    producer.publish("x")


def test_maybe_declare_declares_once_a_connection(rmq, amqp, names, proxy):
    rmq.RMQ_URL = proxy.url
    queue = QueueConfig(names.queue())
    producer = Producer(queue="unused")
    assert producer.maybe_declare(queue) is True
    assert producer.maybe_declare(QueueConfig(queue.name)) is False
    amqp.delete_queue(queue.name)
    proxy.cut()
    assert proxy.wait_for_connections(2)
    declared = producer.maybe_declare(queue, retry=True, interval_start=0.01)
    assert (declared, amqp.queue_exists(queue.name)) == (True, True)
    assert producer.maybe_declare(queue) is False


def test_revive_declares_anew_what_was_deleted(rmq, amqp, names):
    queue = QueueConfig(names.queue())
    with Producer(queue=queue) as producer:
        producer.publish("x")
        amqp.delete_queue(queue.name)
        producer.revive()
        assert amqp.queue_exists(queue.name)
        assert producer.maybe_declare(queue) is False
        producer.close()
        assert producer.maybe_declare(queue) is True


@pytest.mark.parametrize("entity", ["orders", None, object()])
def test_maybe_declare_takes_configs(rmq, entity):
    with pytest.raises(InvalidMessage, match="QueueConfig and ExchangeConfig"):
        Producer(queue="q").maybe_declare(entity)


def test_a_refused_declaration_is_raised_at_once(rmq, amqp, names):
    queue = amqp.declare_queue(durable=True)
    with pytest.raises(Rejected) as caught:
        Producer().maybe_declare(QueueConfig(queue, max_length=1), retry=True)
    assert caught.value.reply_code == 406


# -- retry ------------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch):
    """What is slept between attempts."""
    slept = []
    monkeypatch.setattr(delivery.time, "sleep", slept.append)
    return slept


def test_it_is_tried_again_by_the_policy(rmq, waits):
    """max_retries, interval_start, interval_step, interval_max"""
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    policy = {"max_retries": 4, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.4}
    with pytest.raises(BrokerUnavailable):
        Producer(queue="q").publish("x", retry=True, retry_policy=policy, timeout=30)
    assert waits == [pytest.approx(wait) for wait in (0.1, 0.3, 0.4, 0.4)]


@pytest.mark.parametrize("options", [{}, {"retry": False}, {"retry_policy": {"max_retries": 3}}])
def test_without_retry_nothing_is_tried_again(rmq, waits, options):
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    with pytest.raises(BrokerUnavailable):
        Producer(queue="q").publish("x", **options)
    assert waits == []


def test_no_wait_goes_beyond_the_calls_deadline(rmq, waits):
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    policy = {"interval_start": 60, "interval_max": 60}
    with pytest.raises(BrokerUnavailable):
        Producer(queue="q").publish("x", retry=True, retry_policy=policy, timeout=5)
    assert waits == []


def test_an_answer_about_the_message_is_not_tried_again(rmq, amqp, waits):
    with pytest.raises(Unroutable):
        Producer(amqp.declare_exchange()).publish("x", "nowhere", retry=True)
    assert waits == []


def test_it_goes_through_once_the_broker_is_back(rmq, amqp, proxy):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    proxy.refuse()
    timer = threading.Timer(0.3, proxy.accept)
    timer.start()
    policy = {"interval_start": 0.05}
    Producer(queue=queue).publish("x", retry=True, retry_policy=policy, timeout=30)
    timer.join()
    assert bodies(amqp, queue) == [b"x"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retry": "yes"}, "retry must be True or False"),
        ({"retry_policy": 5}, "retry_policy must be a mapping"),
        ({"retry_policy": {"retries": 5}}, "knows no 'retries'; it takes max_retries"),
        ({"retry_policy": {"max_retries": 1.5}}, "must be a whole number"),
        ({"retry_policy": {"interval_step": -1}}, "must be seconds, 0 or more"),
        ({"retry_policy": {"interval_max": True}}, "must be seconds, 0 or more"),
        ({"retry_policy": {"interval_start": float("nan")}}, "must be seconds, 0 or more"),
    ],
)
def test_a_policy_that_cannot_be_one_is_refused(rmq, options, words):
    with pytest.raises(InvalidMessage, match=words):
        Producer(queue="q").publish("x", **options)


def test_the_waits_of_a_policy():
    policy = RetryPolicy(max_retries=2)
    assert [policy.wait(n) for n in range(3)] == [0.0, 0.2, None]
    assert RetryPolicy().wait(10**6) == 1.0
