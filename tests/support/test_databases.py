"""Tests of the test rig's databases."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.db import connections, transaction
from docker.errors import APIError, ImageNotFound

from example_project.shop.models import Order
from tests.support.rig.databases import KINDS, NoDatabaseError, find_database
from tests.support.rig.dbprocess import PrivateServer
from tests.support.rig.dbserver import DatabaseServer, Login
from tests.support.rig.ladder import Broker
from tests.support.rig.mariadb import MariaDB, PrivateMariaDB
from tests.support.rig.ports import closed_port
from tests.support.rig.postgres import Postgres, PrivatePostgres
from tests.support.rig.processes import await_gone
from tests.support.rig.sharing import DIRECTORY, share_servers
from tests.support.rig.stores import ON_SERVERS, attached, empty, migrate

PRIVATE: dict[str, type[PrivateServer]] = {"postgres": PrivatePostgres, "mariadb": PrivateMariaDB}
PUBLIC: dict[str, type[DatabaseServer]] = {"postgres": Postgres, "mariadb": MariaDB}


@pytest.fixture(scope="module", params=KINDS)
def lasting(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A durable server for the tests of this file."""
    with PRIVATE[request.param]() as server:
        yield server


@pytest.fixture
def private(lasting: PrivateServer) -> Iterator[PrivateServer]:
    """A durable server to kill and freeze; afterwards it is up again."""
    yield lasting
    lasting.heal()


def place(alias: str, item: str = "tea") -> Order:
    return Order.objects.using(alias).create(customer="Ada", item=item, amount="1.00")


def elsewhere(action: Callable[[], Any]) -> Any:
    """Run this on a thread, and so on another connection."""
    results: list[Any] = []

    def work() -> None:
        results.append(action())
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    return results[0]


# -- the ladder ---------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without variables about databases."""
    for name in [name for name in os.environ if name.startswith("RMQ_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(DIRECTORY, raising=False)
    return monkeypatch


@pytest.mark.thorough
def test_the_rungs_are_tried_in_order(bare: pytest.MonkeyPatch, private: PrivateServer) -> None:
    kind = private.kind
    url = f"RMQ_TEST_{kind.upper()}_URL"
    bare.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{closed_port()}")
    found = find_database(kind)
    assert found.rung == "local"
    assert PRIVATE[kind].product in str(found)
    bare.setenv(url, private.url())
    assert find_database(kind).rung == "url"
    bare.setenv("RMQ_TEST_DB_RUNG", "local")
    assert find_database(kind).rung == "local"
    bare.setenv("PATH", "")
    bare.delenv(url)
    bare.delenv("RMQ_TEST_DB_RUNG")
    bare.setattr(PRIVATE[kind], "places", ())
    with pytest.raises(NoDatabaseError) as caught:
        find_database(kind)
    rungs = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:4]]
    assert rungs == ["url", "docker", "local"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_url_that_nobody_answers_is_no_reason_to_take_another(
    bare: pytest.MonkeyPatch, kind: str
) -> None:
    bare.setenv(f"RMQ_TEST_{kind.upper()}_URL", f"{kind}://u:secret@127.0.0.1:{closed_port()}/")
    with pytest.raises(NoDatabaseError, match=r"no \w+ answers at 127") as caught:
        find_database(kind)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("ci", "says"), [("1", "so they fail here"), ("", "apt-get install")])
