"""What leaves after commit: exactly what was committed, once, in order, as one pipeline."""

import logging
import threading
import time
from collections import defaultdict
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, transaction
from django.db import connections as databases
from django.http import HttpResponse
from django.test import TestCase, TransactionTestCase
from django.urls import path
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rmq_publisher import (
    BrokerUnavailable,
    Message,
    QueueConfig,
    connections,
    publish,
    publish_many,
    signals,
)
from rmq_publisher.publisher import on_commit
from rmq_publisher.transport import delivery
from tests.publisher.test_publish import LONG, HoldAnswers, bodies, now, taken
from tests.support.rig.proxy import SilentPort, closed_port

both = pytest.mark.django_db(transaction=True, databases=["default", "other"])
one = pytest.mark.django_db(transaction=True)


class Undo(Exception):
    """Rolls a block back."""


class HookError(Exception):
    """What another app's commit hook raises."""


@pytest.fixture
def failed():
    """The errors that publish_failed told."""
    errors = []

    def receive(error, **_):
        errors.append(error)

    signals.publish_failed.connect(receive)
    yield errors
    signals.publish_failed.disconnect(receive)


def raising():
    raise HookError


@contextmanager
def undone():
    """A block that is rolled back by an exception at its end."""
    try:
        with transaction.atomic():
            yield
            raise Undo
    except Undo:
        pass


def rolled_back():
    """A savepoint that is rolled back: Django puts a new list of hooks in the place of the old."""
    with undone():
        pass


@contextmanager
def transaction_whose_hook_raises():
    """Django tells the error of a hook that is not robust; the commit stands."""
    with pytest.raises(HookError), transaction.atomic():
        yield


# -- one transaction --------------------------------------------------------------------------


@one
@pytest.mark.smoke
def test_nothing_leaves_before_the_commit_and_all_after_it_in_order(rmq, amqp):
    """sent after the transaction on ``database`` commits"""
    queue = amqp.declare_queue()
    with transaction.atomic():
        for n in range(10):
            publish(str(n), queue=queue)
        assert bodies(amqp, queue) == []
    assert bodies(amqp, queue) == [b"%d" % n for n in range(10)]


@one
@pytest.mark.smoke
def test_a_rolled_back_transaction_or_savepoint_sends_nothing(rmq, amqp):
    """Never a ghost: a message of a rolled-back transaction or savepoint is never sent."""
    queue = amqp.declare_queue()
    with undone():
        publish("ghost", queue=queue)
    with transaction.atomic():
        publish("before", queue=queue)
        with undone():
            publish("ghost", queue=queue)
            with transaction.atomic():
                publish("ghost", queue=queue)
        publish("after", queue=queue)
    with transaction.atomic():
        publish("ghost", queue=queue)
        transaction.set_rollback(True)
    assert bodies(amqp, queue) == [b"before", b"after"]


@one
def test_a_savepoint_rolled_back_after_the_last_publish(rmq, amqp):
    """The hooks then keep a stale list: its rolled-back ones must not be sent with them."""
    queue = amqp.declare_queue()
    with transaction.atomic():
        publish("1", queue=queue)
        publish("2", queue=queue)
        with undone():
            publish("ghost", queue=queue)
    assert bodies(amqp, queue) == [b"1", b"2"]


@one
def test_savepoints_made_by_hand(rmq, amqp):
    """Savepoints rolled back take their messages with them. (Django's own hooks outlive these.)"""
    queue = amqp.declare_queue()
    connection = transaction.get_connection()
    with transaction.atomic():
        publish("1", queue=queue)
        savepoint = connection.savepoint()
        publish("ghost", queue=queue)
        inner = connection.savepoint()
        publish_many(["ghost"], queue=queue)
        with transaction.atomic():
            publish("ghost", queue=queue)
        connection.savepoint_commit(inner)
        transaction.savepoint_rollback(savepoint)
        publish("2", queue=queue)
        kept = connection.savepoint()
        publish("3", queue=queue)
        transaction.savepoint_commit(kept)
        last = connection.savepoint()
        with transaction.atomic():
            publish("ghost", queue=queue)
        transaction.savepoint_rollback(last)
    assert bodies(amqp, queue) == [b"1", b"2", b"3"]


