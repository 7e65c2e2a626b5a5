"""PostgreSQL for the rig."""

from __future__ import annotations

import signal
import subprocess
from typing import Any, ClassVar

from .dbprocess import PrivateServer
from .dbserver import DatabaseServer


class Postgres(DatabaseServer):
    """A PostgreSQL that somebody runs."""

    kind = "postgres"
    product = "PostgreSQL"
    engine = "django.db.backends.postgresql"
    default_port = 5432
    first_database = "postgres"
    driver_module = "psycopg"
    image = "postgres:17"
    container: ClassVar = {
        "POSTGRES_USER": "rmq",
        "POSTGRES_PASSWORD": "rmq",
        "POSTGRES_DB": "rmq",
    }
    container_login = ("rmq", "rmq", "rmq")

    def connect(self, timeout: int = 10) -> Any:
        host, port, user, password, name = self.login
        return self.driver().connect(
            host=host,
            port=port,
            user=user,
            password=password,
            dbname=name or self.first_database,
            autocommit=True,
            connect_timeout=timeout,
        )

    def version(self) -> str:
        return f"PostgreSQL {self.query('SHOW server_version')[0][0]}"

    def backends(self) -> list[int]:
        rows = self.query(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        return [row[0] for row in rows]

    def terminate(self, backend: int) -> None:
        self.query("SELECT pg_terminate_backend(%s, 10000)", backend)  # waits until it is gone


class PrivatePostgres(PrivateServer, Postgres):
    """A cluster of our own; a backend's id is its process's."""

    package = "postgresql"
    program_name = "postgres"
    places = ("usr/lib/postgresql/*/bin", "opt/homebrew/opt/postgresql@*/bin")
    orderly_end = signal.SIGINT
    quick_end = signal.SIGQUIT

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _initialise(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self.login.password)
        if self.user is not None:
            secret.chmod(0o644)  # in a directory that only the server's user may enter
        self._run(
            self._need("initdb"),
            f"--pgdata={self._data}",
            f"--username={self.login.user}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.login.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "mmap",  # in the directory, which we remove
            "logging_collector": "off",
            "restart_after_crash": "on",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        return [self._need(), "-D", self._data, *options]

    def _clean(self) -> None:
        """A killed cluster leaves a small segment of shared memory, which a next start removes."""
        pidfile = self.directory / "data" / "postmaster.pid"
        lines = pidfile.read_text().splitlines() if pidfile.exists() else []
        if len(lines) > 6:
            segment = lines[6].split()[-1]
            subprocess.run(["ipcrm", "-m", segment], capture_output=True, check=False)
