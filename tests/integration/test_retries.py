"""The attempts of a handler's messages, on the memory broker and on a real one."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError

from rmq_publisher import Binding, QueueConfig, Reject, Retry
from rmq_publisher.consumer import dead_letters
from rmq_publisher.consumer.handler_options import HandlerOptions
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import Ended, Outcome
from rmq_publisher.consumer.retries import Retries
from rmq_publisher.serialization import DecodeError
from tests.support.attempts import Desk, fail, succeed
from tests.support.received import received
from tests.support.sides import SOON, Side, send

Desks = Callable[..., Desk]
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
pytestmark = on_sqlite


@pytest.fixture
def desk(side: Side, store: str) -> Iterator[Desks]:
    made: list[Desk] = []

    def make(queue: QueueConfig | str | None = None, **options: Any) -> Desk:
        one = Desk(side, side.queue() if queue is None else queue, database=store, **options)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def dead(side: Side) -> QueueConfig:
    return side.queue()


@pytest.fixture
def mortal(side: Side, dead: QueueConfig) -> QueueConfig:
    """A queue with dead letters."""
    return side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name)


def rows(store: str) -> list[Any]:
    return list(dead_letters.rows(store).order_by("pk"))


def raw_headers(message: ReceivedMessage) -> dict[str, Any]:
    return dict(message._values["headers"])


# -- attempts -------------------------------------------------------------------------------


def test_five_attempts_at_growing_distances_then_the_dead_letters_once(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, max_attempts=5, backoff=(0.05, 0.2))
    send(b"1", queue=mortal.name, message_id="m", headers={"own": 1}, type="t")
    waits, times = [], []

    def handle(message: ReceivedMessage) -> None:
        times.append(time.monotonic())
        assert message.attempts == len(times)
        assert (message.message_id, message.headers["own"], message.properties["type"]) == (
            "m",
            1,
            "t",
        )
        deaths = raw_headers(message).get("x-death", [])
        waits.extend(death["queue"].rpartition(".")[2] for death in deaths)
        fail(message)

    for wait in (0, 50, 100, 200, 200):
        assert one.after(wait, handle) == "FAILED"
    assert one.after(50, handle) == "PASSED"  # it is rejected, with the reason in its headers
    assert waits == ["50", "100", "200", "200"]
    letter = side.take(dead.name)
    assert letter.properties.headers["x-rmq-error"].startswith("failed: ValueError at tests.")
    assert letter.properties.headers["x-rmq-attempts"] == 5
    assert "nobody may see" not in str(letter.properties)
    assert side.stays_empty(dead.name)
    assert one.is_empty()
    if not side.is_memory:  # its time is moved by hand
        gaps = [second - first for first, second in itertools.pairwise(times)]
        assert all(gap >= wait for gap, wait in zip(gaps, (0.05, 0.1, 0.2, 0.2), strict=True))


def test_what_is_handled_at_last_is_acknowledged(side: Side, desk: Desks) -> None:
    one = desk()
    send(b"1", queue=one.options.queue_name)
    assert one.handle(fail) == "FAILED"
    assert one.after(50, succeed) == "HANDLED"
    assert one.is_empty()
    one.close()
    assert side.depth(one.options.queue_name) == 0


def test_the_handler_sees_how_it_was_published(side: Side, desk: Desks) -> None:
    exchange = side.exchange("topic")
    one = desk()
    side.declare(QueueConfig(one.options.queue_name, bindings=[Binding(exchange, "a.*")]))
    send(b"1", exchange=exchange.name, routing_key="a.b", expiration=60, headers={"CC": ["other"]})
    seen = []

    def handle(message: ReceivedMessage) -> None:
        info = message.delivery_info
        seen.append((info["exchange"], info["routing_key"], message.properties.get("expiration")))
        assert message.headers["CC"] == ["other"]
        assert "x-death" not in message.headers
        fail(message)

    one.handle(handle)
    one.after(50, handle)
    assert seen == [(exchange.name, "a.b", "60000")] * 2


def test_a_retry_waits_as_long_as_it_says_without_running_or_counting(
    side: Side, desk: Desks
) -> None:
    one = desk(max_attempts=3, backoff=(0.05, 60))  # levels of 50 and 100 ms
    send(b"1", queue=one.options.queue_name)
    attempts = []

    def handle(message: ReceivedMessage) -> None:
        attempts.append(message.attempts)
        raise Retry(countdown=0.25)

    assert one.handle(handle) == "RETRY"
    assert one.after(100, handle) == "PASSED"
    assert one.after(100, handle) == "PASSED"
    assert attempts == [1]
    assert one.after(50, handle) == "RETRY"
    assert attempts == [1, 2]


def test_a_retry_without_a_countdown_waits_as_after_a_failure(side: Side, desk: Desks) -> None:
    one = desk(backoff=(3600, 7200))
    send(b"1", queue=one.options.queue_name)

    def handle(_: ReceivedMessage) -> None:
        raise Retry

    assert one.handle(handle) == "RETRY"
    eventually(lambda: side.depth(one.levels.name(3_600_000)) == 1)


def test_a_message_is_not_tried_again_past_its_own_expiration(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, backoff=(3600, 7200), max_attempts=2)
    side.declare_own(*one.levels.configs())
    send(b"1", queue=mortal.name, expiration=60)
    assert one.handle(fail) == "FAILED"
    # To reject it with its reason it takes one more turn, in the shortest level.
    eventually(lambda: side.depth(one.levels.name(3_600_000)) == 1)
    one.side.get(one.levels.name(3_600_000)).ack()


def test_what_expired_while_it_waited_is_not_tried(side: Side, desk: Desks, store: str) -> None:
    one = desk()
    send(b"1", queue=one.options.queue_name, headers={
        "x-rmq-attempts": 1, "x-rmq-original": {"expires_at": 1000, "exchange": "", "routing_key": "q"},
    })  # fmt: skip
    assert one.handle(succeed) == "PASSED"
    assert [row.reason for row in rows(store)] == ["failed"]


# -- the end --------------------------------------------------------------------------------


def test_without_dead_letters_the_end_is_a_row(side: Side, desk: Desks, store: str) -> None:
    one = desk(max_attempts=2)
    send(b"1", queue=one.options.queue_name, message_id="m")
    one.handle(fail)
    assert rows(store) == []
    assert one.after(50, fail) == "FAILED"
    (row,) = rows(store)
    assert (row.message_id, row.handler, row.reason, row.attempts) == ("m", "book", "failed", 2)
    assert row.error.startswith("failed: ValueError at tests.")
    assert one.is_empty()
    one.close()
    assert side.depth(one.options.queue_name) == 0


def test_what_cannot_be_read_is_kept_as_it_came(store: str) -> None:
    options = HandlerOptions("book", fail, "orders", database=store)
    message = received(b"1", header=b"\xff\xff")
    Retries(options).settle(message, Outcome(Ended.REJECTED, DecodeError("no")))
    (row,) = rows(store)
    assert (bytes(row.header), bytes(row.body), row.reason) == (b"\xff\xff", b"1", "rejected")
    assert message.acknowledged


def test_a_rejected_message_ends_at_once(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig, store: str
) -> None:
    def handle(_: ReceivedMessage) -> None:
        raise Reject

    for queue in (mortal, None):
        one = desk(queue)
        send(b"1", queue=one.options.queue_name)
        assert one.handle(handle) == "REJECTED"
        if queue is mortal:
            assert one.after(50, handle) == "PASSED"
    letter = side.take(dead.name)
    assert letter.properties.headers["x-rmq-error"].startswith("rejected: Reject at tests.")
    assert [row.reason for row in rows(store)] == ["rejected"]


def test_a_message_without_further_attempts_is_rejected_with_its_reason(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, max_attempts=1)
    send(b"1", queue=mortal.name)
    assert one.handle(fail) == "FAILED"
    assert one.handle(fail) == "PASSED"
    assert side.take(dead.name).properties.headers["x-rmq-error"].startswith("failed: ValueError")


def test_what_was_sent_back_from_the_dead_letters_begins_anew(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, max_attempts=1)
    send(b"1", queue=mortal.name)
    one.handle(fail)
    one.handle(fail)
    letter = side.take(dead.name)
    letter.ack()
    send(letter.body, queue=mortal.name, properties=letter.properties)  # as a shovel does
    attempts: list[int] = []
    assert one.handle(lambda message: attempts.append(message.attempts)) == "HANDLED"
    assert attempts == [1]


def test_a_reason_that_cannot_be_sent_does_not_keep_a_message(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, max_attempts=2)
    send(b"1", queue=mortal.name)
    one.handle(fail)
    side.wait(0.05)
    message = one.take()
    side.delete_queue(one.levels.name(50))
    assert one.handle(fail, message) == "FAILED"
    assert "x-rmq-error" not in side.take(dead.name).properties.headers


def test_while_no_row_can_be_written_it_stays_in_the_longest_level(
    side: Side, desk: Desks, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = desk(max_attempts=3)
    send(b"1", queue=one.options.queue_name, message_id="m")
    message = one.take()
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "store", broken)
        assert one.handle(rejecting, message) == "REJECTED"
    assert message.acknowledged
    assert rows(store) == []
    assert one.after(100, succeed) == "PASSED"
    (row,) = rows(store)
    assert (row.reason, row.attempts, row.message_id) == ("rejected", 1, "m")
    assert row.error.startswith("rejected: Reject at")


def test_where_nothing_can_be_done_it_stays_unacknowledged(
    side: Side, desk: Desks, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = desk(max_attempts=1)
    send(b"1", queue=one.options.queue_name)
    message = one.take()
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "store", broken)
        assert one.handle(fail, message) == "FAILED"
        assert not message.acknowledged
    eventually(lambda: message.acknowledged)
    assert len(rows(store)) == 1


def test_it_is_dropped_only_where_the_handler_says_so(
    side: Side, desk: Desks, store: str, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, max_attempts=1, dead_letters="drop")
    send(b"1", queue=mortal.name)
    assert one.handle(fail) == "FAILED"
    assert rows(store) == []
    assert side.stays_empty(dead.name)
    one.close()
    assert side.depth(mortal.name) == 0


# -- hand-over ------------------------------------------------------------------------------


def test_what_cannot_be_handed_over_stays_unacknowledged_and_does_not_run_again(
    side: Side, desk: Desks, caplog: pytest.LogCaptureFixture
) -> None:
    one = desk(backoff=(0.05, 0.05))
    side.delete_queue(one.levels.name(50))
    send(b"1", queue=one.options.queue_name, message_id="m")
    message = one.take()
    assert one.handle(fail, message) == "FAILED"
    assert not message.acknowledged
    assert "stays unacknowledged" in caplog.text
    assert one.is_empty()
    side.declare_own(*one.levels.configs())
    eventually(lambda: message.acknowledged)
    runs: list[int] = []
    assert one.after(50, lambda again: runs.append(again.attempts)) == "HANDLED"
    assert runs == [2]


def test_a_hand_over_that_is_left_goes_on_with_the_next_delivery(side: Side, desk: Desks) -> None:
    one = desk(backoff=(0.05, 0.05))
    side.delete_queue(one.levels.name(50))
    send(b"1", queue=one.options.queue_name, message_id="m")
    message = one.take()
    one.handle(fail, message)
    one.consumer.recover(requeue=True)  # as after a lost connection
    again = one.take()
    assert (again.redelivered, message.is_current) == (True, False)
    assert one.handle(succeed, again) == "PASSED"
    side.declare_own(*one.levels.configs())
    eventually(lambda: again.acknowledged)
    runs: list[int] = []
    assert one.after(50, lambda last: runs.append(last.attempts)) == "HANDLED"
    assert runs == [2]


def test_headers_that_cannot_be_written_again_end_the_attempts(
    side: Side, desk: Desks, store: str
) -> None:
    one = desk()
    send(b"1", queue=one.options.queue_name, headers={"a": "x" * 130_900})
    assert one.handle(fail) == "FAILED"
    (row,) = rows(store)
    assert (row.reason, row.attempts) == ("failed", 1)


# -- starts that never ended ----------------------------------------------------------------


def test_a_poison_ends_as_crashed_and_its_neighbours_are_handled_once(
    side: Side, desk: Desks, mortal: QueueConfig, dead: QueueConfig
) -> None:
    one = desk(mortal, max_attempts=3)
    for number in range(20):
        send(b"%d" % number, queue=mortal.name)
    handled: list[bytes] = []
    starts = passed = 0
    while passed < 2:  # it is sent on with its reason, and comes back to be rejected
        try:
            outcome = one.handle(lambda message: die_of(message, b"7", handled))
            passed += outcome == "PASSED"
            side.wait(0.05 * (outcome == "PASSED"))
        except Died:
            starts += 1
            one.die()
            one.open()
    assert starts == 4  # the first was not recorded
    assert sorted(handled) == sorted(b"%d" % number for number in range(20) if number != 7)
    assert side.take(dead.name).properties.headers["x-rmq-error"] == "crashed"
    assert side.stays_empty(dead.name)


def test_what_was_given_back_in_order_counts_nothing(side: Side, desk: Desks) -> None:
    one = desk(max_attempts=1)
    send(b"1", queue=one.options.queue_name)
    for _ in range(5):
        one.take()
        one.close()
        one.open()
    assert one.handle(succeed) == "HANDLED"


def test_failures_and_lost_starts_count_together(side: Side, desk: Desks, store: str) -> None:
    one = desk(max_attempts=3)
    send(b"1", queue=one.options.queue_name)
    one.handle(fail)
    side.wait(0.05)
    seen: list[int] = []
    for _ in range(2):
        with pytest.raises(Died):
            one.handle(lambda message: die_of(message, b"1", [], seen))
        one.die()
        one.open()
    assert seen == [2, 3]
    assert one.handle(succeed) == "PASSED"
    assert [(row.reason, row.attempts) for row in rows(store)] == [("crashed", 3)]


def test_a_handler_that_ended_leaves_no_start(side: Side, desk: Desks, store: str) -> None:
    one = desk(max_attempts=2)
    send(b"1", queue=one.options.queue_name)
    one.handle(fail)
    one.after(50, succeed)
    assert not one.retries._starts._rows().exists()


def test_a_start_that_cannot_be_written_is_no_attempt(
    side: Side, desk: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = desk()
    send(b"1", queue=one.options.queue_name)
    one.take()
    one.die()
    one.open()
    message = one.take()
    with monkeypatch.context() as patch:
        patch.setattr(one.retries._starts, "_add", broken)
        assert one.handle(succeed, message) == "NOT_AN_ATTEMPT"
    assert not message.acknowledged
    message.requeue()
    assert one.handle(succeed) == "HANDLED"


def test_an_outage_during_a_run_leaves_no_lost_start(
    side: Side, desk: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = desk()
    send(b"1", queue=one.options.queue_name)
    one.take().requeue()
    message = one.take()
    assert one.retries.begin(message) is None
    with monkeypatch.context() as patch:
        patch.setattr(one.retries._starts, "delete_left_over", broken)
        one.retries.end(message)
    message.requeue()
    attempts: list[int] = []
    assert one.handle(lambda again: attempts.append(again.attempts)) == "HANDLED"
    assert attempts == [1]


class Died(BaseException):
    """The worker's death."""


def die_of(
    message: ReceivedMessage, poison: bytes, handled: list[bytes], seen: list[int] | None = None
) -> None:
    if seen is not None:
        seen.append(message.attempts)
    if message.body == poison:
        raise Died
    handled.append(message.body)


def rejecting(_: ReceivedMessage) -> None:
    raise Reject


def broken(*_: Any) -> Any:
    raise DatabaseError


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not is_so():
        assert time.monotonic() < deadline, "it does not become so"
        time.sleep(0.01)