@one
def test_a_savepoint_made_by_hand_twice_rolled_back_and_the_counter_reset(rmq, amqp):
    queue = amqp.declare_queue()
    connection = transaction.get_connection()
    with transaction.atomic():
        savepoint = connection.savepoint()
        for _ in range(2):
            publish("ghost", queue=queue)
            transaction.savepoint_rollback(savepoint)
        for _ in range(3):
            connection.savepoint()
        publish("1", queue=queue)
        transaction.clean_savepoints()
        savepoint = connection.savepoint()  # with the number of an older one
        transaction.savepoint_rollback(savepoint)
    assert bodies(amqp, queue) == [b"1"]


@one
def test_the_commit_is_seen_by_others_when_the_message_leaves(rmq, amqp):
    """A consumer that is quick finds the row."""
    queue = amqp.declare_queue()
    seen = []

    def look():
        seen.append(User.objects.filter(username="ann").exists())
        databases.close_all()

    def receive(**_):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(LONG)

    signals.message_published.connect(receive)
    try:
        with transaction.atomic():
            User.objects.create(username="ann")
            publish("x", queue=queue)
    finally:
        signals.message_published.disconnect(receive)
    assert seen == [True]


@one
def test_a_commit_that_the_database_refuses_sends_nothing(rmq, amqp):
    queue = amqp.declare_queue()

    def create():
        with transaction.atomic():
            # The foreign key is checked when the transaction ends.
            Permission.objects.create(name="x", codename="x", content_type_id=10**6)
            publish("ghost", queue=queue)

    with pytest.raises(IntegrityError):
        create()
    publish("next", queue=queue)
    assert bodies(amqp, queue) == [b"next"]


@one
def test_a_durable_block(rmq, amqp):
    queue = amqp.declare_queue()
    with transaction.atomic(durable=True):
        publish("x", queue=queue)
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic(durable=True):
            pass
    assert bodies(amqp, queue) == [b"x"]


@one
def test_one_hook_for_each_call_at_the_end_of_the_list(rmq, amqp):
    """Never insert into the list: it breaks ``captureOnCommitCallbacks``."""
    queue = amqp.declare_queue()
    with transaction.atomic():
        hooks = transaction.get_connection().run_on_commit
        transaction.on_commit(hook := lambda: None)
        for n in range(3):
            publish("x", queue=queue)
            assert len(hooks) == n + 2
        publish_many(["x", "y"], queue=queue)
        rolled_back()
        publish("x", queue=queue)
        hooks = transaction.get_connection().run_on_commit
        assert len(hooks) == 6
        assert hooks[0][1] is hook
        assert all(robust for _, _, robust in hooks[1:])


# -- other apps' hooks ------------------------------------------------------------------------


@one
def test_a_hook_that_raises_after_ours_takes_nothing_back(rmq, amqp):
    queue = amqp.declare_queue()
    with transaction_whose_hook_raises():
        publish("x", queue=queue)
        transaction.on_commit(raising)
    assert bodies(amqp, queue) == [b"x"]


@one
def test_a_hook_that_raises_before_ours_drops_them_as_django_does(rmq, amqp):
    """an earlier non-robust commit hook that raises (Django then drops ours)"""
    queue = amqp.declare_queue()
    with transaction_whose_hook_raises():
        transaction.on_commit(raising)
        publish("dropped", queue=queue)
    with transaction.atomic():
        transaction.on_commit(raising, robust=True)
        publish("robust", queue=queue)
    assert bodies(amqp, queue) == [b"robust"]


@one
def test_a_hook_that_raises_among_ours_finds_them_gone(rmq, amqp):
    """Several messages published in one transaction leave as one pipelined batch after commit"""
    queue = amqp.declare_queue()
    with transaction_whose_hook_raises():
        publish("1", queue=queue)
        transaction.on_commit(raising)
        publish("2", queue=queue)
    assert bodies(amqp, queue) == [b"1", b"2"]


@one
def test_on_a_stale_list_a_hook_that_raises_drops_what_is_behind_it(rmq, amqp):
    """the list is a stale one that may hold rolled-back hooks, and it sends only its own"""
    queue = amqp.declare_queue()
    with transaction_whose_hook_raises():
        publish("1", queue=queue)
        transaction.on_commit(raising)
        publish("2", queue=queue)
        rolled_back()
    assert bodies(amqp, queue) == [b"1"]


