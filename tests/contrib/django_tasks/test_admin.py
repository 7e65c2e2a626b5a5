"""The page of tasks: what it shows, what is hidden, who may do what, and what that does."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connections as databases
from django.test.utils import CaptureQueriesContext

from rmq_publisher.contrib.django_tasks.admin import TaskRecordAdmin
from rmq_publisher.contrib.django_tasks.modeladmin import dashboard
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.models import OutboxMessage
from tests.support.admin_rows import fresh_broker, hidden, text, told
from tests.support.task_rows import (
    TASK_PERMISSIONS,
    TASKS,
    act_on_tasks,
    task,
    task_client,
    task_operator,
    task_url,
    worker,
)

pytestmark = pytest.mark.django_db

VIEW, RETRY, CANCEL, DELETE, PAYLOAD = TASK_PERMISSIONS
SECRETS = ("value-of-an-argument", "4111", "value-of-a-result", "value-of-a-traceback")


@pytest.fixture(autouse=True)
def tasks(settings: Any) -> None:
    settings.RMQ_URL = "memory://"
    settings.TASKS = TASKS
    fresh_broker()


def shown(query: str = "") -> str:
    return text(task_operator().get(task_url("changelist") + query))


def listed(query: str = "") -> list[str]:
    """The paths of the list's tasks, in its order."""
    page = shown(query)
    return re.findall(r'<th class="field-task">.*?<bdi [^>]*>([^<]*)</bdi>', page, re.DOTALL)


# -- the list ----------------------------------------------------------------------------------------


def test_it_lists_tasks_by_status_and_path() -> None:
    task("READY", task_path="a.ready", ago=5)
    task("RUNNING", task_path="b.running", ago=10)
    task("FAILED", task_path="c.failed", ago=15)
    found = task("SUCCESSFUL", task_path="d.successful", ago=20)
    assert listed() == ["a.ready", "b.running", "c.failed", "d.successful"]
    assert listed("?status=FAILED") == ["c.failed"]
    assert listed("?path=b.running") == ["b.running"]
    assert listed(f"?q={found.pk}") == ["d.successful"]
    assert listed("?q=a.ready") == ["a.ready"]
    assert listed("?q=RUNN") == ["b.running"]
    assert listed("?status=never") == []


def test_it_counts_each_status_and_the_workers() -> None:
    for status, number in (("READY", 3), ("RUNNING", 1), ("FAILED", 2)):
        for _ in range(number):
            task(status)
    page = shown()
    for label, number in (("Ready", 3), ("Running", 1), ("Failed", 2), ("Successful", 0)):
        assert f'aria-label="{label}: {number}"' in page
    assert "no worker is running on this database" in page
    worker()
    page = shown()
    assert "no worker is running" not in page
    assert "1 running" in page


def test_the_chart_counts_what_finished() -> None:
    for _ in range(3):
        task("SUCCESSFUL", ago=120)
    task("FAILED", ago=120)
    task("RUNNING", ago=120)
    page = shown()
    assert "3 successful, 1 failed" in page
    assert re.search(r"Since .*: 3 successful, 1 failed</title>", page)
    assert "No task finished in this period." not in page
    finished = TaskRecord.objects.filter(finished_at__isnull=False)
    finished.update(finished_at=DatabaseNow(-7200))
    assert "No task finished in this period." in shown()
    assert "3 successful, 1 failed" in shown("?period=24h")


def test_the_chart_says_where_it_stopped_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "CHARTED_MAX", 2)
    task("SUCCESSFUL")
    assert "Only the latest" not in shown()
    for _ in range(2):
        task("SUCCESSFUL")
    assert "Only the latest 2 tasks are counted." in shown()


def test_a_status_says_what_a_ready_task_waits_for() -> None:
    task(run_after=DatabaseNow(3600))
    assert ">scheduled<" in shown()
    task(retry_at=DatabaseNow(60), attempts=1)
    assert ">to be retried<" in shown()
    assert 'rmq-ready">ready<' not in shown("?status=READY")


def test_the_list_shows_how_long_it_took_and_who_ran_it() -> None:
    task("SUCCESSFUL")
    page = shown()
    assert re.search(r'<td class="field-took_shown">2[45]\d ms</td>', page)
    assert "worker-1" in page
    for secret in SECRETS:
        assert secret not in page


def test_the_empty_list_says_why() -> None:
    assert "No task has been enqueued yet" in shown()
    task()
    assert "No task matches the filters" in shown("?status=FAILED")


# -- one task ----------------------------------------------------------------------------------------


def test_a_task_shows_all_that_is_known() -> None:
    done, failed = task("SUCCESSFUL"), task("FAILED")
    page = text(task_operator().get(task_url("change", done.pk)))
    for said in ("value-of-an-argument", "4111", "value-of-a-result", "worker-1", done.pk):
        assert said in page
    page = text(task_operator().get(task_url("change", failed.pk)))
    for said in ("shop.errors.NoAddressError", "value-of-a-traceback", "1 (failed: 1)"):
        assert said in page


