"""What every database server of the rig can do, whoever runs it."""

from __future__ import annotations

import contextlib
import importlib
import secrets
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit


class ServerError(RuntimeError):
    """The database server did not do what it was told."""


class Login(NamedTuple):
    """Where a database is, and who may use it."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def from_url(cls, url: str, default_port: int) -> Login:
        parts = urlsplit(url)
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or default_port,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            unquote(parts.path.lstrip("/")),
        )

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"  # no password in a traceback


class DatabaseServer:
    """A server that somebody runs: to ask, and to give a database of our own."""

    kind: ClassVar[str]  # "postgres", the word in settings and fixtures
    product: ClassVar[str]
    engine: ClassVar[str]  # Django's
    driver_module: ClassVar[str]
    default_port: ClassVar[int]
    first_database: ClassVar[str]  # there from the start, on a private server
    options: ClassVar[dict[str, Any]] = {}
    image: ClassVar[str]  # Docker's
    container: ClassVar[dict[str, str]]  # the environment of one
    container_login: ClassVar[tuple[str, str, str]]  # user, password and database in it

    def __init__(self, login: Login, end: Callable[[], object] = lambda: None) -> None:
        self.login = login
        self._ending = end

    def __str__(self) -> str:
        return f"{self.version()} ({self.login.host}:{self.login.port})"

    def url(self, database: str | None = None) -> str:
        """For clients that take one, with the password."""
        host, port, user, password, own = self.login
        name = quote(own if database is None else database, "")
        return f"{self.kind}://{quote(user, '')}:{quote(password, '')}@{host}:{port}/{name}"

    def settings(self, **more: Any) -> dict[str, Any]:
        """An entry for Django's DATABASES; plain data, so that processes can be told of it."""
        host, port, user, password, name = self.login
        where = {"HOST": host, "PORT": str(port), "USER": user, "PASSWORD": password}
        return {"ENGINE": self.engine, "NAME": name, **where, "OPTIONS": {**self.options}} | more

    @classmethod
    def driver(cls) -> Any:
        """The driver's module; imported late, for most of the suite does without."""
        try:
            return importlib.import_module(cls.driver_module)
        except ImportError as error:
            raise ServerError(
                f"{cls.product}'s driver cannot be loaded ({error}); "
                "pip install --group test --group mariadb"
            ) from error

    def connect(self, timeout: int = 10) -> Any:
        """The driver's own connection, in autocommit; seconds to wait for it."""
        raise NotImplementedError

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            # None, not (): without values a % is no placeholder.
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def version(self) -> str:
        """The product and its version, asked of the server."""
        raise NotImplementedError

    def backends(self) -> list[int]:
        """The ids of the connections to our database, the asking one's left out."""
        raise NotImplementedError

    def terminate(self, backend: int) -> None:
        """Have the server end one connection; one that is gone already is no error."""
        raise NotImplementedError

    def terminate_all(self) -> int:
        """End all other connections to our database; returns how many there were."""
        found = self.backends()
        for backend in found:
            self.terminate(backend)
        return len(found)

    def with_own_database(self) -> Self:
        """The same server with a new database, dropped by `discard()`; parallel runs share it."""
        name = f"rmq_rig_{secrets.token_hex(6)}"
        self.query(f"CREATE DATABASE {name}")

        def end() -> None:
            own.terminate_all()  # PostgreSQL drops no database that is in use
            self.query(f"DROP DATABASE {name}")
            self.discard()

        own = type(self)(self.login._replace(database=name), end)
        return own

    def heal(self) -> None:
        """Back to a state that the next test can use."""

    def discard(self) -> None:
        """Leave nothing of ours behind."""
        self._ending()
