"""The loop of the I/O thread: sockets, timers, callbacks, and no call that is missed."""

from __future__ import annotations

import fcntl
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from rmq_publisher.transport.rabbitmq import event_loop as module
from rmq_publisher.transport.rabbitmq.event_loop import LONGEST_WAIT, Loop
from tests.support.calls import PATIENCE, Call, Took


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


class Clock:
    """Stands still until it is told to go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.now)


def test_a_callback_ends_the_wait_whoever_brings_it(loop: Loop) -> None:
    came = threading.Event()
    call = Call(lambda: loop.turn(wait=True))
    loop.add_callback(came.set)
    call.value()
    loop.turn(wait=False)
    assert came.is_set()


def test_no_wake_up_is_lost_between_the_look_and_the_wait(loop: Loop) -> None:
    """The engine's protocol: news is looked for, then waited for; each turn must see it in time."""
    rounds, awake, news, seen = 3000, [False], [False], []

    def wake() -> None:
        news[0] = True
        if not awake[0]:
            awake[0] = True
            loop.wake()

    def run() -> None:
        while len(seen) < rounds:
            awake[0] = False
            loop.turn(wait=not news[0])
            awake[0] = True
            news[0] = False
            while inbox:
                seen.append(inbox.pop(0))
                answered.release()

    inbox: list[int] = []
    answered = threading.Semaphore(0)
    with Took() as took:
        call = Call(run)
        for number in range(rounds):
            inbox.append(number)
            wake()
            assert answered.acquire(timeout=PATIENCE)
        call.value()
    assert seen == list(range(rounds))
    assert took.seconds < LONGEST_WAIT * 5  # a lost one costs LONGEST_WAIT


def test_more_rings_than_the_bell_holds(loop: Loop) -> None:
    for _ in range(100_000):
        loop.wake()
    for _ in range(100):
        loop.turn(wait=False)
    with Took() as took:
        loop.call_later(0.01, lambda: None)
        loop.turn(wait=True)
    assert took.seconds < LONGEST_WAIT


def test_ringing_after_the_end_is_no_error(loop: Loop) -> None:
    loop.close()
    loop.wake()
    loop.add_callback(lambda: None)


def test_a_callback_of_a_callback_waits_for_the_next_turn(loop: Loop) -> None:
    """Else one that adds itself for ever would keep sockets and timers waiting."""
    turns: list[int] = []

    def again() -> None:
        turns.append(len(turns))
        loop.add_callback(again)

    loop.add_callback(again)
    loop.turn(wait=True)
    assert turns == [0]
    loop.turn(wait=True)
    assert turns == [0, 1]


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=20), st.floats(0, 120))
def test_timers_come_in_their_order_and_no_cancelled_one(
    timers: list[tuple[float, bool]], passes: float
) -> None:
    loop = Loop()
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        rung: list[int] = []
        for number, (delay, cancelled) in enumerate(timers):
            timer = loop.call_later(delay, lambda number=number: rung.append(number))  # type: ignore[misc]
            if cancelled:
                loop.remove_timeout(timer)
        clock.now += passes
        loop.turn(wait=False)
        due = [
            n
            for n, (d, cancelled) in enumerate(timers)
            if not cancelled and 1000 + d <= 1000 + passes
        ]
        assert rung == sorted(due, key=lambda number: (1000 + timers[number][0], number))
    loop.close()


