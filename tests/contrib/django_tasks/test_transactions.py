"""Tasks that are enqueued in nested blocks of transactions: exactly those of committed ones run."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.testing import memory_broker
from tests.support.examples import examples
from tests.support.some_tasks import add
from tests.support.task_workers import drained
from tests.support.transactions import Undo

# "task": one is enqueued. Else a block: how it ends, and what is inside.
Tree = list[Any]
ENDINGS = ("commits", "raises", "set_rollback")


def trees() -> st.SearchStrategy[Tree]:
    step = st.recursive(
        st.just("task"),
        lambda inner: st.tuples(st.sampled_from(ENDINGS), st.lists(inner, max_size=4)),
        max_leaves=12,
    )
    return st.lists(step, min_size=1, max_size=4)


class Runner:
    """Runs a tree on a database, and notes which tasks must run."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.enqueued: list[str] = []

    def run(self, tree: Tree) -> list[str]:
        """Return the ids of the tasks that are kept, as far as what is around them is."""
        kept: list[str] = []
        for step in tree:
            if step == "task":
                kept.append(add.enqueue(len(self.enqueued)).id)
                self.enqueued.append(kept[-1])
            else:
                kept += self._block(*step)
        return kept

    def _block(self, ending: str, tree: Tree) -> list[str]:
        kept: list[str] = []
        try:
            with transaction.atomic(using=self._database):
                kept = self.run(tree)
                if ending == "raises":
                    raise Undo
                if ending == "set_rollback":
                    transaction.set_rollback(True, using=self._database)
        except Undo:
            pass
        return kept if ending == "commits" else []


@pytest.mark.parametrize("delivery", ["outbox", "on_commit"])
@examples(100)
def test_exactly_the_committed_ones_run(
    configure: Any, store: str, delivery: str, examples: int
) -> None:
    configure(delivery=delivery)

    @hypothesis_settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(trees())
    def check(tree: Tree) -> None:
        TaskRecord.objects.using(store).all().delete()
        memory_broker().reset()
        expected = Runner(store).run(tree)
        messages = memory_broker().drain("tasks.default") if expected else []
        assert sorted(one.properties.message_id for one in messages) == sorted(expected)
        rows = TaskRecord.objects.using(store).values_list("id", flat=True)
        assert sorted(rows) == sorted(expected)

    check()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_worker_runs_them(configure: Any, store: str) -> None:
    expected = Runner(store).run(["task", ("commits", ["task", ("raises", ["task"]), "task"])])
    drained()
    finished = TaskRecord.objects.using(store).filter(status="SUCCESSFUL")
    assert sorted(finished.values_list("id", flat=True)) == sorted(expected)
    assert len(expected) == 3
