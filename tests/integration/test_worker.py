"""A worker's run loop, on the memory broker and on a real one: threads, stop, pauses, limits."""

import threading
from typing import Any

import pytest

from rmq_publisher import Rejected
from rmq_publisher.consumer.outcomes import Ended
from rmq_publisher.consumer.worker import HandlerOverran, Worker
from rmq_publisher.consumer.worker_queue import WorkerQueue
from tests.integration.test_consumer_contract import depth_becomes
from tests.support.rig import PATIENCE
from tests.support.sides import Side, send
from tests.support.workers import NotMine, Running, TestWork, running


class Desk:
    """A worker of one queue, and what its handler was given."""

    def __init__(
        self,
        side: Side,
        handle: Any = None,
        *,
        threads: int = 1,
        prefetch: int = 100,
        **options: Any,
    ) -> None:
        self.queue = side.queue()
        self.ready = threading.Event()
        self.lock = threading.Lock()
        self.bodies: list[bytes] = []
        self.redelivered: list[bool] = []
        self._own = handle
        work_options = {key: options.pop(key) for key in ("batch", "timeout") if key in options}
        self.work = TestWork(self._handle, **work_options)
        self.worker = Worker(on_ready=self.ready.set, **options)
        self.worker.add(WorkerQueue([self.queue], prefetch_count=prefetch), self.work, threads)

    def _handle(self, message: Any) -> None:
        with self.lock:
            self.bodies.append(message.body)
            self.redelivered.append(message.redelivered)
        if self._own is not None:
            self._own(message)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            send(body, queue=self.queue.name)


def eventually(is_so: Any) -> None:
    waiting = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if is_so():
            return
        waiting.wait(0.01)
    raise AssertionError("it does not become so")


def test_once_ends_when_the_queue_has_been_empty_for_a_second(side: Side) -> None:
    desk = Desk(side, threads=3, once=True)
    desk.send(*map(str, range(20)))
    run = Running(desk.worker)
    run.start()
    run.join()
    assert sorted(desk.bodies) == sorted(b"%d" % number for number in range(20))
    assert desk.worker.counts == {Ended.HANDLED: 20}
    assert desk.work.ended == 3
    assert desk.work.closed
    depth_becomes(side, desk.queue.name, 0)


def test_a_limit_leaves_the_rest_in_the_queue(side: Side) -> None:
    desk = Desk(side, threads=2, limit=5)
    desk.send(*map(str, range(9)))
    run = Running(desk.worker)
    run.start()
    run.join()
    assert len(desk.bodies) == 5
    depth_becomes(side, desk.queue.name, 4)


def test_threads_handle_at_the_same_time(side: Side) -> None:
    both = threading.Barrier(2)
    desk = Desk(side, lambda _: both.wait(PATIENCE), threads=2)
    desk.send("1", "2")
    with running(desk.worker, desk.ready):
        eventually(lambda: desk.worker.counts[Ended.HANDLED] == 2)


def test_a_batch_is_what_is_there(side: Side) -> None:
    sizes: list[int] = []
    desk = Desk(side, batch=4, once=True)
    handle = desk.work.handle
    desk.work.handle = lambda messages: sizes.append(len(messages)) or handle(messages)  # type: ignore[func-returns-value]
    desk.send(*map(str, range(10)))
    run = Running(desk.worker)
    run.start()
    run.join()
    assert sum(sizes) == 10
    assert max(sizes) <= 4


def test_a_stop_finishes_what_is_at_hand_and_gives_the_rest_back_in_order(side: Side) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    desk = Desk(side, slow)
    desk.send(*map(str, range(20)))
    with running(desk.worker, desk.ready):
        assert begun.wait(PATIENCE)
        desk.worker.stop()
        go_on.set()
    assert desk.bodies == [b"0"]
    depth_becomes(side, desk.queue.name, 19)
    again = Worker(once=True)
    rest: list[bytes] = []
    again.add(WorkerQueue([desk.queue]), TestWork(lambda message: rest.append(message.body)), 1)
    again.run()
    assert rest == [b"%d" % number for number in range(1, 20)]