def test_only_who_may_sees_arguments_results_and_tracebacks() -> None:
    for row in (task("SUCCESSFUL"), task("FAILED")):
        page = text(task_client(VIEW).get(task_url("change", row.pk)))
        for secret in SECRETS:
            assert secret not in page
    assert "shop.errors.NoAddressError" in page


def test_a_project_hides_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def arguments(self: Any, request: Any, task: Any, args: Any, kwargs: Any) -> Any:
        return ["***"], {"card": "***"}

    monkeypatch.setattr(TaskRecordAdmin, "redact_arguments", arguments)
    monkeypatch.setattr(TaskRecordAdmin, "redact_result", lambda *_: "hidden result")
    monkeypatch.setattr(TaskRecordAdmin, "redact_traceback", lambda *_: "hidden traceback")
    pages = [
        text(task_operator().get(task_url("change", row.pk)))
        for row in (task("SUCCESSFUL"), task("FAILED"))
    ]
    for secret in SECRETS:
        assert secret not in "".join(pages)
    assert "hidden result" in pages[0]
    assert "hidden traceback" in pages[1]


def test_hostile_values_are_escaped() -> None:
    bad = "<script>x</script>"
    row = task("FAILED", task_path=bad, queue_name=bad, args=f'["{bad}"]')
    row.errors = f'[{{"exception_class_path": "{bad}", "traceback": "{bad}"}}]'
    row.worker_ids = f'["{bad}"]'
    row.save()
    for page in (shown(), text(task_operator().get(task_url("change", row.pk)))):
        assert bad not in page
        assert "&lt;script&gt;" in page


def test_a_task_that_does_not_exist() -> None:
    assert task_operator().get(task_url("change", "no-such-task")).status_code == 302


# -- what it does ------------------------------------------------------------------------------------


def test_a_failed_task_runs_again() -> None:
    failed, ready = task("FAILED"), task("READY")
    said = told(act_on_tasks(task_operator(), "retry_selected", failed, ready))[0]
    assert said.startswith("To run again: 1. Skipped 1: they have not failed.")
    failed.refresh_from_db()
    assert failed.status == "READY"
    assert OutboxMessage.objects.get().message_id == failed.pk
    assert [each.change_message for each in LogEntry.objects.all()] == ["Will run again."]
    other = task("FAILED")
    task_operator().post(task_url("retry", other.pk))
    other.refresh_from_db()
    assert other.status == "READY"


def test_a_ready_task_is_cancelled() -> None:
    ready, running = task("READY"), task("RUNNING")
    said = told(act_on_tasks(task_operator(), "cancel_selected", ready, running))[0]
    assert said.startswith("Cancelled 1. Skipped 1")
    ready.refresh_from_db()
    running.refresh_from_db()
    assert (ready.status, running.status) == ("FAILED", "RUNNING")
    assert "TaskCancelled" in ready.errors


def test_finished_tasks_are_deleted_once_that_is_confirmed() -> None:
    done, failed, ready = task("SUCCESSFUL"), task("FAILED"), task("READY")
    asked = act_on_tasks(task_operator(), "remove_selected", done, failed, ready)
    assert "<strong>2</strong> tasks will be deleted" in text(asked)
    assert "1 more selected task is not counted" in text(asked)
    assert TaskRecord.objects.count() == 3
    fields = {name: values[-1] for name, values in hidden(asked).items()}
    answer = task_operator().post(task_url("changelist"), fields, follow=True)
    assert told(answer)[0].startswith("Deleted 2.")
    assert list(TaskRecord.objects.values_list("pk", flat=True)) == [ready.pk]
    answer = act_on_tasks(task_operator(), "remove_selected", ready, confirmed="1")
    assert told(answer)[0].startswith("Skipped 1: they have not finished.")
    other = task("FAILED")
    asked = task_operator().post(task_url("remove", other.pk))
    assert "<strong>1</strong> task will be deleted" in text(asked)
    task_operator().post(task_url("remove", other.pk), {"confirmed": "1"})
    assert not TaskRecord.objects.filter(pk=other.pk).exists()


def test_a_task_of_an_unknown_backend_is_left_alone() -> None:
    row = task("FAILED", backend="gone")
    said = told(act_on_tasks(task_operator(), "retry_selected", row))[0]
    assert "backend not configured" in said
    row.refresh_from_db()
    assert row.status == "FAILED"


