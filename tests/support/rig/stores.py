"""Databases for tests, as a pytest plugin: servers to ask for, and aliases of Django's on them.

The suite's settings know SQLite only. A test that asks for `store` runs on each kind of database;
`@pytest.mark.parametrize("store", ["postgres"], indirect=True)` chooses, as do `ON_SERVERS` and
`LIKE_MYSQL`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connections

from .databases import Found, NoDatabaseError, find_database, kinds
from .dbprocess import PrivateServer
from .dbserver import DatabaseServer
from .mariadb import PrivateMariaDB
from .postgres import PrivatePostgres
from .sharing import share_servers

_Server = TypeVar("_Server", bound=PrivateServer)
_FOUND = pytest.StashKey[dict[str, Found | NoDatabaseError]]()
_SERVERS = pytest.StashKey[dict[str, DatabaseServer]]()
ON_SERVERS = pytest.mark.parametrize("store", kinds(), indirect=True)
LIKE_MYSQL = pytest.mark.parametrize(
    "store", [kind for kind in kinds() if kind != "postgres"], indirect=True
)
# The apps whose tables a test may fill.
_EMPTIED = ("rmq_publisher", "rmq_publisher_tasks", "shop")


def _find(config: pytest.Config, kind: str) -> Found | NoDatabaseError:
    found = config.stash.setdefault(_FOUND, {})
    if kind not in found:
        try:
            found[kind] = find_database(kind)
        except NoDatabaseError as error:
            found[kind] = error
    return found[kind]


def _server(config: pytest.Config, kind: str) -> DatabaseServer:
    """The process's one server of this kind: started on first use, fit for use at each."""
    servers = config.stash.setdefault(_SERVERS, {})
    if kind not in servers:
        found = _find(config, kind)
        try:
            if isinstance(found, NoDatabaseError):
                raise found
            servers[kind] = found.start()
        except NoDatabaseError as error:
            pytest.fail(str(error), pytrace=False)
    return servers[kind]


def pytest_configure(config: pytest.Config) -> None:
    """Under xdist all workers use one server of each kind."""
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.add_cleanup(share_servers())


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the databases: what ran against what must be seen."""
    if config.option.collectonly or hasattr(config, "workerinput"):
        return []
    return [f"{kind}: {' '.join(str(_find(config, kind)).split())}" for kind in kinds()]


def pytest_unconfigure(config: pytest.Config) -> None:
    for server in config.stash.get(_SERVERS, {}).values():
        server.discard()


@pytest.fixture
def postgres(pytestconfig: pytest.Config) -> Iterator[DatabaseServer]:
    """The suite's PostgreSQL, which other processes of the run may use as well."""
    yield (server := _server(pytestconfig, "postgres"))
    server.heal()


@pytest.fixture
def mariadb(pytestconfig: pytest.Config) -> Iterator[DatabaseServer]:
    """The suite's MariaDB; as `postgres`."""
    yield (server := _server(pytestconfig, "mariadb"))
    server.heal()


@pytest.fixture
def mysql(pytestconfig: pytest.Config) -> DatabaseServer:
    """The MySQL that a URL names; somebody else's to kill."""
    return _server(pytestconfig, "mysql")


@pytest.fixture
def private_postgres() -> Iterator[Callable[..., PrivatePostgres]]:
    """Makes clusters of the test's own, durable unless told otherwise: `private_postgres()`."""
    yield from _factory(PrivatePostgres)


@pytest.fixture
def private_mariadb() -> Iterator[Callable[..., PrivateMariaDB]]:
    """As `private_postgres`."""
    yield from _factory(PrivateMariaDB)


def _factory(cls: type[_Server]) -> Iterator[Callable[..., _Server]]:
    made: list[_Server] = []

    def make(**options: Any) -> _Server:
        server = cls(**options)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.discard()


# -- Django -------------------------------------------------------------------------------------


@contextmanager
def attached(alias: str, server: DatabaseServer) -> Iterator[str]:
    """A database of Django's under this alias for a while; needs `django_db_blocker.unblock()`."""
    if alias in connections.databases:
        raise ValueError(f"there is a database {alias!r} already")
    # Fills in the defaults; it insists on a default database.
    entries = connections.configure_settings({"default": {}, alias: server.settings()})
    connections.databases[alias] = entries[alias]
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


def migrate(alias: str, *app_labels: str) -> None:
    """Make the tables of these apps in the database."""
    for label in app_labels:
        call_command("migrate", label, database=alias, verbosity=0)


def empty(alias: str) -> None:
    """Empty the tables of the apps under test, as far as the database has them."""
    connection = connections[alias]
    there = set(connection.introspection.table_names())
    models = [model for label in _EMPTIED for model in apps.get_app_config(label).get_models()]
    tables = sorted({model._meta.db_table for model in models} & there)
    if tables:
        flush = connection.ops.sql_flush(no_style(), tables, reset_sequences=True)
        connection.ops.execute_sql_flush(flush)


@pytest.fixture(params=["sqlite", *kinds()])
def store(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any
) -> Iterator[str]:
    """The alias of a database with the app's tables, on each kind: what is committed is committed.

    Afterwards the tables are empty. Threads of the test close their connections by themselves.
    """
    with django_db_blocker.unblock():
        if request.param == "sqlite":
            # pytest-django makes it only where a test has its mark.
            migrate("default", "rmq_publisher")
            yield "default"
            _leave("default")
            return
        server = _server(request.config, request.param)
        with attached(request.param, server) as alias:
            migrate(alias, "rmq_publisher")
            yield alias
            connections[alias].close()
            server.heal()
            server.terminate_all()  # whoever still holds a lock would make us wait for ever
            _leave(alias)


def _leave(alias: str) -> None:
    connections[alias].close()  # with it goes what the test left open
    empty(alias)
    connections[alias].close()
