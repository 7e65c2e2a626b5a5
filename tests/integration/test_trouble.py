"""`publish()` with a step of its way made to fail: one outcome each, nothing lost without a line."""

import errno
import logging
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    transaction,
)
from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher import BrokerUnavailable, connections, publish, publish_many, signals
from rmq_publisher.outbox import transitions
from rmq_publisher.transport import handler
from tests.support.rig.amqp import Amqp

pytestmark = pytest.mark.django_db(transaction=True)


class StrangeError(Exception):
    """Of no class that anybody foresees."""


class Once:
    """Raises an error at the first call, or at the first few."""

    def __init__(self, error: BaseException, times: int = 1) -> None:
        self.error = error
        self.left = times

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise self.error


NOBODY = "amqp://guest:guest@127.0.0.1:9/"  # nobody answers there
FILES = OSError(errno.EMFILE, "Too many open files")
ON_THE_WAY = [
    FILES,
    OSError(errno.ENOBUFS, "No buffer space available"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    PermissionError(errno.EPERM, "Operation not permitted"),
    TimeoutError("timed out"),
    socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ssl.SSLError(1, "unexpected eof"),
    MemoryError(),
    RuntimeError("can't start new thread"),
    ValueError("bad"),
    StrangeError("strange"),
]


def breaking_socket(call: str) -> Callable[[pytest.MonkeyPatch, Once], None]:
    """One call on the sockets to the broker fails."""

    def apply(patch: pytest.MonkeyPatch, fail: Once) -> None:
        class Socket(socket.socket):
            pass

        def failing(self: socket.socket, *args: Any) -> Any:
            if self.family == socket.AF_INET:
                fail()
            return getattr(super(Socket, self), call)(*args)

        setattr(Socket, call, failing)
        patch.setattr(socket, "socket", Socket)

    return apply


def breaking(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch, Once], None]:
    """A function fails."""

    def apply(patch: pytest.MonkeyPatch, fail: Once) -> None:
        real = getattr(owner, name)

        def failing(*args: Any, **options: Any) -> Any:
            fail()
            return real(*args, **options)

        patch.setattr(owner, name, failing)

    return apply


def breaking_socket_itself(patch: pytest.MonkeyPatch, fail: Once) -> None:
    class Socket(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **options: Any) -> None:
            if family == socket.AF_INET and not options.get("fileno") and len(args) < 3:
                fail()
            super().__init__(family, *args, **options)

    patch.setattr(socket, "socket", Socket)


def breaking_poll(call: str) -> Callable[[pytest.MonkeyPatch, Once], None]:
    """The poll object of the I/O thread fails."""
    real = select.poll

    class Poll:
        def __init__(self, fail: Once) -> None:
            self.fail = fail
            self.real = real()

        def __getattr__(self, name: str) -> Any:
            if name == call:
                self.fail()
            return getattr(self.real, name)

    def apply(patch: pytest.MonkeyPatch, fail: Once) -> None:
        patch.setattr(select, "poll", lambda: Poll(fail))

    return apply


SITES = {
    "socketpair": breaking(socket, "socketpair"),
    "poll object": breaking(select, "poll"),
    "thread start": breaking(threading.Thread, "start"),
    "getaddrinfo": breaking(socket, "getaddrinfo"),
    "socket": breaking_socket_itself,
    "setsockopt": breaking_socket("setsockopt"),
    "connect": breaking_socket("connect"),
    "poll": breaking_poll("poll"),
    "register": breaking_poll("register"),
    "send": breaking_socket("send"),
    "recv": breaking_socket("recv"),
}
# A system call raises errors of the system; memory and threads may end anywhere.
WAYS = [
    pytest.param(site, error, id=f"{site}-{type(error).__name__}-{error}")
    for site in SITES
    for error in ON_THE_WAY
]


@pytest.fixture
def told() -> Iterator[list[tuple[str, bool | None]]]:
    """Each outcome that a signal told: the message's id, and whether it is sent again (None: it was)."""
    heard: list[tuple[str, bool | None]] = []

    def published(message_id: str, **_: Any) -> None:
        heard.append((message_id, None))

    def failed(message_id: str, will_retry: bool, **_: Any) -> None:
        heard.append((message_id, will_retry))

    signals.message_published.connect(published)
    signals.publish_failed.connect(failed)
    yield heard
    signals.message_published.disconnect(published)
    signals.publish_failed.disconnect(failed)


def stored() -> list[str]:
    return list(transitions.messages("default").values_list("message_id", flat=True))