def test_buttons_are_those_that_do_something() -> None:
    for status, wanted in (
        ("READY", {"Cancel"}),
        ("RUNNING", set()),
        ("FAILED", {"Run again", "Delete"}),
        ("SUCCESSFUL", {"Delete"}),
    ):
        page = text(task_operator().get(task_url("change", task(status).pk)))
        buttons = re.findall(r'<button type="submit" class="button[^>]*>([^<]+)</button>', page)
        assert set(buttons) == wanted, status


# -- permissions -------------------------------------------------------------------------------------

SETS = [
    set(chosen)
    for number in range(len(TASK_PERMISSIONS) + 1)
    for chosen in itertools.combinations(TASK_PERMISSIONS, number)
]
# Address, status of its task, method, and what it needs besides `VIEW`; None: nobody may.
ADDRESSES: list[tuple[str, str, str, set[str] | None]] = [
    ("changelist", "", "get", set()),
    ("live", "", "get", set()),
    ("change", "FAILED", "get", set()),
    ("change", "FAILED", "post", None),
    ("history", "FAILED", "get", set()),
    ("retry", "FAILED", "post", {RETRY}),
    ("retry", "FAILED", "get", None),
    ("cancel", "READY", "post", {CANCEL}),
    ("remove", "FAILED", "post", {DELETE}),
    ("remove", "FAILED", "get", None),
    ("add", "", "get", None),
    ("delete", "FAILED", "post", None),
]
ACTIONS = {"retry_selected": RETRY, "cancel_selected": CANCEL, "remove_selected": DELETE}


@pytest.mark.parametrize("permissions", SETS, ids=lambda each: "+".join(sorted(each)) or "none")
def test_who_may_do_what(permissions: set[str]) -> None:
    browser = task_client(*permissions)
    for what, status, method, needed in ADDRESSES:
        address = task_url(what, *([task(status).pk] if status else []))
        answer = getattr(browser, method)(address)
        may = needed is not None and VIEW in permissions and needed <= permissions
        assert (answer.status_code in (200, 302)) is may, (what, method, answer.status_code)
    page = text(browser.get(task_url("changelist")))
    for action, needs in ACTIONS.items():
        assert (action in page) is ({VIEW, needs} <= permissions)
        row = task("READY" if action == "cancel_selected" else "FAILED")
        if VIEW in permissions and needs not in permissions:
            act_on_tasks(browser, action, row, confirmed="1")
            assert TaskRecord.objects.filter(pk=row.pk, status=row.status).exists()


def test_a_form_of_another_site_does_nothing() -> None:
    row = task("FAILED")
    browser = task_client(*TASK_PERMISSIONS, csrf=True)
    for what in ("retry", "remove"):
        assert browser.post(task_url(what, row.pk), {"confirmed": "1"}).status_code == 403
    row.refresh_from_db()
    assert row.status == "FAILED"


# -- beside many ------------------------------------------------------------------------------------

ROWS = 30_000


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_nothing_goes_through_all_tasks(
    store: str, configure: Any, monkeypatch: pytest.MonkeyPatch, rf: Any
) -> None:
    configure()
    table = TaskRecord._meta.db_table
    row = task("SUCCESSFUL")
    TaskRecord(**{field.attname: getattr(row, field.attname) for field in row._meta.fields}).save(
        using=store, force_insert=True
    )
    names = [field.column for field in TaskRecord._meta.fields]
    different = {
        "id": "md5(n::text)",
        "status": "CASE WHEN n % 100 = 0 THEN 'FAILED' WHEN n % 1000 = 1 THEN 'READY' ELSE status END",
        "enqueued_at": "now() - n * interval '1 second'",
        "finished_at": "CASE WHEN n % 1000 = 1 THEN NULL ELSE now() - n * interval '1 second' END",
        "task_path": "'shop.tasks.t' || n % 50",
    }
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(different.get(name, f'"{name}"') for name in names)
    connection = databases[store]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table}, "
            f"generate_series(1, {ROWS}) AS n"
        )
        cursor.execute(f"ANALYZE {table}")
    some_id = TaskRecord.objects.using(store).values_list("pk", flat=True)[100]
    page: Any = admin.site._registry[TaskRecord]
    assert page.get_database() == store
    looked = 0
    for query in ("", "?p=40", "?status=FAILED", "?path=shop.tasks.t7", f"?q={some_id}"):
        request = rf.get(task_url("changelist") + query)
        request.user = superuser()
        with CaptureQueriesContext(connection) as captured:
            assert page.changelist_view(request).render().status_code == 200
        for asked in captured:
            if table not in asked["sql"]:
                continue
            looked += 1
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {asked['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            # The commonest status is counted as far as the page counts, in no order.
            if "LIMIT 3000" not in asked["sql"]:
                assert f"Seq Scan on {table}" not in plan, (query, asked["sql"], plan)
    assert looked > 20


def superuser() -> Any:
    from django.contrib.auth.models import User  # noqa: PLC0415

    return User(is_superuser=True, is_staff=True, is_active=True)
