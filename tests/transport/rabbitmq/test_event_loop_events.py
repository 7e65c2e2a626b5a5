"""A descriptor in trouble is told to whoever watches it; a ring ends the wait."""

import select
import socket

from rmq_publisher.transport.rabbitmq.event_loop import Loop


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
