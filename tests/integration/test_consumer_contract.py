"""What a `Consumer` does, asked of the memory broker and of a real one alike."""

import logging
import pickle
import threading
import time
from typing import Any

import pytest

from rmq_publisher import Consumer, QueueConfig, Rejected, signals
from rmq_publisher.consumer import DecodeError, MessageStateError
from tests.support.sides import Side, send

SOON = 10.0


def take(consumer: Consumer) -> Any:
    """The next message, unsettled."""
    message = consumer._take(SOON, lambda: False)
    assert message is not None, "nothing came"
    return message


def depth_becomes(side: Side, queue: str, expected: int) -> None:
    """A broker may need a moment for what was settled just now."""
    deadline = time.monotonic() + SOON
    while (depth := side.depth(queue)) != expected:
        assert time.monotonic() < deadline, f"{depth} messages"
        time.sleep(0.01)


def nothing_comes(consumer: Consumer) -> bool:
    return consumer._take(0.3, lambda: False) is None


# -- receiving --------------------------------------------------------------------------------


def test_callbacks_get_the_decoded_body_and_the_message(side: Side) -> None:
    queue = side.queue()
    got: list[Any] = []
    send({"a": 1}, queue=queue.name, serializer="json", headers={"h": 1}, message_id="m", type="t")
    with Consumer([queue], callbacks=[lambda *given: got.append(given)], tag_prefix="me.") as one:
        one.register_callback(lambda body, message: message.ack())
        one.drain_events(SOON)
    ((body, message),) = got
    assert (body, message.payload, message.body) == ({"a": 1}, {"a": 1}, b'{"a":1}')
    assert (message.headers, message.message_id, message.attempts) == ({"h": 1}, "m", 1)
    assert (message.content_type, message.content_encoding) == ("application/json", None)
    assert (message.properties["type"], "headers" in message.properties) == ("t", False)
    info = message.delivery_info
    assert info.pop("consumer_tag").startswith("me.")
    assert info == {
        "delivery_tag": message.delivery_tag, "redelivered": False, "exchange": "",
        "routing_key": queue.name, "queue": queue.name,
    }  # fmt: skip
    assert (message.acknowledged, message.redelivered) == (True, False)
    depth_becomes(side, queue.name, 0)


def test_on_message_gets_the_message_undecoded(side: Side) -> None:
    queue = side.queue()
    send(b"\xff", queue=queue.name)
    got: list[Any] = []
    with Consumer([queue.name], on_message=got.append, accept=["json"]) as consumer:
        consumer.drain_events(SOON)
        assert got[0].body == b"\xff"
        got[0].ack()


def test_iterating_yields_unsettled_messages_until_stop(side: Side) -> None:
    queue = side.queue()
    for number in range(3):
        send(str(number), queue=queue.name)
    seen = []
    with Consumer(queue) as consumer:
        for message in consumer:
            assert not message.acknowledged
            seen.append(message.body)
            message.ack()
            if len(seen) == 3:
                consumer.stop()
    assert seen == [b"0", b"1", b"2"]


def test_run_ends_at_its_limit_and_after_silence(side: Side) -> None:
    queue = side.queue()
    for number in range(3):
        send(str(number), queue=queue.name)
    seen: list[bytes] = []

    def handle(message: Any) -> None:
        seen.append(message.body)
        message.ack()

    with Consumer([queue], on_message=handle) as consumer:
        consumer.run(limit=2, timeout=SOON)
        assert seen == [b"0", b"1"]
        consumer.run(timeout=0.3)
    assert seen == [b"0", b"1", b"2"]


def test_run_is_stopped_from_another_thread(side: Side) -> None:
    with Consumer([side.queue()], on_message=lambda _: None) as consumer:
        threading.Timer(0.1, consumer.stop).start()
        consumer.run()


def test_drain_events_times_out(side: Side) -> None:
    consumer = Consumer([side.queue()], on_message=lambda _: None)
    with consumer, pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        consumer.drain_events(0.1)


def test_drain_events_without_callbacks_says_so(side: Side) -> None:
    queue = side.queue()
    send(b"1", queue=queue.name)
    with Consumer([queue]) as consumer, pytest.raises(NotImplementedError, match="on_message"):
        consumer.drain_events(SOON)


# -- settling ---------------------------------------------------------------------------------


def test_what_is_rejected_goes_to_the_dead_letters(side: Side) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name)
    send(b"bad", queue=queue.name)
    with Consumer([queue]) as consumer:
        message = take(consumer)
        message.reject()
        assert message.acknowledged
    assert side.bodies(dead.name, 1) == [b"bad"]


def test_what_is_requeued_comes_again(side: Side) -> None:
    queue = side.queue()
    send(queue=queue.name)
    with Consumer([queue]) as consumer:
        take(consumer).requeue()
        again = take(consumer)
        assert again.redelivered
        again.ack()


