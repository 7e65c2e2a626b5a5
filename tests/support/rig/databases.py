"""Finds a PostgreSQL and a MariaDB for the suite: a URL, else Docker, else a local server.

`RMQ_TEST_POSTGRES_URL` and `RMQ_TEST_MARIADB_URL` name a server whose user may make databases,
`RMQ_TEST_POSTGRES_IMAGE` and `RMQ_TEST_MARIADB_IMAGE` the Docker image, and `RMQ_TEST_DB_RUNG`
(url, docker or local) allows one rung only. A server is started on first use: many tests need none.
The processes of a parallel run share the one that the first of them has started.

MySQL is used as well where `RMQ_TEST_MYSQL_URL` names one: it cannot be installed beside MariaDB.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from .dbprocess import START_TIMEOUT, PrivateServer
from .dbserver import DatabaseServer, Login, ServerError
from .mariadb import MariaDB, MySQL, PrivateMariaDB
from .postgres import Postgres, PrivatePostgres
from .sharing import Lease, sharing

_PRIVATE: dict[str, tuple[type[DatabaseServer], type[PrivateServer]]] = {
    "postgres": (Postgres, PrivatePostgres),
    "mariadb": (MariaDB, PrivateMariaDB),
}
KINDS = tuple(_PRIVATE)  # those that the suite can start by itself
_BY_URL: dict[str, type[DatabaseServer]] = {"mysql": MySQL}


def kinds() -> tuple[str, ...]:
    """All that tests of the table run on: besides `KINDS` those that a URL names."""
    named = [kind for kind, server in _BY_URL.items() if os.environ.get(_variable(server))]
    return (*KINDS, *named)


class NoDatabaseError(Exception):
    """No rung holds, or the one that does gave no server; the text says what to do."""


class _RungError(Exception):
    """Go on to the next rung."""


@dataclass(frozen=True)
class Found:
    """A server that can be had; `start()` gives it, with a database of our own."""

    kind: str
    rung: str
    description: str
    _start: Callable[[], DatabaseServer]

    def __str__(self) -> str:
        return f"{self.description} ({self.rung})"

    def start(self) -> DatabaseServer:
        try:
            if self.rung == "url" or not sharing():
                return self._start()
            return self._share()
        except ServerError as error:
            raise NoDatabaseError(f"{self} did not start: {error}") from error

    def _share(self) -> DatabaseServer:
        public, _ = _PRIVATE[self.kind]
        lease = Lease(self.kind)

        def start() -> tuple[str, Callable[[], None]]:
            server = self._start()
            return server.url(), server.discard

        login = Login.from_url(lease.url(start), public.default_port)
        return public(login, lease.end).with_own_database()


def find_database(kind: str) -> Found:
    """Climb down the ladder for one of `kinds()`; raises `NoDatabaseError`."""
    if kind in _BY_URL:
        return _at_url(_BY_URL[kind])
    public, private = _PRIVATE[kind]
    rungs = {
        "url": lambda: _at_url(public),
        "docker": lambda: _on_docker(public),
        "local": lambda: _local(private),
    }
    wanted = os.environ.get("RMQ_TEST_DB_RUNG", "")
    if wanted and wanted not in rungs:
        raise NoDatabaseError(f"RMQ_TEST_DB_RUNG={wanted}: must be one of {', '.join(rungs)}")
    tried = []
    for name in [wanted] if wanted else rungs:
        with warnings.catch_warnings():
            # docker-py leaves a socket open where no engine answers; later it would fail a test.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                return rungs[name]()
            except _RungError as error:
                tried.append(f"  {name}: {error}")
            except ServerError as error:
                raise NoDatabaseError(str(error)) from error  # one that lacks its driver
            gc.collect()
    raise NoDatabaseError(_advice(private, tried))


def _advice(private: type[PrivateServer], tried: list[str]) -> str:
    consequence = (
        "CI must run these tests against a real database, so they fail here."
        if os.environ.get("CI")
        else f"Do one of these: set {_variable(private)}={private.kind}://..., start a Docker "
        f"engine, or install {private.product} (on Debian and Ubuntu: apt-get install "
        f"{private.package}; the service need not run)."
    )
    return "\n".join([f"These tests need {private.product} and found none.", *tried, consequence])


def _variable(server: type[DatabaseServer]) -> str:
    return f"RMQ_TEST_{server.kind.upper()}_URL"


def _at_url(public: type[DatabaseServer]) -> Found:
    url = os.environ.get(_variable(public))
    if not url:
        raise _RungError(f"{_variable(public)} is not set")
    server = public(Login.from_url(url, public.default_port))
    try:
        return Found(public.kind, "url", str(server), server.with_own_database)
    except server.driver().Error as error:
        # It was asked for by name: another server in its place would be a surprise.
        where = f"{server.login.host}:{server.login.port}"
        raise NoDatabaseError(
            f"{_variable(public)}: no {public.product} answers at {where} ({error})"
        ) from error


def _on_docker(public: type[DatabaseServer]) -> Found:
    image = os.environ.get(f"RMQ_TEST_{public.kind.upper()}_IMAGE", public.image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # testcontainers warns of itself when imported
        try:
            from docker.errors import (  # type: ignore[import-untyped] # noqa: PLC0415
                DockerException,
                ImageNotFound,
            )
            from testcontainers.core.container import DockerContainer  # noqa: PLC0415
        except ImportError as error:
            raise _RungError(f"testcontainers is not installed ({error})") from error
        try:
            container = DockerContainer(image)
        except DockerException as error:
            raise _RungError(f"no Docker engine answers ({error})") from error
        images = container.get_docker_client().client.images
        try:
            try:
                images.get(image)
            except ImageNotFound:
                images.pull(image)
        except DockerException as error:
            raise _RungError(f"the image {image} cannot be had ({error})") from error

    def start() -> DatabaseServer:
        container.with_envs(**public.container).with_exposed_ports(public.default_port)
        try:
            container.start()
            port = int(container.get_exposed_port(public.default_port))
            host = container.get_container_host_ip()
            server = public(Login(host, port, *public.container_login), container.stop)
            _await_answer(server)
            return server
        except (DockerException, ServerError) as error:
            with contextlib.suppress(DockerException):
                container.stop()
            raise ServerError(f"{error} (RMQ_TEST_DB_RUNG=local goes without Docker)") from error

    return Found(public.kind, "docker", f"{public.product}, image {image}", start)


def _await_answer(server: DatabaseServer) -> None:
    """An image starts its server twice: the first one, which makes the database, has no network."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            server.connect(timeout=2).close()
            return
        except server.driver().Error as error:
            if time.monotonic() > deadline:
                raise ServerError(f"{server.product} not up ({error})") from error
        time.sleep(0.1)


def _local(private: type[PrivateServer]) -> Found:
    if private.program() is None:
        raise _RungError(f"no {private.program_name} is installed")
    return Found(
        private.kind,
        "local",
        f"{private.product} {private.program_version()}",
        lambda: private(durable=False).start_or_discard(),
    )
