"""Any nesting of transactions, savepoints and hooks sends exactly what was committed."""

from collections import defaultdict

import pytest
from django.db import connections as databases
from django.db import transaction
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rmq_publisher import (
    publish,
    publish_many,
)
from tests.support.examples import examples
from tests.support.publishing import bodies
from tests.support.transactions import HookError, Undo

both = pytest.mark.django_db(transaction=True, databases=["default", "other"])

ALIASES = ("default", "other")
FOREIGN = ("fine", "publishes", "publishes in a block", "raises robustly", "raises")

publishes = st.tuples(st.just("publish"), st.integers(1, 3), st.booleans())
foreigns = st.tuples(st.just("hook"), st.sampled_from(FOREIGN), st.just(False))
endings = st.sampled_from(["commit", "commit", "raise", "rollback"])


endings = st.sampled_from(["commit", "commit", "raise", "rollback"])


def blocks(inside, aliases):
    what = st.tuples(st.sampled_from(aliases), st.booleans(), endings)
    return st.tuples(st.just("block"), what, st.lists(inside, max_size=5))


def by_hand(inside, aliases):
    what = st.tuples(st.sampled_from(aliases), st.booleans())
    return st.tuples(st.just("savepoint"), what, st.lists(inside, max_size=4))


def trees(aliases, hooks=foreigns):
    leaves = publishes | publishes | hooks
    inside = st.recursive(
        leaves, lambda inner: blocks(inner, aliases) | by_hand(inner, aliases), max_leaves=14
    )
    return st.lists(blocks(inside, aliases) | publishes, min_size=1, max_size=3)


class Model:
    """What Django says of nested blocks, savepoints and rollbacks, by itself."""

    def __init__(self):
        self.frames = defaultdict(list)  # by alias: [it has a savepoint (or is outermost), hooks]
        self.broken = defaultdict(bool)

    def open(self, alias, savepoint):
        frames = self.frames[alias]
        frames.append([not frames or (savepoint and not self.broken[alias]), []])

    def add(self, alias, hook):
        """Note a hook; whether it waits for a commit."""
        if not self.frames[alias]:
            return False
        self.frames[alias][-1][1].append(hook)
        return True

    def close_by_hand(self, alias, failing):
        """End a savepoint made by hand: Django keeps the hooks of others whatever becomes of it."""
        _, hooks = self.frames[alias].pop()
        if failing:
            hooks = [hook for hook in hooks if hook[0] != "ours"]
        self.frames[alias][-1][1].extend(hooks)

    def close(self, alias, failing):
        """End the innermost block; the hooks that run now, if it was the outermost."""
        real, hooks = self.frames[alias].pop()
        failing = failing or self.broken[alias]
        self.broken[alias] = failing and not real
        if failing and real:
            hooks = []
        if self.frames[alias]:
            self.frames[alias][-1][1].extend(hooks)
            return []
        return hooks


