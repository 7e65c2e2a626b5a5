"""Workers in a thread of the test, and work that a test defines."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rmq_publisher.consumer.handler_work import add_handlers
from rmq_publisher.consumer.handlers import options_of
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome
from rmq_publisher.consumer.worker import Worker
from tests.support.rig import PATIENCE

Handle = Callable[[ReceivedMessage], Any]


class TestWork:
    """Acknowledges when ``handle`` returns, requeues on `NotMine`, and rejects on other errors."""

    __test__ = False

    def __init__(self, handle: Handle, *, batch: int = 1, timeout: float | None = None) -> None:
        self.name = "test work"
        self.batch = batch
        self.timeout = timeout
        self.keeps = False
        self.possible = threading.Event()
        self.possible.set()
        self.overran_messages: list[ReceivedMessage] = []
        self.idled = threading.Event()
        self.ended = 0
        self.asked = 0
        self.closed = False
        self._handle = handle

    def handle(self, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
        return [self._one(message) for message in messages]

    def _one(self, message: ReceivedMessage) -> Outcome:
        try:
            self._handle(message)
        except NotMine as error:
            return Outcome(Ended.NOT_AN_ATTEMPT, error)
        except Exception as error:
            message.reject()
            return Outcome(Ended.REJECTED, error)
        message.ack()
        return HANDLED

    def is_possible(self, outcome: Outcome) -> bool:
        self.asked += 1
        return self.possible.is_set()

    def overran(self, messages: Sequence[ReceivedMessage]) -> None:
        self.overran_messages += messages

    def close(self) -> None:
        self.closed = True

    def idle(self) -> None:
        self.idled.set()

    def thread_ends(self) -> None:
        self.ended += 1


class NotMine(Exception):
    """A failure that the message did not cause."""


class Running:
    """A worker that runs in a thread; what it raised is raised by `join`."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def start(self) -> None:
        self._thread.start()

    def join(self, patience: float = PATIENCE) -> None:
        self._thread.join(patience)
        assert not self._thread.is_alive(), "the worker does not end"
        if self.error is not None:
            raise self.error


@contextmanager
def running(worker: Worker, ready: threading.Event | None = None) -> Iterator[Running]:
    """A worker that is stopped at the end of the block, and is ready at its beginning."""
    run = Running(worker)
    run.start()
    try:
        assert ready is None or ready.wait(PATIENCE), "the worker is not ready"
        yield run
        worker.stop()
        run.join()
    finally:
        worker.stop()


def handle_all(*handlers: Callable[..., Any], threads: int | None = None) -> Worker:
    """Run handlers until their queues have been empty for a second; return the worker."""
    worker = worker_of(*handlers, threads=threads, once=True)
    run = Running(worker)
    run.start()
    run.join()
    return worker


def ran(worker: Worker) -> Counter[Ended]:
    """How runs of handlers ended, without messages whose handler did not run."""
    return Counter(
        {ended: count for ended, count in worker.counts.items() if ended is not Ended.PASSED}
    )


def worker_of(*handlers: Callable[..., Any], threads: int | None = None, **options: Any) -> Worker:
    """A worker that runs handlers, as `rmq_consume` would."""
    worker = Worker(**options)
    add_handlers(worker, map(options_of, handlers), threads)
    return worker
