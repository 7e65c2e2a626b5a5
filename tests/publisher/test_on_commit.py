"""What leaves after commit: exactly what was committed, once, in order, as one pipeline."""

import logging
import threading
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, transaction
from django.db import connections as databases
from django.http import HttpResponse
from django.test import TestCase, TransactionTestCase
from django.urls import path

from rmq_publisher import (
    BrokerUnavailable,
    Message,
    connections,
    publish,
    publish_many,
    signals,
)
from rmq_publisher.models import OutboxMessage
from rmq_publisher.publisher import on_commit
from tests.support.publishing import LONG, bodies, now
from tests.support.rig.proxy import SilentPort, closed_port
from tests.support.transactions import HookError, Undo, rolled_back, undone

one = pytest.mark.django_db(transaction=True)


def raising():
    raise HookError


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

    monkeypatch.setattr(on_commit, "_announce", broken)
    with transaction.atomic():
        publish("x", queue=queue)
        transaction.on_commit(lambda: ran.append(1))
    assert ran == [1]
    [line] = [
        record.getMessage() for record in caplog.records if "on_commit" in record.getMessage()
    ]
    assert line.startswith("Error calling rmq_publisher.publish in on_commit()")
    assert "boom" in line


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


@one
@pytest.mark.parametrize("delivery", ["on_commit", "outbox"])
def test_with_autocommit_off_and_not_yet_connected_nothing_is_sent(
    rmq, amqp, monkeypatch, delivery
):
    """Django's own error stands, whether or not it has connected before."""
    queue = amqp.declare_queue()
    connection = databases["default"]
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    with pytest.raises(transaction.TransactionManagementError):
        publish("x", queue=queue, delivery=delivery)
    connection.close()
    monkeypatch.undo()
    assert bodies(amqp, queue) == []
    assert OutboxMessage.objects.count() == 0


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