@one
def test_other_hooks_run_once_each_and_in_their_order(rmq, amqp):
    queue = amqp.declare_queue()
    ran = []
    with transaction.atomic():
        for n in range(5):
            transaction.on_commit(lambda n=n: ran.append(n), robust=n % 2 == 0)
            publish(str(n), queue=queue)
    assert ran == [0, 1, 2, 3, 4]
    assert bodies(amqp, queue) == [b"%d" % n for n in range(5)]


@one
def test_publishing_inside_a_commit_hook(rmq, amqp):
    """at once when there is none: the transaction is over when its hooks run"""
    queue = amqp.declare_queue()

    def hook():
        publish("in the hook", queue=queue)
        assert b"in the hook" in bodies(amqp, queue)
        with transaction.atomic():
            publish("in a block in the hook", queue=queue)
            publish("another", queue=queue)
        with undone():
            publish("ghost", queue=queue)

    with transaction.atomic():
        transaction.on_commit(hook)
        publish("after", queue=queue)
    assert bodies(amqp, queue) == [b"in a block in the hook", b"another", b"after"]


@one
def test_a_hook_of_ours_that_breaks_is_logged_and_stops_nobody(rmq, amqp, monkeypatch, caplog):
    """robust: should a hook of ours raise all the same, those of others must still run

    On Django 6 a robust hook is named by its ``__qualname__`` when it raises.
    """
    queue = amqp.declare_queue()
    ran = []

    def broken(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(on_commit, "Batch", broken)
    with transaction.atomic():
        publish("x", queue=queue)
        transaction.on_commit(lambda: ran.append(1))
    assert ran == [1]
    [line] = [
        record.getMessage() for record in caplog.records if "on_commit" in record.getMessage()
    ]
    assert line.startswith("Error calling rmq_publisher.publish in on_commit()")
    assert "boom" in line


# -- trees ------------------------------------------------------------------------------------

ALIASES = ("default", "other")
FOREIGN = ("fine", "publishes", "publishes in a block", "raises robustly", "raises")

publishes = st.tuples(st.just("publish"), st.integers(1, 3), st.booleans())
foreigns = st.tuples(st.just("hook"), st.sampled_from(FOREIGN), st.just(False))
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
def test_any_tree_of_blocks_sends_exactly_what_was_committed(rmq, amqp):
    """exactly the committed ones arrive, once, in order within a transaction"""
    queue = amqp.declare_queue()

    @hypothesis_settings(max_examples=300, deadline=None)
    @given(trees(ALIASES))
    def check(tree):
        Runner(amqp, queue).run(tree)

    check()


@pytest.mark.django_db(databases=["default", "other"])
def test_any_tree_under_a_test_case_sends_each_once(rmq, amqp, django_capture_on_commit_callbacks):
    """``TestCase`` never commits: hooks run only under ``captureOnCommitCallbacks(execute=True)``"""
    queue = amqp.declare_queue()

    @hypothesis_settings(max_examples=150, deadline=None)
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


# -- under TestCase ---------------------------------------------------------------------------


class UnderTestCase(TestCase):
    databases = frozenset({"default", "other"})

    @pytest.fixture(autouse=True)
    def _broker(self, rmq, amqp, failed):
        self.settings, self.amqp, self.failed = rmq, amqp, failed
        self.queue = amqp.declare_queue()

    @classmethod
    def setUpTestData(cls):
        User.objects.create(username="ann")

    def test_without_capture_nothing_leaves(self):
        publish("x", queue=self.queue)
        with transaction.atomic():
            publish("y", queue=self.queue)
        assert bodies(self.amqp, self.queue) == []

    def test_each_capture_sends_its_own_once(self):
        publish("before any", queue=self.queue)
        for n in range(3):
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                publish(f"{n}a", queue=self.queue)
                with transaction.atomic():
                    publish(f"{n}b", queue=self.queue)
                with undone():
                    publish("ghost", queue=self.queue)
            assert len(callbacks) == 2
            assert bodies(self.amqp, self.queue) == [b"%da" % n, b"%db" % n]

    def test_a_later_capture_has_a_deadline_of_its_own(self):
        """All hooks stay on one list here: what was lost before must not end what is sent now."""
        good = self.settings.RMQ_URL
        with SilentPort() as silent:
            self.settings.RMQ_URL = silent.url
            with self.captureOnCommitCallbacks(execute=True):
                publish("lost", queue=self.queue, timeout=0.3)
            connections["default"].close(0)
        self.settings.RMQ_URL = good
        with self.captureOnCommitCallbacks(execute=True):
            publish("x", queue=self.queue)
        assert len(self.failed) == 1
        assert bodies(self.amqp, self.queue) == [b"x"]

    def test_callbacks_may_be_called_by_hand_and_again(self):
        with self.captureOnCommitCallbacks() as callbacks:
            publish("1", queue=self.queue)
            publish_many(["2", "3"], queue=self.queue)
        assert bodies(self.amqp, self.queue) == []
        for callback in (*callbacks, *callbacks):
            callback()
        assert bodies(self.amqp, self.queue) == [b"1", b"2", b"3"]

    def test_a_hook_that_publishes_inside_a_capture(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            publish("1", queue=self.queue)
            transaction.on_commit(lambda: publish("2", queue=self.queue))
            publish("3", queue=self.queue)
        assert len(callbacks) == 4
        assert bodies(self.amqp, self.queue) == [b"1", b"3", b"2"]

    def test_nested_captures_and_the_other_database(self):
        with (
            self.captureOnCommitCallbacks(using="other", execute=True) as of_other,
            self.captureOnCommitCallbacks(execute=True) as of_default,
        ):
            publish("default", queue=self.queue)
            publish("other", queue=self.queue, database="other")
        assert (len(of_default), len(of_other)) == (1, 1)
        assert bodies(self.amqp, self.queue) == [b"default", b"other"]


class UnderTransactionTestCase(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def _broker(self, rmq, amqp):
        self.amqp = amqp
        self.queue = amqp.declare_queue()

    def test_commits_are_real(self):
        with transaction.atomic():
            publish("x", queue=self.queue)
        assert bodies(self.amqp, self.queue) == [b"x"]


# -- requests ---------------------------------------------------------------------------------


def view(request):
    User.objects.create(username="ann")
    publish("x", queue=request.GET["queue"])
    if "fail" in request.GET:
        raise Undo
    return HttpResponse("created", status=201)


urlpatterns = [path("", view)]


@pytest.fixture
def requests(settings, client, monkeypatch):
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(databases.settings["default"], "ATOMIC_REQUESTS", True)
    client.raise_request_exception = False
    return client


@one
@pytest.mark.smoke
def test_a_request_that_succeeds_sends_and_one_that_raises_does_not(rmq, amqp, requests):
    queue = amqp.declare_queue()
    assert requests.get("/", {"queue": queue, "fail": ""}).status_code == 500
    assert bodies(amqp, queue) == []
    assert not User.objects.exists()
    assert requests.get("/", {"queue": queue}).status_code == 201
    assert bodies(amqp, queue) == [b"x"]
    assert User.objects.exists()


@one
@pytest.mark.parametrize("what", ["no broker", "no queue"])
def test_a_view_never_sees_a_brokers_error(rmq, amqp, requests, failed, what):
    """the view never sees a broker error"""
    if what == "no broker":
        rmq.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}/"
    assert requests.get("/", {"queue": amqp.names.unique()}).status_code == 201
    assert User.objects.exists()
    assert len(failed) == 1


# -- threads ----------------------------------------------------------------------------------


@one
def test_the_transactions_of_threads_do_not_mix(rmq, amqp):
    queue = amqp.declare_queue()
    expected, errors = set(), []

    def work(name):
        try:
            for n in range(10):
                try:
                    with transaction.atomic():
                        for m in range(3):
                            publish(f"{name} {n} {m}", queue=queue)
                        if (name + n) % 3 == 0:
                            raise Undo
                except Undo:
                    continue
                expected.update(f"{name} {n} {m}".encode() for m in range(3))
        except Exception as error:
            errors.append(error)
        finally:
            databases.close_all()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert errors == []
    arrived = bodies(amqp, queue)
    assert sorted(arrived) == sorted(expected)
    for name in range(6):
        own = [body for body in arrived if body.startswith(b"%d " % name)]
        assert own == sorted(own)


# -- one pipeline -----------------------------------------------------------------------------


def in_one_transaction(how, queue):
    with transaction.atomic():
        if how == "after a savepoint's rollback":
            publish("0", queue=queue)
            rolled_back()
        for n in range(how == "after a savepoint's rollback", 100):
            if how == "in nested blocks":
                with transaction.atomic():
                    publish(str(n), queue=queue)
            elif how == "among other hooks":
                transaction.on_commit(lambda: None)
                publish(str(n), queue=queue)
            else:
                publish(str(n), queue=queue)


@one
@pytest.mark.parametrize(
    "how", ["plainly", "in nested blocks", "among other hooks", "after a savepoint's rollback"]
)
def test_a_hundred_messages_leave_as_one_pipeline(rmq, amqp, proxy, failed, how):
    """Several messages published in one transaction leave as one pipelined batch after commit

    No answer comes before the hundredth has left: sent one by one they would wait for ever.
    """
    rmq.RMQ_URL, rmq.RMQ_MAX_IN_FLIGHT = proxy.url, 100
    queue = amqp.declare_queue()
    now("first", queue=queue)  # the first on a connection goes alone
    held = proxy._arm(HoldAnswers(100))
    in_one_transaction(how, queue)
    assert failed == []
    assert held.hits == 1
    assert bodies(amqp, queue) == [b"first", *(b"%d" % n for n in range(100))]


@one
def test_a_hundred_messages_take_about_two_round_trips_with_the_usual_window(
    rmq, amqp, proxy, failed
):
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now("first", queue=queue)
    proxy.delay_acks(0.4)
    started = time.monotonic()
    in_one_transaction("plainly", queue)
    assert 0.4 < time.monotonic() - started < 10  # one by one: 40 s, and failures after 5
    assert failed == []


@one
def test_single_ones_and_many_and_several_queues_share_the_pipeline(rmq, amqp, proxy, failed):
    rmq.RMQ_URL = proxy.url
    queues = [amqp.declare_queue() for _ in range(3)]
    declared = QueueConfig(amqp.names.queue())
    now("first", queue=queues[0])
    held = proxy._arm(HoldAnswers(7))
    with transaction.atomic():
        for queue in queues:
            publish("a", queue=queue)
        publish_many(["b", Message("c", priority=1)], queue=queues[1])
        publish_many(["d", "e"], queue=declared)
    assert (failed, held.hits) == ([], 1)
    assert bodies(amqp, queues[1]) == [b"a", b"b", b"c"]
    assert bodies(amqp, declared.name) == [b"d", b"e"]


@one
def test_each_connection_has_a_pipeline_of_its_own(rmq, amqp, proxy, failed):
    rmq.RMQ_CONNECTIONS = {"events": {"URL": proxy.url}}
    queue, other = amqp.declare_queue(), amqp.declare_queue()
    now("first", queue=other, using="events")
    held = proxy._arm(HoldAnswers(10))
    with transaction.atomic():
        for n in range(10):
            publish(str(n), queue=queue, using="default")
            publish(str(n), queue=other, using="events")
    assert (failed, held.hits) == ([], 1)
    assert bodies(amqp, queue) == [b"%d" % n for n in range(10)]
    assert bodies(amqp, other) == [b"first", *(b"%d" % n for n in range(10))]


@one
@pytest.mark.parametrize("dead", ["refuses", "is silent"])
def test_a_dead_connection_takes_no_other_with_it(rmq, amqp, failed, dead):
    queue = amqp.declare_queue()
    with SilentPort() as silent:
        url = silent.url if dead == "is silent" else f"amqp://127.0.0.1:{closed_port()}/"
        rmq.RMQ_CONNECTIONS = {"a-dead-one": {"URL": url, "PUBLISH_TIMEOUT": 2}}
        with transaction.atomic():
            for n in range(5):
                publish("lost", queue="q", using="a-dead-one", message_id=f"lost-{n}")
                publish(str(n), queue=queue, using="default", timeout=2)
        connections["a-dead-one"].close(0)
    assert bodies(amqp, queue) == [b"%d" % n for n in range(5)]
    assert [error.message_id for error in failed] == [f"lost-{n}" for n in range(5)]


@one
@pytest.mark.parametrize("way", ["before", "after"])
def test_a_connection_lost_in_the_middle_loses_nothing(rmq, amqp, proxy, failed, way):
    """A duplicate carries the same ``message_id``."""
    rmq.RMQ_URL = proxy.url
    queue = amqp.declare_queue()
    now("first", queue=queue)
    fault = proxy.cut_before_publish(50) if way == "before" else proxy.cut_after_publish(50)
    in_one_transaction("plainly", queue)
    assert (failed, fault.hits) == ([], 1)
    arrived = taken(amqp, queue)
    ids = {message.body: message.properties.message_id for message in arrived}
    assert list(ids) == [b"first", *(b"%d" % n for n in range(100))]
    assert len(set(ids.values())) == 101
    assert all(message.properties.message_id == ids[message.body] for message in arrived)


@one
def test_one_id_to_two_queues_in_one_transaction(rmq, amqp, failed):
    """The same ``message_id`` twice in flight: one event may go to two queues."""
    queues = [amqp.declare_queue() for _ in range(2)]
    with transaction.atomic():
        for queue in queues:
            publish("x", queue=queue, message_id="event")
            publish("y", queue=queue)
    assert failed == []
    for queue in queues:
        first, second = taken(amqp, queue)
        assert {first.body, second.body} == {b"x", b"y"}
        assert "event" in (first.properties.message_id, second.properties.message_id)


# -- one deadline -----------------------------------------------------------------------------


@one
@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("what", ["silent port", "no answers"])
def test_all_hooks_of_one_commit_share_one_deadline(rmq, amqp, proxy, failed, what, stale):
    """All hooks of one commit share one deadline: not one for each, also on a stale list, where each
    sends its own."""
    rmq.RMQ_CONNECT_TIMEOUT, rmq.RMQ_PUBLISH_TIMEOUT = LONG, 0.5
    queue = amqp.declare_queue()
    with SilentPort() as silent:
        if what == "silent port":
            rmq.RMQ_URL = silent.url
        else:
            rmq.RMQ_URL = proxy.url
            now("first", queue=queue, timeout=LONG)
            proxy.swallow_acks(None)
        started = time.monotonic()
        with transaction.atomic():
            for n in range(100):
                publish(str(n), queue=queue, message_id=str(n))
            if stale:
                rolled_back()
        took = time.monotonic() - started
        connections["default"].close(0)
    assert took < 10  # 50 s if each had its own
    assert [error.message_id for error in failed] == [str(n) for n in range(100)]
    assert all(error.retryable for error in failed)


@one
@pytest.mark.parametrize("stale", [False, True])
def test_the_time_of_other_apps_hooks_is_not_taken_from_ours(
    rmq, amqp, failed, monkeypatch, stale
):
    """Shared are the seconds that they wait, not those of slow hooks in between."""
    queue = amqp.declare_queue()
    passed = []
    clock = lambda: time.monotonic() + sum(passed)  # noqa: E731
    monkeypatch.setattr(on_commit, "monotonic", clock)
    monkeypatch.setattr(delivery, "monotonic", clock)
    with transaction.atomic():
        for n in range(3):
            publish(str(n), queue=queue)
            transaction.on_commit(lambda: passed.append(1000))
        if stale:
            rolled_back()
    assert (failed, len(passed)) == ([], 3)
    assert bodies(amqp, queue) == [b"0", b"1", b"2"]


@one
def test_the_next_transaction_has_a_deadline_of_its_own(rmq, amqp, proxy, failed):
    rmq.RMQ_URL, rmq.RMQ_PUBLISH_TIMEOUT = proxy.url, 0.5
    queue = amqp.declare_queue()
    now("first", queue=queue, timeout=LONG)
    swallowed = proxy.swallow_acks(None)
    with transaction.atomic():
        publish("lost", queue=queue)
    assert len(failed) == 1
    swallowed.disarm()
    rmq.RMQ_PUBLISH_TIMEOUT = LONG
    with transaction.atomic():
        publish("next", queue=queue)
    assert len(failed) == 1


@one
def test_many_in_a_transaction_are_bounded_by_their_progress(rmq, amqp, proxy, failed):
    """for ``publish_many`` it bounds the time without progress"""
    rmq.RMQ_URL, rmq.RMQ_MAX_IN_FLIGHT = proxy.url, 1
    queue = amqp.declare_queue()
    now("first", queue=queue)
    proxy.delay_acks(0.3)
    with transaction.atomic():
        publish_many([str(n) for n in range(5)], queue=queue, timeout=0.9)
    assert failed == []
    assert len(bodies(amqp, queue)) == 6


# -- no transaction ---------------------------------------------------------------------------


def test_at_once_needs_no_database(rmq, amqp):
    """at once when there is none: this test may not use the database, and another may have"""
    queue = amqp.declare_queue()
    publish("x", queue=queue)
    publish_many(["y", "z"], queue=queue, database="other")
    assert bodies(amqp, queue) == [b"x", b"y", b"z"]


@one
def test_at_once_takes_nobody_along(rmq, amqp):
    """Django keeps hooks of a block with autocommit off, until a commit that it sees."""
    queue = amqp.declare_queue()
    transaction.set_autocommit(False)
    with transaction.atomic():
        publish("waits", queue=queue)
    transaction.get_connection().connection.rollback()  # behind Django's back
    transaction.set_autocommit(True)
    publish("at once", queue=queue)
    assert bodies(amqp, queue) == [b"at once"]
    transaction.rollback()


@one
def test_with_autocommit_off_a_block_waits_for_the_commit_that_django_sees(rmq, amqp):
    queue = amqp.declare_queue()
    transaction.set_autocommit(False)
    with transaction.atomic():
        publish("x", queue=queue)
    assert bodies(amqp, queue) == []
    transaction.commit()
    transaction.set_autocommit(True)
    assert bodies(amqp, queue) == [b"x"]


# -- failing ----------------------------------------------------------------------------------


@one
def test_a_failure_is_one_line_and_one_signal_and_no_exception(rmq, amqp, failed, caplog):
    """when sending fails: a log line, the ``publish_failed`` signal"""
    missing, secret = amqp.names.unique(), "s3cr3t-value"
    with caplog.at_level(logging.DEBUG), transaction.atomic():
        message_id = publish(secret, queue=missing, headers={"h": secret})
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (record.name, record.levelname) == ("rmq_publisher", "ERROR")
    line = record.getMessage()
    for told in (message_id, missing, f"{len(secret)} bytes", "Rejected", "404"):
        assert told in line
    assert secret not in caplog.text
    [error] = failed
    assert (error.message_id, error.reply_code) == (message_id, 404)


@one
def test_outside_a_transaction_a_failure_is_no_exception_either(rmq, amqp, failed):
    publish("x", queue=amqp.names.unique())
    publish_many(["x", "y"], queue=amqp.names.unique())
    assert len(failed) == 3


@one
def test_only_what_failed_is_told(rmq, amqp, failed, caplog):
    queue = amqp.declare_queue()
    with transaction.atomic():
        publish("1", queue=queue)
        publish("2", routing_key=amqp.names.unique(), message_id="lost")
        publish_many(
            ["3", Message("4", routing_key="nowhere", message_id="gone")], routing_key=queue
        )
    assert bodies(amqp, queue) == [b"1", b"3"]
    assert [error.message_id for error in failed] == ["lost", "gone"]
    assert [record.levelname for record in caplog.records].count("ERROR") == 2


@one
def test_at_exit_when_no_thread_can_be_started(rmq, failed, caplog, monkeypatch):
    """Python 3.12 cannot start a thread in ``atexit``: a first publish there must fail at once."""

    def submit(*_):
        raise BrokerUnavailable("no connection: the interpreter is shutting down")

    monkeypatch.setattr(type(connections["default"]), "submit", submit)
    with transaction.atomic():
        publish("x", queue="q", message_id="1")
        publish_many([Message("y", message_id="2"), Message("z", message_id="3")], queue="q")
    with pytest.raises(BrokerUnavailable, match="shutting down"):
        now("x", queue="q", message_id="4")
    assert [error.message_id for error in failed] == ["1", "2", "3", "4"]
    assert {type(error) for error in failed} == {BrokerUnavailable}
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == (
        ["rmq_publisher"] * 3
    )