@pytest.mark.parametrize("settle", ["ack", "reject", "requeue"])
@pytest.mark.parametrize("first", ["ack", "reject"])
def test_a_message_is_settled_once(side: Side, first: str, settle: str) -> None:
    queue = side.queue()
    send(b"1", queue=queue.name)
    send(b"2", queue=queue.name)
    with Consumer([queue]) as consumer:
        message, other = take(consumer), take(consumer)
        getattr(message, first)()
        with pytest.raises(MessageStateError, match="already"):
            getattr(message, settle)()
        other.ack()
    depth_becomes(side, queue.name, 0)


def test_ack_multiple_settles_what_came_before(side: Side) -> None:
    queue = side.queue()
    for number in range(4):
        send(str(number), queue=queue.name)
    with Consumer([queue]) as consumer:
        first, second, third, fourth = (take(consumer) for _ in range(4))
        third.ack(multiple=True)
        assert (first.acknowledged, second.acknowledged, fourth.acknowledged) == (
            True,
            True,
            False,
        )
        for message in (first, second, third):
            with pytest.raises(MessageStateError, match="already"):
                message.ack()
    assert side.bodies(queue.name, 1) == [b"3"]


def test_acks_out_of_order_and_from_other_threads(side: Side) -> None:
    queue = side.queue()
    for number in range(40):
        send(str(number), queue=queue.name)
    with Consumer([queue]) as consumer:
        messages = [take(consumer) for _ in range(40)]
        kept = messages.pop(20)
        threads = [
            threading.Thread(
                target=lambda some: [one.ack() for one in some], args=(messages[n::4],)
            )
            for n in range(4)
        ]
        for thread in reversed(threads):
            thread.start()
        for thread in threads:
            thread.join()
        assert not kept.acknowledged
    assert side.bodies(queue.name, 1) == [b"20"]


def test_no_ack_takes_messages_for_good(side: Side) -> None:
    queue = side.queue()
    send(queue=queue.name)
    with Consumer([queue], no_ack=True) as consumer:
        message = take(consumer)
        assert message.acknowledged
        message.ack()  # as in kombu
        with pytest.raises(MessageStateError, match="no_ack"):
            message.reject()
    depth_becomes(side, queue.name, 0)


