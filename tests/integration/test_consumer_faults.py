"""A `Consumer` on a real broker whose connections, channels and queues are lost."""

import os
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from pika import BasicProperties

from rmq_publisher import (
    BrokerUnavailable,
    Consumer,
    QueueConfig,
    Rejected,
    connections,
    publish,
)
from rmq_publisher.consumer import DecodeError, MessageStateError, ReceivedMessage
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.proxy import Proxy, closed_port

SOON = 20.0


def take(consumer: Consumer) -> ReceivedMessage:
    message = consumer._take(SOON, lambda: False)
    assert message is not None, "nothing came"
    return message


def send(body: str, queue: str) -> None:
    publish(body, queue=queue, delivery="now", using="default")


@pytest.fixture
def through(rmq: Any, proxy: Proxy) -> Any:
    """The consumer's alias goes through a proxy that breaks things; publishing does not."""
    rmq.RMQ_CONNECTIONS = {"default": {}, "broken": {"URL": proxy.url}}
    yield proxy
    connections.close()


def test_a_lost_connection_is_taken_up_again_and_its_tags_are_void(
    through: Proxy, amqp: Amqp
) -> None:
    queue = amqp.declare_queue()
    with Consumer([queue], using="broken") as consumer:
        send("1", queue)
        lost = take(consumer)
        through.cut()
        again = take(consumer)
        assert (again.body, again.redelivered) == (b"1", True)
        with pytest.raises(MessageStateError, match="lost"):
            lost.ack()
        again.ack()
        send("2", queue)
        take(consumer).ack()
    amqp.wait_for_depth(queue, 0)


def test_what_was_buffered_on_a_lost_connection_is_not_handed_out(
    through: Proxy, amqp: Amqp
) -> None:
    queue = amqp.declare_queue()
    for number in range(20):
        send(str(number), queue)
    with Consumer([queue], using="broken") as consumer:
        take(consumer)
        through.cut()
        assert through.wait_for_connections(2)
        seen = []
        for _ in range(20):
            message = take(consumer)
            seen.append(message.body)
            message.ack()
    assert sorted(seen) == sorted(str(number).encode() for number in range(20))