def test_a_handler_that_does_not_end_is_left_behind(side: Side, caplog: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hangs(_: Any) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    desk = Desk(side, hangs, stop_timeout=0.2)
    desk.send("1")
    try:
        with running(desk.worker, desk.ready):
            assert begun.wait(PATIENCE)
        depth_becomes(side, desk.queue.name, 1)
    finally:
        go_on.set()
    eventually(lambda: desk.work.ended == 1)
    assert "still running" in caplog.text


def test_it_pauses_for_what_is_not_the_messages_own_failure(side: Side) -> None:
    is_away = threading.Event()
    is_away.set()

    def needs(_: Any) -> None:
        if is_away.is_set():
            raise NotMine

    desk = Desk(side, needs, threads=2)
    desk.work.possible.clear()
    desk.send(*map(str, range(6)))
    with running(desk.worker, desk.ready):
        eventually(lambda: desk.worker.counts[Ended.NOT_AN_ATTEMPT] >= 1)
        depth_becomes(side, desk.queue.name, 6)  # all of them went back
        eventually(lambda: desk.work.asked >= 3)
        assert desk.worker.counts[Ended.NOT_AN_ATTEMPT] <= 2  # nobody ran again meanwhile
        is_away.clear()
        desk.work.possible.set()
        eventually(lambda: desk.worker.counts[Ended.HANDLED] == 6)
    depth_becomes(side, desk.queue.name, 0)


def test_a_stop_ends_a_pause(side: Side) -> None:
    def never(_: Any) -> None:
        raise NotMine

    desk = Desk(side, never)
    desk.work.possible.clear()
    desk.send("1", "2")
    with running(desk.worker, desk.ready):
        eventually(lambda: desk.worker.counts[Ended.NOT_AN_ATTEMPT] == 1)
    depth_becomes(side, desk.queue.name, 2)


def test_threads_without_messages_let_go_of_what_they_do_not_need(side: Side) -> None:
    desk = Desk(side)
    with running(desk.worker, desk.ready):
        assert desk.work.idled.wait(PATIENCE)


def test_a_handler_that_runs_for_too_long_is_reported_once(side: Side, caplog: Any) -> None:
    go_on = threading.Event()
    desk = Desk(side, lambda _: go_on.wait(PATIENCE), timeout=0.05)
    desk.send("1")
    with running(desk.worker, desk.ready):
        eventually(lambda: "has been running for more than 0.05 s" in caplog.text)
        go_on.set()
    assert caplog.text.count("has been running for more than") == 1
    depth_becomes(side, desk.queue.name, 0)


def test_a_process_that_can_be_replaced_ends_over_it(side: Side) -> None:
    go_on = threading.Event()
    desk = Desk(side, lambda _: go_on.wait(PATIENCE), timeout=0.05, threads=2, replaceable=True)
    desk.send("1", "2")
    run = Running(desk.worker)
    run.start()
    with pytest.raises(HandlerOverran):
        run.join()
    go_on.set()
    assert len(desk.work.overran_messages) >= 1
    depth_becomes(side, desk.queue.name, 2)


def test_a_queue_that_does_not_exist_ends_it(side: Side) -> None:
    worker = Worker()
    worker.add(WorkerQueue([side.queue().name + ".none"]), TestWork(lambda _: None), 1)
    with pytest.raises(Rejected) as caught:
        worker.run()
    assert caught.value.reply_code == 404


def test_a_thread_that_breaks_ends_the_worker(side: Side) -> None:
    desk = Desk(side)
    error = RuntimeError("a bug")

    def broken(_: Any) -> None:
        raise error

    desk.work.handle = broken  # type: ignore[assignment]
    desk.send("1")
    run = Running(desk.worker)
    run.start()
    with pytest.raises(RuntimeError, match="a bug"):
        run.join()
    depth_becomes(side, desk.queue.name, 1)
