"""The lists beside many rows, on PostgreSQL: what they ask for is found by an index."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.messages.storage.cookie import CookieStorage
from django.db import connections as databases
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from rmq_publisher.admin import PendingMessageAdminMixin, PublishFailureAdminMixin
from rmq_publisher.db.schema import TABLE
from rmq_publisher.models import PendingMessage, PublishFailure
from tests.support.admin_rows import failure, url
from tests.support.pending_rows import pending

ROWS = 30_000


def fill(database: str, rows: int) -> None:
    """Copies of a failure: most of them delivered, one in ten dead, one in a hundred to be sent again."""
    failure(database, message_id="one")
    names = [
        field.column for field in PublishFailure._meta.concrete_fields if field.column != "id"
    ]
    ago = "now() - n * interval '1 second'"
    different = {
        "message_id": "md5(n::text)",
        "state": "CASE WHEN n % 100 = 0 THEN 'failed' WHEN n % 10 = 1 THEN 'dead' ELSE 'delivered' END",
        "available_at": "CASE WHEN n % 100 = 0 THEN now() + interval '1 hour' END",
        "failed_at": ago,
        "last_failed_at": ago,
        "body": r"decode(repeat('00ff', 200), 'hex')",
    }
    values = ", ".join(different.get(name, f'"{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    with databases[database].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({columns}) SELECT {values} FROM {TABLE}, "
            f"generate_series(1, {rows}) AS n WHERE message_id = 'one'"
        )
        cursor.execute(f"ANALYZE {TABLE}")


def look(query: str = "", model: Any = PublishFailure) -> Any:
    """The list, rendered, for somebody who may do everything."""
    request: Any = RequestFactory().get(url("changelist") + query)
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    request._messages = CookieStorage(request)
    page: Any = admin.site._registry[model]
    return page.changelist_view(request).render()


@pytest.fixture
def many(store: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    settings.RMQ_URL = "memory://"
    monkeypatch.setattr(PublishFailureAdminMixin, "get_database", lambda self: store)
    fill(store, ROWS)
    return store


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_nothing_goes_through_all_rows(many: str) -> None:
    some_id = PublishFailure.objects.using(many).values_list("message_id", flat=True)[100]
    queries = (
        "", "?p=40", "?state=dead", "?state=unresolved", "?state=failed", "?since=hour",
        f"?q={some_id}", "?state=discarded", "?o=3",
    )  # fmt: skip
    assert asked_by_index(many, PublishFailure, queries) > 30


def asked_by_index(database: str, model: Any, queries: Sequence[str]) -> int:
    """Look at a list with each query; return how many statements read the table, all by an index."""
    connection = databases[database]
    looked = 0
    for query in queries:
        with CaptureQueriesContext(connection) as captured:
            page = look(query, model)
        assert page.status_code == 200
        for asked in captured:
            if TABLE not in asked["sql"]:
                continue
            looked += 1
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {asked['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert f"Seq Scan on {TABLE}" not in plan, (query, asked["sql"], plan)
    return looked


def fill_pending(database: str, rows: int) -> None:
    """Copies of a scheduled message, and a few that are due, with and without a key."""
    pending(database, message_id="one", ahead=3600)
    pending(database, message_id="due")
    for number in range(20):
        pending(database, ordering_key=f"key-{number % 3}")
    names = [
        field.column for field in PendingMessage._meta.concrete_fields if field.column != "id"
    ]
    later = "now() + n * interval '1 second' + interval '1 hour'"
    different = {"message_id": "md5(n::text)", "available_at": later, "scheduled_at": later}
    values = ", ".join(different.get(name, f'"{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    with databases[database].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({columns}) SELECT {values} FROM {TABLE}, "
            f"generate_series(1, {rows}) AS n WHERE message_id = 'one'"
        )
        cursor.execute(f"ANALYZE {TABLE}")


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_nor_through_all_that_wait(
    store: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RMQ_URL = "memory://"
    monkeypatch.setattr(PendingMessageAdminMixin, "get_database", lambda self: store)
    fill_pending(store, ROWS)
    some_id = PendingMessage.objects.using(store).values_list("message_id", flat=True)[100]
    queries = ("", "?p=40", "?time=due", "?time=scheduled", "?key=key-1", f"?q={some_id}")
    assert asked_by_index(store, PendingMessage, queries) > 20