def one_outcome(ids: list[str], told: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Each message was confirmed, or is a row, or has a line that says that it is lost."""
    assert sorted(id_ for id_, _ in told) == sorted(ids)
    lost = [one.getMessage() for one in caplog.records if one.levelno == logging.CRITICAL]
    for id_, again in told:
        assert (id_ in stored()) == (again is True)
        assert any(id_ in line for line in lost) == (again is False)


@pytest.mark.parametrize(("site", "error"), WAYS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_trouble_on_the_way_to_the_broker(
    rmq: Any, amqp: Amqp, told: list[Any], caplog: Any, site: str, error: BaseException
) -> None:
    queue = amqp.declare_queue()
    rmq.RMQ_PUBLISH_TIMEOUT = 2.0
    connections.close()
    with pytest.MonkeyPatch.context() as patch:
        fail = Once(error)
        SITES[site](patch, fail)
        with transaction.atomic():
            first = publish("1", routing_key=queue)
        assert fail.left == 0
    connections.close()
    second = publish_many(["2", "3"], routing_key=queue)
    one_outcome([first, *second], told, caplog)
    assert [(id_, again) for id_, again in told if id_ != first] == [(id_, None) for id_ in second]
    sent = {id_ for id_, again in told if again is None}
    assert sent <= {one.properties.message_id for one in amqp.drain(queue, len(sent))}


def breaking_cursor(patch: pytest.MonkeyPatch, fail: Once) -> None:
    real = BaseDatabaseWrapper.cursor

    class Cursor:
        def __init__(self, cursor: Any) -> None:
            self.cursor = cursor

        def __getattr__(self, name: str) -> Any:
            return getattr(self.cursor, name)

        def __enter__(self) -> Any:
            self.cursor.__enter__()
            return self

        def __exit__(self, *error: object) -> Any:
            return self.cursor.__exit__(*error)

        def __iter__(self) -> Any:
            return iter(self.cursor)

        def execute(self, sql: str, params: Any = None) -> Any:
            if sql.startswith("INSERT"):
                fail()
            return self.cursor.execute(sql, params)

    patch.setattr(BaseDatabaseWrapper, "cursor", lambda self: Cursor(real(self)))


AT_THE_DATABASE = {
    "connect": breaking(BaseDatabaseWrapper, "connect"),
    "begin": breaking(BaseDatabaseWrapper, "set_autocommit"),
    "insert": breaking_cursor,
    "commit": breaking(BaseDatabaseWrapper, "commit"),
}
DATABASE_ERRORS = [
    OperationalError("gone away"),
    InterfaceError("closed"),
    DatabaseError("refused"),
    ProgrammingError("no such table"),
    IntegrityError("twice"),
    ImproperlyConfigured("no ENGINE"),
    FILES,
    MemoryError(),
    RuntimeError("can't start new thread"),
    KeyError("k"),
    StrangeError("strange"),
]


@pytest.mark.parametrize("times", [1, 100], ids=["once", "always"])
@pytest.mark.parametrize("error", DATABASE_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("site", AT_THE_DATABASE)
def test_trouble_on_the_way_to_the_table(
    settings: Any, told: list[Any], caplog: Any, site: str, error: Exception, times: int
) -> None:
    settings.RMQ_URL = NOBODY
    databases["default"].close()
    with pytest.MonkeyPatch.context() as patch:
        AT_THE_DATABASE[site](patch, Once(error, times))
        id_ = publish("x", routing_key="q")
    databases["default"].close()
    if site == "commit" and told == [(id_, False)]:
        return  # whether it was committed is unknown: the line says "lost" rather than nothing
    one_outcome([id_], told, caplog)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_wait_stores_what_was_committed(
    settings: Any, told: list[Any], caplog: Any, monkeypatch: Any, interrupt: type[BaseException]
) -> None:
    """As Ctrl-C, gunicorn's timeout or a soft time limit end it."""
    settings.RMQ_URL = NOBODY
    real = threading.Event.wait

    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        monkeypatch.setattr(threading.Event, "wait", real)
        raise interrupt

    monkeypatch.setattr(threading.Event, "wait", wait)
    with pytest.raises(interrupt):
        publish("x", routing_key="q")
    [(id_, again)] = told
    assert again
    assert stored() == [id_]


def test_no_descriptor_left_is_told_in_the_systems_words(
    settings: Any, told: list[Any], monkeypatch: Any
) -> None:
    settings.RMQ_URL = NOBODY
    SITES["socketpair"](monkeypatch, Once(FILES))
    with pytest.raises(BrokerUnavailable, match="no connection 'default': Too many open files"):
        publish("x", routing_key="q", delivery="now")


@pytest.mark.parametrize("in_transaction", [True, False])
def test_no_descriptor_left_to_read_the_code_with(
    rmq: Any, amqp: Amqp, told: list[Any], monkeypatch: Any, in_transaction: bool
) -> None:
    """The first publish of a process imports what it sends with."""
    queue = amqp.declare_queue()
    connections.close()
    monkeypatch.setattr(connections, "_transports", {})
    with pytest.MonkeyPatch.context() as patch:
        breaking(handler, "import_string")(patch, Once(FILES, times=3))
        with pytest.raises(
            BrokerUnavailable, match="no connection 'default': Too many open files"
        ):
            publish("x", routing_key=queue, delivery="now")
        with transaction.atomic() if in_transaction else nullcontext():
            kept = publish("x", routing_key=queue)
    again = publish("y", routing_key=queue)
    assert [one for one in told if one[0] in (kept, again)] == [(kept, True), (again, None)]
    assert stored() == [kept]