def test_a_consumer_outlives_a_broker_that_is_away(through: Proxy, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with Consumer([queue], using="broken") as consumer:
        through.refuse()
        through.cut()
        with pytest.raises(TimeoutError):
            consumer.drain_events(0.5)
        through.accept()
        send("1", queue)
        take(consumer).ack()


def test_without_a_broker_consuming_raises(rmq: Any) -> None:
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    consumer = Consumer(["orders"])
    with pytest.raises(BrokerUnavailable, match="cannot use RabbitMQ at"):
        consumer.consume()
    assert not consumer.consuming_from("orders")


def threads_of(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


@pytest.mark.parametrize("ask", [Consumer.consume, Consumer.declare, Consumer.purge])
def test_a_consumer_that_cannot_begin_leaves_no_thread_that_goes_on(rmq: Any, ask: Any) -> None:
    rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    with pytest.raises(BrokerUnavailable, match="cannot use RabbitMQ at"):
        ask(Consumer([QueueConfig("orders")]))
    assert threads_of("rmq_publisher consumer") == []


def test_a_block_that_cannot_begin_gives_up_what_it_had_begun(
    rmq: Any, amqp: Amqp, names: Names
) -> None:
    with (
        pytest.raises(Rejected, match="404"),
        Consumer([amqp.declare_queue(), names.queue()]),
    ):
        pass
    assert threads_of("rmq_publisher consumer") == []


def test_the_next_node_is_tried(rmq: Any, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    parts = urlsplit(amqp.url)
    away = parts._replace(netloc=parts.netloc.replace(str(parts.port), str(closed_port())))
    rmq.RMQ_URL = [away.geturl(), amqp.url]
    send("1", queue)
    with Consumer([queue]) as consumer:
        take(consumer).ack()


def test_a_channel_that_the_broker_closed_is_opened_again(rmq: Any, amqp: Amqp) -> None:
    """As it does over a message that nobody settled in time, on every version."""
    queue = amqp.declare_queue()
    with Consumer([queue]) as consumer:
        send("1", queue)
        lost = take(consumer)
        source: Any = consumer._open.source
        # An unknown tag: 406, as the consumer timeout.
        source._settled.append((lost._delivered.session, 10**6, 0))
        source._wake()
        again = take(consumer)
        assert (again.body, again.redelivered) == (b"1", True)
        with pytest.raises(MessageStateError, match="lost"):
            lost.ack()
        again.ack()
    amqp.wait_for_depth(queue, 0)


def test_an_exclusive_queue_of_another_is_refused_and_costs_the_others_nothing(
    rmq: Any, amqp: Amqp
) -> None:
    mine, other = amqp.declare_queue(), amqp.declare_queue(exclusive=True, durable=False)
    with Consumer([mine]) as consumer:
        send("1", mine)
        message = take(consumer)
        consumer.add_queue(other)
        with pytest.raises(Rejected) as caught:
            consumer.consume()
        assert caught.value.reply_code == 405
        assert (consumer.consuming_from(mine), consumer.consuming_from(other)) == (True, False)
        message.ack()
    amqp.wait_for_depth(mine, 0)


def test_priorities_of_consumers(rmq: Any, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    first = Consumer([(queue, {"x-priority": 1})])
    second = Consumer([(queue, {"x-priority": 10})])
    with first, second:
        send("1", queue)
        take(second).ack()


def test_a_stream_is_read_from_an_offset_and_goes_on_where_it_was(
    through: Proxy, amqp: Amqp, names: Names
) -> None:
    stream = QueueConfig(names.queue(), queue_type="stream")
    connections["default"].declare((stream,), SOON)
    for number in range(4):
        send(str(number), stream.name)
    with Consumer([(stream, {"x-stream-offset": 1})], using="broken") as consumer:
        message = take(consumer)
        assert message.body == b"1"
        for refused in (message.reject, message.requeue):
            with pytest.raises(MessageStateError, match="stream"):
                refused()
        message.ack()
        through.cut()
        assert through.wait_for_connections(2)  # what was buffered is void from then on
        assert take(consumer).body == b"2"
    amqp.delete_queue(stream.name)


def test_a_quorum_queue(rmq: Any, amqp: Amqp, names: Names) -> None:
    queue = QueueConfig(names.queue(), queue_type="quorum")
    with Consumer([queue]) as consumer:
        publish("1", queue=queue, delivery="now")
        take(consumer).requeue()
        again = take(consumer)
        assert (again.redelivered, again.headers["x-delivery-count"]) == (True, 1)
        again.ack()
    amqp.delete_queue(queue.name)


def test_its_thread_dies_and_nobody_waits_for_it(rmq: Any, amqp: Amqp) -> None:
    consumer = Consumer([amqp.declare_queue()]).consume()
    source: Any = consumer._open.source

    def raise_it() -> None:
        raise RuntimeError

    threading.Timer(0.2, source._loop.add_callback, [raise_it]).start()
    with pytest.raises(BrokerUnavailable, match="died of RuntimeError"):
        take(consumer)
    consumer.close()
    with consumer:
        assert consumer.consuming_from(consumer.queues[0])


def test_a_forked_child_does_not_touch_the_parents_connection(rmq: Any, amqp: Amqp) -> None:
    queue = amqp.declare_queue()
    with Consumer([queue]) as consumer:
        send("1", queue)
        message = take(consumer)
        child = os.fork()
        if not child:
            try:
                message.ack()
            except MessageStateError:
                consumer.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        send("2", queue)
        take(consumer).ack()
        message.ack()
    amqp.wait_for_depth(queue, 0)


def test_its_connection_is_its_own(rmq: Any, amqp: Amqp) -> None:
    """A broker that blocks publishers, or a publishers' connection that is closed, does not stop it."""
    queue = amqp.declare_queue()
    send("1", queue)
    with Consumer([queue]) as consumer:
        connections.close()
        take(consumer).ack()


def test_a_stream_goes_past_a_message_whose_properties_cannot_be_read(
    rmq: Any, amqp: Amqp, names: Names
) -> None:
    stream = QueueConfig(names.queue(), queue_type="stream")
    connections["default"].declare((stream,), SOON)
    headers: dict[Any, Any] = {b"\xff": "not UTF-8"}
    amqp.channel.basic_publish(
        "", stream.name, b"odd", BasicProperties(headers=headers, content_type="text/plain")
    )
    send("2", stream.name)
    with Consumer([(stream, {"x-stream-offset": "first"})], using="default") as consumer:
        odd = take(consumer)
        assert odd.body == b"odd"
        with pytest.raises(DecodeError):
            _ = odd.headers
        odd.ack()
        assert take(consumer).body == b"2"
    amqp.delete_queue(stream.name)