class Runner:
    """Executes a tree on Django and in the model, and compares what arrives."""

    def __init__(self, amqp, queue):
        self.amqp, self.queue = amqp, queue
        self.model = Model()
        self.numbers = iter(range(10**6))
        self.ran = []
        self.open = []  # aliases, innermost last

    def run(self, tree):
        for step in tree:
            self.step(step)
            assert not self.model.broken["default"]
            assert not self.model.broken["other"]

    def step(self, step):
        kind, what, more = step
        if kind == "publish":
            self.publish(what, named=more)
        elif kind == "hook":
            self.hook(what)
        elif kind == "savepoint":
            self.savepoint(*what, more)
        else:
            self.block(*what, more)

    def publish(self, how_many, named):
        # Always the alias that was opened first, so that inner blocks of the other do not matter.
        alias = self.open[0] if self.open else "default"
        numbers = [next(self.numbers) for _ in range(how_many)]
        options = {"queue": self.queue}
        if named or len(set(self.open)) > 1:
            options["database"] = alias
        if how_many == 1:
            publish(str(numbers[0]), **options)
        else:
            publish_many(map(str, numbers), **options)
        if not self.model.add(alias, ("ours", numbers)):
            assert bodies(self.amqp, self.queue) == [b"%d" % number for number in numbers]

    def hook(self, kind):
        if not self.open:
            return
        alias, number = self.open[-1], next(self.numbers)

        def called():
            self.ran.append(number)
            if kind == "publishes":
                publish(str(number), queue=self.queue, database=alias)
            elif kind == "publishes in a block":
                with transaction.atomic(using=alias):
                    publish(str(number), queue=self.queue, database=alias)
            elif kind.startswith("raises"):
                raise HookError

        transaction.on_commit(called, using=alias, robust=kind == "raises robustly")
        self.model.add(alias, (kind, [number]))

    def savepoint(self, alias, failing, inside):
        if alias not in self.open or self.model.broken[alias]:
            return
        connection = databases[alias]
        sid = connection.savepoint()
        self.model.open(alias, savepoint=True)
        for step in inside:
            self.step(step)
        if self.model.broken[alias]:
            failing = False  # nothing may be asked of the database until the block ends
        elif failing:
            connection.savepoint_rollback(sid)
        else:
            connection.savepoint_commit(sid)
        self.model.close_by_hand(alias, failing)

    def block(self, alias, savepoint, ending, inside):
        self.model.open(alias, savepoint)
        raised = False
        try:
            with transaction.atomic(using=alias, savepoint=savepoint):
                self.open.append(alias)
                for step in inside:
                    self.step(step)
                self.open.pop()
                outermost = alias not in self.open
                if ending == "rollback":
                    transaction.set_rollback(True, using=alias)
                elif ending == "raise":
                    raise Undo
        except Undo:
            pass
        except HookError:
            raised = True
        hooks = self.model.close(alias, failing=ending != "commit")
        if outermost:
            self.compare(hooks, raised)

    def compare(self, hooks, raised):
        kinds = [kind for kind, _ in hooks]
        assert raised == ("raises" in kinds)
        reached = hooks[: kinds.index("raises") + 1] if raised else hooks
        dropped = hooks[len(reached) :]
        # Once a hook of ours ran, those behind it may have left with it.
        may = dropped if "ours" in [kind for kind, _ in reached] else []
        assert self.ran == [number for kind, [number, *_] in reached if kind != "ours"]
        arrived = [int(body) for body in bodies(self.amqp, self.queue)]
        foreign = [number for kind, [number, *_] in reached if kind.startswith("publishes")]
        assert [number for number in arrived if number in foreign] == foreign
        ours = [number for number in arrived if number not in foreign]
        sure = [number for kind, numbers in reached if kind == "ours" for number in numbers]
        maybe = [number for kind, numbers in may if kind == "ours" for number in numbers]
        assert ours in (sure, sure + maybe)
        self.ran.clear()


@both
@examples(300)
def test_any_tree_of_blocks_sends_exactly_what_was_committed(rmq, amqp, examples):
    """exactly the committed ones arrive, once, in order within a transaction"""
    queue = amqp.declare_queue()

    @hypothesis_settings(max_examples=examples, deadline=None)
    @given(trees(ALIASES))
    def check(tree):
        Runner(amqp, queue).run(tree)

    check()


@pytest.mark.django_db(databases=["default", "other"])
@examples(150)
def test_any_tree_under_a_test_case_sends_each_once(
    rmq, amqp, django_capture_on_commit_callbacks, examples
):
    """``TestCase`` never commits: hooks run only under ``captureOnCommitCallbacks(execute=True)``"""
    queue = amqp.declare_queue()

    @hypothesis_settings(max_examples=examples, deadline=None)
    @given(trees(["default"], hooks=publishes))
    def check(tree):
        runner = Runner(amqp, queue)
        expected = []
        runner.compare = lambda hooks, _: expected.extend(hooks)
        runner.model.add = lambda alias, hook, add=runner.model.add: (
            add(alias, hook) or expected.append(hook) or True
        )
        with django_capture_on_commit_callbacks(execute=True) as callbacks:
            # Inside TestCase's own block every block is a savepoint, but for savepoint=False.
            runner.run([
                ("block", (alias, True, ending), inside)
                for kind, (alias, _, ending), inside in
                (step for step in tree if step[0] == "block")
            ])  # fmt: skip
        assert len(callbacks) == len(expected)
        numbers = [b"%d" % number for _, numbers in expected for number in numbers]
        assert bodies(amqp, queue) == numbers

    check()
