"""The list beside many rows, on PostgreSQL: what it asks for is found by an index."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.messages.storage.cookie import CookieStorage
from django.db import connections as databases
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from rmq_publisher.admin import PublishFailureAdminMixin
from rmq_publisher.db.schema import TABLE
from rmq_publisher.models import PublishFailure
from tests.support.admin_rows import failure, url

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


def look(query: str = "") -> Any:
    """The list, rendered, for somebody who may do everything."""
    request: Any = RequestFactory().get(url("changelist") + query)
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    request._messages = CookieStorage(request)
    page: Any = admin.site._registry[PublishFailure]
    return page.changelist_view(request).render()


@pytest.fixture
def many(store: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    settings.RMQ_URL = "memory://"
    monkeypatch.setattr(PublishFailureAdminMixin, "get_database", lambda self: store)
    fill(store, ROWS)
    return store


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_nothing_goes_through_all_rows(many: str) -> None:
    connection = databases[many]
    some_id = PublishFailure.objects.using(many).values_list("message_id", flat=True)[100]
    looked = 0
    for query in (
        "", "?p=40", "?state=dead", "?state=unresolved", "?state=failed", "?since=hour",
        f"?q={some_id}", "?state=discarded", "?o=3",
    ):  # fmt: skip
        with CaptureQueriesContext(connection) as queries:
            page = look(query)
        assert page.status_code == 200
        for asked in queries:
            if TABLE not in asked["sql"]:
                continue
            looked += 1
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {asked['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert f"Seq Scan on {TABLE}" not in plan, (query, asked["sql"], plan)
    assert looked > 30
