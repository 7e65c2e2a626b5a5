"""Delays: how long they are, and whose random numbers they take."""

import random

from rmq_publisher.timing import Backoff, jittered


def test_delays_double_up_to_the_cap_and_are_shortened_by_up_to_half() -> None:
    backoff = Backoff(first=1.0, cap=4.0)
    for longest in (1.0, 2.0, 4.0, 4.0):
        assert longest / 2 <= backoff.delay() <= longest
    backoff.reset()
    assert backoff.delay() <= 1.0
    assert 2.0 <= jittered(1.0, 4.0, doublings=1000) <= 4.0


def test_a_projects_seed_is_left_alone() -> None:
    """An I/O thread that draws from it would change what the project's own code draws."""
    before = random.getstate()
    Backoff().delay()
    jittered(1.0, 2.0, 1)
    assert random.getstate() == before