def test_a_clock_that_went_far_costs_one_turn(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept: all that is due comes at once, what has arrived is heard before it."""
    clock = Clock(monkeypatch)
    order: list[str] = []
    near, far = socket.socketpair()
    with near, far:
        loop.add_handler(near.fileno(), lambda *_: order.append("heard"), loop.READ)
        for number in range(3):
            loop.call_later(10.0 + number, lambda: order.append("timer"))
        far.send(b"x")
        clock.now += 1e9
        loop.turn(wait=True)
        loop.remove_handler(near.fileno())
    assert order == ["heard", "timer", "timer", "timer"]


def test_timers_ring_while_sockets_are_busy(loop: Loop) -> None:
    near, far = socket.socketpair()
    rung: list[bool] = []
    with near, far:
        far.send(b"x")  # never read: there is something to do in each turn
        loop.add_handler(near.fileno(), lambda *_: None, loop.READ)
        loop.call_later(0.01, lambda: rung.append(True))
        deadline = time.monotonic() + PATIENCE
        while not rung and time.monotonic() < deadline:
            loop.turn(wait=True)
        loop.remove_handler(near.fileno())
    assert rung == [True]


def test_a_handler_that_an_earlier_one_removed_is_not_called(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    fds = [near.fileno() for near, _ in pairs]
    called: list[int] = []

    def handler(fd: int, _: int) -> None:
        called.append(fd)
        for other in fds:
            loop.remove_handler(other)

    for fd, (_, far) in zip(fds, pairs, strict=True):
        loop.add_handler(fd, handler, loop.READ)
        far.close()  # trouble: readable, and hung up
    loop.turn(wait=True)
    assert len(called) == 1
    for near, _ in pairs:
        near.close()


def test_descriptors_beyond_what_select_can_watch(loop: Loop) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5000
    assert hard == resource.RLIM_INFINITY or hard > wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 100), hard))
    near, far = socket.socketpair()
    with near, far, socket.socket(fileno=fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, wanted)) as high:
        heard: list[int] = []
        loop.add_handler(high.fileno(), lambda fd, _: heard.append(fd), loop.READ)
        far.send(b"x")
        loop.turn(wait=True)
        assert heard == [high.fileno()]
        assert high.fileno() >= wanted
        loop.remove_handler(high.fileno())
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_signal_ends_no_wait_with_an_error(loop: Loop) -> None:
    """EINTR: Python begins the wait again."""
    rung: list[bool] = []
    loop.call_later(0.3, lambda: rung.append(True))
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        main = threading.main_thread().ident
        assert main is not None
        call = Call(lambda: [time.sleep(0.05), signal.pthread_kill(main, signal.SIGUSR1)])
        while not rung:
            loop.turn(wait=True)
        call.value()
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_a_connection_that_is_being_made_is_not_taken_for_made(loop: Loop) -> None:
    """To a server at some distance; pika asks the socket only whether there was an error."""
    services = SelectorIOServicesAdapter(loop)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:  # whoever comes now waits for a place
            filler.settimeout(0)
            filler.connect_ex(server.getsockname())
        late = socket.socket()
        late.settimeout(0)
        made: list[BaseException | None] = []
        services.connect_socket(late, server.getsockname(), made.append)
        for _ in range(10):
            loop.turn(wait=False)
        assert made == []
        for _ in fillers:
            server.accept()[0].close()
        deadline = time.monotonic() + PATIENCE
        while not made and time.monotonic() < deadline:
            loop.turn(wait=True)
        assert made == [None]
        for sock in (*fillers, late):
            sock.close()


def test_whoever_watches_a_descriptor_learns_of_its_trouble() -> None:
    """Else the loop would turn for ever at full speed, and nobody would know."""
    loop = Loop()
    ours, theirs = socket.socketpair()
    seen: list[tuple[int, int]] = []
    fd = ours.fileno()
    loop.add_handler(fd, lambda fd, events: seen.append((fd, events)), Loop.READ | Loop.WRITE)
    ours.close()
    theirs.close()
    loop.turn(wait=True)
    assert seen == [(fd, Loop.READ | Loop.WRITE)]
    loop.remove_handler(fd)
    loop.close()


def test_a_ring_is_heard_in_the_next_turn_and_once() -> None:
    loop = Loop()
    assert not _rings(loop)
    loop.add_callback(lambda: None)
    assert _rings(loop)
    loop.turn(wait=True)
    assert not _rings(loop)
    loop.close()


def _rings(loop: Loop) -> bool:
    readable, _, _ = select.select([loop._ear], [], [], 0)
    return bool(readable)
