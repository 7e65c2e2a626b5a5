"""The databases as the harness sees them: what is true, what is open, who changed what."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.support.rig.dbprocess import PrivateServer
from tests.support.rig.mariadb import PrivateMariaDB
from tests.support.rig.postgres import PrivatePostgres

TABLE = "rmq_publisher_outboxmessage"
OPEN = "state IN ('pending', 'failed')"


class Store:
    """A database that is asked by connections of the harness's own."""

    kind: ClassVar[str]
    now: ClassVar[str]
    serial: ClassVar[str]

    def settings(self, name: str) -> dict[str, Any]:
        """An entry of DATABASES for the process of this name."""
        raise NotImplementedError

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def describe(self) -> str:
        """Product and version."""
        raise NotImplementedError

    def prepare(self, keys: int = 0) -> None:
        """Make the tables of the harness; the app's are there."""
        self.query("CREATE TABLE chaos_business (message_id VARCHAR(200) PRIMARY KEY)")
        self.query("CREATE TABLE chaos_key (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL)")

    def empty(self, keys: int = 0) -> None:
        """Start again with an empty database."""
        for table in (TABLE, "chaos_business", "chaos_key"):
            self.query(f"DELETE FROM {table}")
        if keys:
            values = ", ".join(f"({key}, 0)" for key in range(keys))
            self.query(f"INSERT INTO chaos_key (id, seq) VALUES {values}")

    def committed(self) -> set[str]:
        """The ids whose transaction was committed."""
        return {row[0] for row in self.query("SELECT message_id FROM chaos_business")}

    def count(self, condition: str) -> int:
        """Rows of the table of messages."""
        found = self.query(f"SELECT COUNT(*) FROM {TABLE} WHERE {condition}")
        return int(found[0][0])

    def leased(self, *more: str) -> int:
        """Rows that somebody holds, on more conditions."""
        conditions = ["token <> 0", f"available_at > {self.now}", *more]
        return self.count(" AND ".join(conditions))

    def held_by_relay(self, life: str, writers: Collection[int]) -> int:
        """Rows that this relay holds; any relay where nobody knows which.

        Args:
            life: its name.
            writers: the tokens of those who hold what they wrote.
        """
        return self.leased(f"token NOT IN ({', '.join(map(str, writers))})")

    def left(self) -> list[tuple[Any, ...]]:
        """Rows that are not finished, some of them."""
        return self.query(
            f"SELECT message_id, state, token, available_at, attempts, unanswered, last_error_text "
            f"FROM {TABLE} WHERE state IN ('pending', 'failed', 'dead') ORDER BY id LIMIT 20"
        )

    def kill_backend(self) -> int:
        """End one connection's backend; tells how many statements or transactions were under way."""
        raise NotImplementedError

    def discard(self) -> None:
        """Leave nothing behind."""


class Postgres(Store):
    """With an audit: a trigger notes each change and whose connection made it."""

    kind = "PostgreSQL"
    now = "STATEMENT_TIMESTAMP()"

    def __init__(self) -> None:
        self.server: PrivateServer = PrivatePostgres(durable=False).start_or_discard()

    def settings(self, name: str) -> dict[str, Any]:
        made = self.server.settings()
        made["OPTIONS"] |= {"application_name": name}
        return made

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self.server.query(sql)
        except self.server.driver().OperationalError:
            # It comes back by itself after a backend was killed.
            self.server.wait_ready()
            return self.query(sql)

    def describe(self) -> str:
        return self.server.version()

    def prepare(self, keys: int = 0) -> None:
        super().prepare(keys)
        self.query(_AUDIT)

    def empty(self, keys: int = 0) -> None:
        self.query("TRUNCATE chaos_audit")
        self.query(f"TRUNCATE {TABLE}, chaos_business, chaos_key")
        super().empty(keys)
        self.query("TRUNCATE chaos_audit")

    def held_by_relay(self, life: str, writers: Collection[int]) -> int:
        return self.leased(
            f"EXISTS (SELECT 1 FROM chaos_audit AS a WHERE a.row_id = {TABLE}.id "
            f"AND a.new_token = token AND a.who = '{life}')"
        )

    def audit(self) -> list[tuple[Any, ...]]:
        """All changes, in the order in which they were made to each row."""
        return self.query(
            "SELECT row_id, message_id, op, who, old_state, new_state, old_token, new_token, live, "
            "had_failed FROM chaos_audit ORDER BY row_id, n"
        )

    def kill_backend(self) -> int:
        """SIGKILL: the server takes all others down as well, and recovers."""
        busy = self.query(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%i%' "
            "AND state <> 'idle' AND pid <> pg_backend_pid()"
        )
        for (pid,) in busy:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return len(busy)
        return 0

    def discard(self) -> None:
        self.server.discard()


# `live`: whether the grace or lease that the change meets is not over yet.
_AUDIT = f"""
CREATE TABLE chaos_audit (
    n BIGSERIAL PRIMARY KEY, row_id BIGINT, message_id TEXT, op CHAR(1), who TEXT, old_state TEXT,
    new_state TEXT, old_token BIGINT, new_token BIGINT, live BOOLEAN, had_failed BOOLEAN);
CREATE INDEX ON chaos_audit (row_id);
CREATE FUNCTION chaos_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE was {TABLE}; now_is {TABLE};
BEGIN
    IF TG_OP <> 'INSERT' THEN was := OLD; END IF;
    IF TG_OP <> 'DELETE' THEN now_is := NEW; END IF;
    INSERT INTO chaos_audit (row_id, message_id, op, who, old_state, new_state, old_token, new_token,
        live, had_failed)
    VALUES (COALESCE(was.id, now_is.id), COALESCE(was.message_id, now_is.message_id),
        SUBSTRING(TG_OP, 1, 1), CURRENT_SETTING('application_name'), was.state, now_is.state,
        was.token, now_is.token, COALESCE(was.available_at > STATEMENT_TIMESTAMP(), FALSE),
        was.failed_at IS NOT NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE OR DELETE ON {TABLE}
    FOR EACH ROW EXECUTE FUNCTION chaos_note();
"""


class MariaDB(Store):
    """Its backends are threads: they are ended by the server, or die with it."""

    kind = "MariaDB"
    now = "UTC_TIMESTAMP(6)"

    def __init__(self) -> None:
        self.server = PrivateMariaDB(durable=False).start_or_discard()

    def settings(self, name: str) -> dict[str, Any]:
        return self.server.settings()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.query(sql)

    def describe(self) -> str:
        return self.server.version()

    def kill_backend(self) -> int:
        """SIGKILL to the server, and a new one."""
        busy = self.server.query(
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> 0"
        )
        self.server.restart()
        return int(busy[0][0])

    def discard(self) -> None:
        self.server.discard()


class SQLite(Store):
    """A file; whoever is killed in a transaction leaves a journal that the next one rolls back."""

    kind = "SQLite"
    now = "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "chaos.sqlite3"

    def settings(self, name: str) -> dict[str, Any]:
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas}
        engine = "django.db.backends.sqlite3"
        return {"ENGINE": engine, "NAME": str(self._path), "OPTIONS": options}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def describe(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"


def order_of(messages: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
    """By key, number and id of each message, in the order of its first arrival."""
    found: dict[str, list[tuple[int, str]]] = {}
    for one in dict.fromkeys(messages):
        key, seq, _ = one.split(":", 2)
        found.setdefault(key, []).append((int(seq), one))
    return found
