"""Long lists in batches: all items, in order, within both limits."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.db.batches import batches, batches_by_size


@given(st.lists(st.integers()), st.integers(1, 10))
def test_batches_hold_all_items_in_order_and_only_the_last_is_short(items, most):
    made = list(batches(items, most))
    assert [item for batch in made for item in batch] == items
    assert all(len(batch) == most for batch in made[:-1])
    assert all(0 < len(batch) <= most for batch in made)


@given(st.lists(st.integers(0, 20)), st.integers(1, 5), st.integers(1, 30))
def test_batches_by_size_keep_to_both_limits_and_are_as_large_as_they_allow(sizes, most, limit):
    made = list(batches_by_size(((n, size) for n, size in enumerate(sizes)), most, limit))
    assert [item for batch in made for item in batch] == list(range(len(sizes)))
    for batch in made:
        assert 0 < len(batch) <= most
        assert len(batch) == 1 or sum(sizes[n] for n in batch) <= limit
    for batch, (following, *_) in itertools.pairwise(made):
        together = sum(sizes[n] for n in batch) + sizes[following]
        assert len(batch) == most or together > limit