def test_log_error_methods_log_instead_of_raising(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    queue = side.queue()
    send(queue=queue.name)
    logger = logging.getLogger("mine")
    with Consumer([queue]) as consumer:
        message = take(consumer)
        assert message.ack_log_error(logger, (MessageStateError,)) is True
        assert message.ack_log_error(logger, MessageStateError, multiple=True) is False
        assert message.reject_log_error(logger, (MessageStateError,), requeue=True) is False
    assert [record.name for record in caplog.records if record.levelno >= 50] == ["mine", "mine"]


def test_closing_gives_back_what_was_not_settled(side: Side) -> None:
    queue = side.queue()
    send(b"1", queue=queue.name)
    send(b"2", queue=queue.name)
    consumer = Consumer([queue]).consume()
    lost, done = take(consumer), take(consumer)
    done.ack()
    consumer.close()
    with pytest.raises(MessageStateError, match="lost"):
        lost.ack()
    again = side.take(queue.name)
    assert (again.body, again.redelivered) == (b"1", True)
    assert side.get(queue.name) is None


def test_a_closed_consumer_can_consume_again(side: Side) -> None:
    queue = side.queue()
    consumer = Consumer([queue]).consume()
    consumer.close()
    send(queue=queue.name)
    with consumer:
        take(consumer).ack()


# -- queues -----------------------------------------------------------------------------------


def test_a_config_is_declared_and_a_name_must_exist(side: Side) -> None:
    queue = QueueConfig(side.unused_queue())
    Consumer([queue]).declare().close()
    depth_becomes(side, queue.name, 0)
    consumer = Consumer([side.unused_queue()])
    with pytest.raises(Rejected) as caught:
        consumer.consume()
    assert caught.value.reply_code == 404
    consumer.close()


def test_without_auto_declare_a_config_is_only_verified(side: Side) -> None:
    consumer = Consumer([QueueConfig(side.unused_queue())], auto_declare=False)
    with pytest.raises(Rejected):
        consumer.consume()
    consumer.close()


def test_queues_are_added_and_cancelled_one_by_one(side: Side) -> None:
    one, two = side.queue(), side.queue()
    with Consumer([one]) as consumer:
        assert (consumer.consuming_from(one), consumer.consuming_from(two.name)) == (True, False)
        consumer.add_queue(two)
        assert not consumer.consuming_from(two)
        consumer.consume()
        send(b"two", queue=two.name)
        take(consumer).ack()
        consumer.cancel_by_queue(one.name)
        assert (consumer.consuming_from(one), consumer.queues) == (False, [two])
        send(b"one", queue=one.name)
        assert nothing_comes(consumer)
    depth_becomes(side, one.name, 1)


def test_flow_stops_and_goes_on(side: Side) -> None:
    queue = side.queue()
    with Consumer([queue]) as consumer:
        consumer.flow(False)
        send(queue=queue.name)
        assert nothing_comes(consumer)
        consumer.flow(True)
        take(consumer).ack()


def test_purge_counts_what_it_drops(side: Side) -> None:
    one, two = side.queue(), side.queue()
    for queue in (one, one, two):
        send(queue=queue.name)
    consumer = Consumer([one, two])
    assert consumer.purge() == 3
    consumer.close()


def test_prefetch_bounds_what_is_held(side: Side) -> None:
    queue = side.queue()
    for number in range(3):
        send(str(number), queue=queue.name)
    with Consumer([queue], prefetch_count=2) as consumer:
        first, _second = take(consumer), take(consumer)
        assert nothing_comes(consumer)
        first.ack()
        assert take(consumer).body == b"2"


def test_qos_holds_for_queues_that_are_consumed_from(side: Side) -> None:
    queue = side.queue()
    with Consumer([queue], prefetch_count=5) as consumer:
        consumer.qos(prefetch_count=1)
        send(b"1", queue=queue.name)
        send(b"2", queue=queue.name)
        first = take(consumer)
        assert nothing_comes(consumer)
        first.ack()
        take(consumer).ack()


def test_a_global_count_is_that_of_all_queues(side: Side) -> None:
    queues = [side.queue(), side.queue()]
    for queue in queues:
        send(queue=queue.name)
    with Consumer(queues) as consumer:
        consumer.qos(prefetch_count=1, apply_global=True)
        first = take(consumer)
        assert nothing_comes(consumer)
        first.ack()
        take(consumer).ack()


def test_recover_gives_all_back(side: Side) -> None:
    queue = side.queue()
    send(queue=queue.name)
    with Consumer([queue]) as consumer:
        message = take(consumer)
        consumer.recover(requeue=True)
        again = take(consumer)
        assert again.redelivered
        with pytest.raises(MessageStateError, match="lost"):
            message.ack()
        again.ack()
    depth_becomes(side, queue.name, 0)


def test_what_rabbitmq_does_not_do_is_refused_with_the_reason(side: Side) -> None:
    consumer = Consumer([side.queue()])
    with pytest.raises(ValueError, match="540"):
        consumer.recover()
    with pytest.raises(ValueError, match="540"):
        consumer.qos(prefetch_size=1)


def test_a_deleted_queue_is_told_and_taken_up_again(side: Side) -> None:
    queue = side.queue()
    told: list[dict[str, Any]] = []

    def listen(**arguments: Any) -> None:
        told.append(arguments)

    signals.consumer_cancelled.connect(listen)
    try:
        with Consumer([queue.name]) as consumer:
            side.delete_queue(queue.name)
            assert nothing_comes(consumer)
            side.declare(queue)
            send(b"again", queue=queue.name)
            message = take(consumer)
            assert message.body == b"again"
            message.ack()
    finally:
        signals.consumer_cancelled.disconnect(listen)
    assert [(one["using"], one["queue"]) for one in told] == [("default", queue.name)]


def test_one_consumer_is_the_active_one(side: Side) -> None:
    queue = side.queue(single_active_consumer=True)
    with Consumer([queue]) as first, Consumer([queue]) as second:
        for number in range(2):
            send(str(number), queue=queue.name)
        take(first).ack()
        assert nothing_comes(second)
        take(first).ack()
        first.cancel()
        send(b"2", queue=queue.name)
        take(second).ack()


# -- bodies that cannot be read ---------------------------------------------------------------


def test_what_is_not_accepted_is_rejected(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    dead = side.queue()
    queue = side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name)
    evil = pickle.dumps({"secret": 1})
    send(evil, queue=queue.name, content_type="application/x-python-serialize")
    called: list[Any] = []
    with Consumer(
        [queue], callbacks=[lambda *given: called.append(given)], accept=["json"]
    ) as one:
        one.drain_events(SOON)
    assert side.bodies(dead.name, 1) == [evil]
    assert called == []
    assert "not accepted" in caplog.text
    assert "secret" not in caplog.text


def test_on_decode_error_decides_instead(side: Side) -> None:
    queue = side.queue()
    send(b"{", queue=queue.name)
    got: list[Any] = []

    def undecodable(message: Any, error: DecodeError) -> None:
        got.append(error)
        message.ack()

    with Consumer([queue], callbacks=[print], on_decode_error=undecodable) as consumer:
        consumer.drain_events(SOON)
    assert "JSONDecodeError" in str(got[0])
    depth_becomes(side, queue.name, 0)


def test_a_body_over_the_limit_is_not_kept(side: Side, settings: Any) -> None:
    queue = side.queue()
    send(b"x" * 2000, queue=queue.name)
    settings.RMQ_MAX_BODY_SIZE = 1000
    with Consumer([queue]) as consumer:
        message = take(consumer)
        with pytest.raises(DecodeError, match="2000 bytes, RMQ_MAX_BODY_SIZE allows 1000"):
            message.decode()
        message.ack()