@pytest.mark.parametrize("kind", KINDS)
def test_no_database_is_an_error(bare: pytest.MonkeyPatch, kind: str, ci: str, says: str) -> None:
    bare.setenv("RMQ_TEST_DB_RUNG", "url")
    bare.setenv("CI", ci)
    with pytest.raises(NoDatabaseError, match=says):
        find_database(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_driver_is_an_error(bare: pytest.MonkeyPatch, kind: str) -> None:
    bare.setattr(PUBLIC[kind], "driver_module", "no_such_driver")
    bare.setenv("RMQ_TEST_DB_RUNG", "local")
    with pytest.raises(NoDatabaseError, match="pip install --group"):
        find_database(kind).start()
    bare.setenv("RMQ_TEST_DB_RUNG", "url")
    bare.setenv(f"RMQ_TEST_{kind.upper()}_URL", f"{kind}://127.0.0.1:{closed_port()}/")
    with pytest.raises(NoDatabaseError, match="pip install --group"):
        find_database(kind)


@pytest.mark.thorough
def test_a_container(bare: pytest.MonkeyPatch, private: PrivateServer) -> None:
    """The Docker rung, with a fake container."""
    calls: list[object] = []

    class Container:
        def __init__(self, image: str) -> None:
            calls.append(image)

        def get_docker_client(self) -> SimpleNamespace:
            images = SimpleNamespace(get=lambda _: None)
            return SimpleNamespace(client=SimpleNamespace(images=images))

        def with_envs(self, **env: str) -> Container:
            calls.append(set(env.values()))
            return self

        def with_exposed_ports(self, *ports: int) -> Container:
            calls.append(ports)
            return self

        def start(self) -> Container:
            return self

        def get_exposed_port(self, port: int) -> int:
            return private.login.port

        def get_container_host_ip(self) -> str:
            return "127.0.0.1"

        def stop(self) -> None:
            calls.append("stop")

    public = PUBLIC[private.kind]
    bare.setattr("testcontainers.core.container.DockerContainer", Container)
    bare.setattr(public, "container_login", private.login[2:])
    bare.setenv("RMQ_TEST_DB_RUNG", "docker")
    bare.setenv(f"RMQ_TEST_{private.kind.upper()}_IMAGE", "other:1")
    found = find_database(private.kind)
    assert str(found) == f"{private.product}, image other:1 (docker)"
    server = found.start()
    assert server.query("SELECT 1") == [(1,)]
    server.discard()
    assert calls == ["other:1", {"rmq"}, (public.default_port,), "stop"]


def test_an_engine_without_the_image_is_no_rung(bare: pytest.MonkeyPatch) -> None:
    """It may be offline, and the local server is as good."""

    def get(name: str) -> None:
        raise ImageNotFound(name)

    def pull(name: str) -> None:
        raise APIError(f"no route to the registry of {name}")

    images = SimpleNamespace(get=get, pull=pull)
    client = SimpleNamespace(client=SimpleNamespace(images=images))
    engine = SimpleNamespace(get_docker_client=lambda: client)
    bare.setattr("testcontainers.core.container.DockerContainer", lambda _: engine)
    assert find_database("postgres").rung == "local"
    bare.setenv("RMQ_TEST_DB_RUNG", "docker")
    with pytest.raises(NoDatabaseError, match="the image postgres:17 cannot be had"):
        find_database("postgres")


def test_an_unknown_rung_is_an_error(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("RMQ_TEST_DB_RUNG", "cloud")
    with pytest.raises(NoDatabaseError, match="must be one of url, docker, local"):
        find_database("postgres")


def test_a_server_at_a_url_gives_a_database_of_our_own(
    bare: pytest.MonkeyPatch, private: PrivateServer
) -> None:
    bare.setenv(f"RMQ_TEST_{private.kind.upper()}_URL", private.url())
    first, second = find_database(private.kind).start(), find_database(private.kind).start()
    held = first.connect()
    assert len({private.login.database, first.login.database, second.login.database}) == 3
    first.query("CREATE TABLE mine (a int)")
    first.discard()
    with pytest.raises(private.driver().Error):
        first.query("SELECT * FROM mine")
    assert second.query("SELECT 1") == [(1,)]
    second.discard()
    assert private.running
    held.close()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_processes_of_a_run_share_one_server(bare: pytest.MonkeyPatch, kind: str) -> None:
    """Each has its own database on the server, which ends with the last of them."""
    bare.setenv("RMQ_TEST_DB_RUNG", "local")
    end = share_servers()
    try:
        first, second = find_database(kind).start(), find_database(kind).start()
        assert first.login[:4] == second.login[:4]
        assert first.login.database != second.login.database
        ending = threading.Thread(target=first.discard)
        ending.start()
        assert second.query("SELECT 1") == [(1,)]
        second.discard()
        ending.join(20)
        assert not ending.is_alive()
        with pytest.raises(second.driver().Error):
            second.connect(timeout=2)
    finally:
        end()


def test_the_login_of_a_url() -> None:
    login = Login.from_url("postgres://a%40b:p%2Fq@db.example/shop%20x", 5432)
    assert login == ("db.example", 5432, "a@b", "p/q", "shop x")
    assert "p/q" not in repr(login)
    assert Login.from_url(Postgres(login).url(), 1) == login


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_the_header_names_them_and_a_test_without_one_fails(
    bare: pytest.MonkeyPatch, broker: Broker
) -> None:
    """Never a skip: in a pytest of its own, where PostgreSQL is nowhere."""
    bare.setenv("RMQ_TEST_URL", broker.url)
    bare.setenv("RMQ_TEST_POSTGRES_URL", f"postgres://u:p@127.0.0.1:{closed_port()}/")
    bare.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{closed_port()}")
    bare.delenv("_RMQ_TEST_DATABASES")  # or it would recreate our SQLite databases
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            "seen_elsewhere",
        ],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert "\nmariadb: MariaDB " in done.stdout
    assert "\npostgres: RMQ_TEST_POSTGRES_URL: no PostgreSQL answers at 127.0.0.1" in done.stdout
    assert done.returncode == 1
    assert re.search(r"2 passed, \d+ deselected, 1 error", done.stdout)
    assert "skipped" not in done.stdout


# -- a private server -----------------------------------------------------------------------------


@pytest.mark.thorough
def test_durable_is_the_default(private: PrivateServer) -> None:
    asked = {
        "postgres": ("SHOW fsync", "on", "off"),
        "mariadb": ("SELECT @@innodb_flush_log_at_trx_commit", 1, 2),
    }
    query, durable, quick = asked[private.kind]
    assert private.query(query) == [(durable,)]
    with type(private)(durable=False) as other:
        assert other.query(query) == [(quick,)]


@pytest.mark.thorough
def test_a_killed_server_keeps_what_was_committed(private: PrivateServer) -> None:
    private.query("CREATE TABLE survived (a int)")
    private.query("INSERT INTO survived VALUES (%s)", 7)
    with contextlib.closing(private.connect()) as open_, open_.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO survived VALUES (8)")
        pids, process = private.pids(), private._process
        private.kill()
        with pytest.raises(private.driver().Error):
            cursor.execute("COMMIT")
    assert not private.running
    assert process is not None
    assert process.returncode == -signal.SIGKILL
    await_gone(pids)
    port = private.login.port
    private.restart()
    assert private.login.port == port
    assert private.query("SELECT a FROM survived") == [(7,)]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_stop_keeps_the_data_and_discard_leaves_nothing(kind: str) -> None:
    private = PRIVATE[kind]().start_or_discard()
    private.query("CREATE TABLE kept (a int)")
    private.stop()
    private.start()
    assert private.query("SELECT count(*) FROM kept") == [(0,)]
    pids = private.pids()
    private.freeze()
    private.discard()
    assert not private.directory.exists()
    await_gone(pids)


@pytest.mark.thorough
def test_a_frozen_server_answers_nobody_until_the_thaw(private: PrivateServer) -> None:
    answers: list[Any] = []
    with contextlib.closing(private.connect()) as old, old.cursor() as cursor:

        def ask_on_the_old_one() -> None:
            cursor.execute("SELECT 2")
            answers.extend(cursor.fetchall())

        asking = [
            threading.Thread(target=lambda: answers.extend(private.query("SELECT 1"))),
            threading.Thread(target=ask_on_the_old_one),
        ]
        private.freeze()
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(0.5)
        assert answers == []
        assert all(thread.is_alive() for thread in asking)
        private.thaw()
        for thread in asking:
            thread.join(20)
        assert sorted(answers) == [(1,), (2,)]


@pytest.mark.thorough
def test_heal_restarts_and_thaws(private: PrivateServer) -> None:
    private.freeze()
    private.heal()
    private.kill()
    private.heal()
    assert private.query("SELECT 1") == [(1,)]


@pytest.mark.thorough
def test_terminating_a_connection(private: PrivateServer) -> None:
    with contextlib.closing(private.connect()) as held, held.cursor() as cursor:
        (backend,) = private.backends()
        private.terminate(backend)
        with pytest.raises(private.driver().Error):
            cursor.execute("SELECT 1")
        assert private.terminate_all() == 0
    private.terminate(backend)  # gone already


@pytest.mark.thorough
def test_a_killed_backend_of_postgres_takes_all_connections_with_it(
    private_postgres: Callable[..., PrivatePostgres],
) -> None:
    server = private_postgres()
    with contextlib.closing(server.connect()) as one, contextlib.closing(server.connect()) as two:
        first, second = server.backends()
        os.kill(first, signal.SIGKILL)
        for connection in (one, two):
            with pytest.raises(server.driver().Error):
                connection.execute("SELECT pg_sleep(20)")
    assert server.running
    server.wait_ready()
    assert second not in server.backends()


@pytest.mark.thorough
def test_nothing_stays_behind_when_our_process_is_killed() -> None:
    """The guard ends the server and removes its files."""
    script = (
        "import os, signal\n"
        "from tests.support.rig.postgres import PrivatePostgres\n"
        "server = PrivatePostgres().start()\n"
        "print(server.directory, *server.pids(), flush=True)\n"
        "server.freeze()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    directory, *pids = done.stdout.split()
    assert len(pids) > 1
    await_gone([int(pid) for pid in pids], timeout=30)
    deadline = time.monotonic() + 10
    while Path(directory).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- Django's aliases -----------------------------------------------------------------------------


def test_a_commit_is_seen_elsewhere(store: str) -> None:
    migrate(store, "shop")
    with transaction.atomic(using=store):
        order = place(store)
        assert elsewhere(Order.objects.using(store).count) == 0
    assert elsewhere(lambda: Order.objects.using(store).get().pk) == order.pk


def test_what_a_test_left_is_gone(store: str) -> None:
    """By the one above, and by `empty()`."""
    migrate(store, "shop")
    assert not Order.objects.using(store).exists()
    place(store)
    empty(store)
    assert not Order.objects.using(store).exists()
    assert place(store).pk == 1


def test_the_tables_of_the_app_are_there(store: str) -> None:
    for model in apps.get_app_config("rmq_publisher").get_models():
        assert model._default_manager.using(store).count() == 0


def test_hooks_run_at_the_real_commit(store: str) -> None:
    seen: list[bool] = []
    with transaction.atomic(using=store):
        transaction.on_commit(
            lambda: seen.append(connections[store].get_autocommit()), using=store
        )
        assert seen == []
    assert seen == [True]


@pytest.mark.thorough
def test_a_private_server_as_an_alias(private: PrivateServer, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), attached("private", private) as alias:
        migrate(alias, "shop")
        order = place(alias)
        private.restart()
        connections[alias].close()
        assert Order.objects.using(alias).get() == order
        with pytest.raises(ValueError, match="already"), attached("private", private):
            pytest.fail("attached twice")
    assert "private" not in connections.databases
    assert private.backends() == []


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_the_others_are_not_left_attached(store: str) -> None:
    assert set(connections.databases) == {"default", "other"}


@pytest.fixture
def later() -> Iterator[contextlib.ExitStack]:
    """What is closed after `store` has been left, if asked for before it."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.timeout(20)
@ON_SERVERS
def test_a_transaction_left_open_does_not_hang_the_next_test(
    later: contextlib.ExitStack, store: str, request: pytest.FixtureRequest
) -> None:
    migrate(store, "shop")
    place(store)
    server: DatabaseServer = request.getfixturevalue(store)
    connection = later.enter_context(contextlib.closing(server.connect()))
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    cursor.execute("UPDATE shop_order SET item = 'coffee'")
