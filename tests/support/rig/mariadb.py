"""MariaDB and MySQL for the rig."""

from __future__ import annotations

import signal
from typing import Any, ClassVar

from .dbprocess import PrivateServer
from .dbserver import DatabaseServer

_UNKNOWN_THREAD = 1094


class MariaDB(DatabaseServer):
    """A MariaDB that somebody runs."""

    kind = "mariadb"
    product = "MariaDB"
    engine = "django.db.backends.mysql"
    default_port = 3306
    first_database = "rmq"
    options: ClassVar = {"charset": "utf8mb4"}
    driver_module = "MySQLdb"
    image = "mariadb:11.4"
    container: ClassVar = {"MARIADB_ROOT_PASSWORD": "rmq", "MARIADB_DATABASE": "rmq"}
    container_login = ("root", "rmq", "rmq")

    def connect(self, timeout: int = 10) -> Any:
        host, port, user, password, name = self.login
        return self.driver().connect(
            host="127.0.0.1" if host == "localhost" else host,  # the name means a Unix socket
            port=port,
            user=user,
            password=password,
            database=name,
            autocommit=True,
            connect_timeout=timeout,
            read_timeout=60,
            **self.options,
        )

    def version(self) -> str:
        number, *_ = self.query("SELECT VERSION()")[0][0].split("-")
        return f"{self.product} {number}"

    def backends(self) -> list[int]:
        rows = self.query(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        return [row[0] for row in rows]

    def terminate(self, backend: int) -> None:
        try:
            self.query(f"KILL {backend:d}")
        except self.driver().OperationalError as error:
            if error.args[0] != _UNKNOWN_THREAD:
                raise


class MySQL(MariaDB):
    """A MySQL that somebody runs; it has no RETURNING, and its own rules of what an index is good for."""

    kind = "mysql"
    product = "MySQL"
    image = "mysql:8.4"
    container: ClassVar = {"MYSQL_ROOT_PASSWORD": "rmq", "MYSQL_DATABASE": "rmq"}

    def backends(self) -> list[int]:
        # The other list of processes fails where one of them is at a statement with bytes in it.
        rows = self.query(
            "SELECT processlist_id FROM performance_schema.threads "
            "WHERE processlist_db = DATABASE() AND processlist_id <> CONNECTION_ID()"
        )
        return [row[0] for row in rows]


class PrivateMariaDB(PrivateServer, MariaDB):
    """A server of our own."""

    package = "mariadb-server"
    program_name = "mariadbd"
    places = ("usr/bin", "usr/sbin", "opt/homebrew/opt/mariadb/bin")
    orderly_end = signal.SIGTERM
    quick_end = signal.SIGKILL

    def _initialise(self) -> None:
        self._run(
            self._need("mariadb-install-db"),
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *self._options(),
            "--innodb-flush-log-at-trx-commit=2",
        )
        _, _, user, password, name = self.login
        # Run at each start: what it says holds already at the second one.
        (self.directory / "init.sql").write_text(
            f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4;\n"
            f"CREATE OR REPLACE USER '{user}'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{user}'@'127.0.0.1' WITH GRANT OPTION;\n"
            "DELETE FROM mysql.global_priv WHERE User = 'root';\n"  # it has no password
            "FLUSH PRIVILEGES;\n"
        )

    def _command(self) -> list[str]:
        return [
            self._need(),
            "--no-defaults",
            *self._options(),
            "--bind-address=127.0.0.1",
            f"--port={self.login.port}",
            f"--socket={self.directory}/socket",
            f"--pid-file={self.directory}/pid",
            f"--init-file={self.directory}/init.sql",
            "--character-set-server=utf8mb4",
            "--max-connections=200",
            "--lock-wait-timeout=30",  # of TRUNCATE and the like; a day by default
            # 2 hands each commit to the kernel, where it outlives the process at least.
            f"--innodb-flush-log-at-trx-commit={1 if self.durable else 2}",
        ]

    def _options(self) -> list[str]:
        return [
            f"--datadir={self.directory}/data",
            f"--tmpdir={self.directory}",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=32M",
        ]
