"""The admin's page of publish failures: the list, the strip above it, and one failure's page."""

import json
import re

import pytest
from django.contrib import admin
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from rmq_publisher.admin import PublishFailureAdminMixin
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import bounded_list, changelist
from rmq_publisher.modeladmin.chart import HEIGHT, LEAST, chart
from rmq_publisher.models import OutboxMessage, PublishCount, PublishFailure, RelaySeen
from rmq_publisher.monitoring import broker_status, outbox_stats
from tests.support.admin_rows import client, failure, fresh_broker, operator, text, url

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def listed(browser, query=""):
    """The message ids of the list, in order."""
    page = browser.get(url("changelist") + query)
    assert page.status_code == 200, page
    return [row.message_id for row in page.context["cl"].result_list]


def cells(page):
    """The text of the list's first row, by column."""
    table = text(page).partition('id="result_list"')[2]
    row = re.search(r"<tbody>\s*<tr>(.*?)</tr>", table, re.DOTALL)[1]
    found = re.findall(r'class="field-(\w+)[^>]*>(.*?)</t[dh]>', row, re.DOTALL)
    return {name: re.sub(r"<[^>]+>", " ", cell).strip() for name, cell in found}


# -- the list -----------------------------------------------------------------------------------


def test_the_columns_say_what_happened():
    failure(
        message_id="m1", exchange="shop", routing_key="orders.placed", attempts=2, unanswered=1,
        body=b"x" * 2048, available_at=DatabaseNow(185),
    )  # fmt: skip
    page = operator().get(url("changelist"))
    shown = cells(page)
    assert shown["message"] == "m1"
    assert shown["state_shown"] == "failed"
    assert shown["failed_shown"].startswith("1 minute ago")
    assert shown["using_shown"] == "default"
    assert re.fullmatch(r"shop\s+orders.placed", shown["destination_shown"])
    assert re.fullmatch(r"No matching queue \(312\)\s+NO_ROUTE", shown["error_shown"])
    assert shown["attempts_shown"] == "3"
    assert shown["next_shown"].startswith("in 3 minutes")
    assert shown["size_shown"] == "2.0\xa0KB"
    row = PublishFailure.objects.get()
    assert f'<time datetime="{row.last_failed_at.isoformat()}" title="' in text(page)


@pytest.mark.parametrize(
    ("columns", "state", "following"),
    [
        ({"state": "dead"}, "dead", "needs a decision"),
        ({"state": "delivered"}, "delivered", "-"),
        ({"state": "failed", "available_at": DatabaseNow(-1)}, "failed", "due"),
        (
            {"state": "failed", "token": 5, "available_at": DatabaseNow(50)},
            "being sent",
            "being sent",
        ),
        (
            {"state": "dead", "token": 5, "available_at": DatabaseNow(50)},
            "being sent",
            "being sent",
        ),
        ({"state": "failed", "token": 5, "available_at": DatabaseNow(-50)}, "failed", "due"),
    ],
)
def test_what_comes_next(columns, state, following):
    failure(**columns)
    shown = cells(operator().get(url("changelist") + "?state=all"))
    assert (shown["state_shown"], shown["next_shown"]) == (state, following)


def test_messages_that_never_failed_are_not_there():
    row = failure()
    OutboxMessage.objects.filter(pk=row.pk).update(failed_at=None, state="pending")
    browser = operator()
    assert listed(browser) == []
    answer = browser.get(url("change", row.pk))
    assert answer.status_code == 302
    assert answer.url == reverse("admin:index")


def test_the_latest_comes_first_and_the_order_can_be_turned():
    for number, ago in enumerate((30, 10, 20)):
        failure(message_id=f"m{number}", ago=ago)
    browser = operator()
    assert listed(browser) == ["m1", "m2", "m0"]
    assert listed(browser, "?o=3") == ["m0", "m2", "m1"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=unresolved", "abd"),
        ("state=failed", "ab"),
        ("state=dead", "d"),
        ("state=delivered", "c"),
        ("state=nonsense", ""),
        ("error=Rejected", "bd"),
        ("error=Unroutable&state=all", "ac"),
        ("using=default&state=all", "abc"),
        ("", "abd"),
        ("state=all", "abcd"),
        ("error=Rejected:403", "bd"),
        ("error=Rejected:404", ""),
        ("error=:404", ""),
        ("error=Rejected:٣٣٣", ""),
        ("using=audit", "d"),
        ("exchange=&state=all", "acd"),
        ("exchange=shop", "b"),
        ("since=hour", "a"),
        ("since=day", "ab"),
        ("since=week", "ab"),
        ("state=unresolved&error=Rejected&since=day", "b"),
        ("q=b", "b"),
        ("q=corr-c", "c"),
        ("q=RDERS.pla", "d"),
        ("q=access_ref", "bd"),
        ("q=unroutable", "ac"),
        ("q=nothing", ""),
        ("q=+", "abd"),
    ],
)
def test_filters_and_search(query, expected):
    hour = 3600
    refused = ("Rejected", 403, "ACCESS_REFUSED")
    failure(message_id="a", ago=60)
    failure(message_id="b", ago=3 * hour, exchange="shop", error=refused)
    failure(message_id="c", ago=100 * hour, state="delivered", correlation_id="corr-c")
    failure(
        message_id="d", ago=200 * hour, state="dead", using="audit", routing_key="orders.placed",
        error=refused,
    )  # fmt: skip
    assert "".join(listed(operator(), f"?{query}")) == expected


@pytest.mark.parametrize("query", ["exchange=%00", "since=year", "using=a%00", "q=%00", "p=99"])
def test_addresses_that_name_nothing(query):
    """PostgreSQL would raise on NUL."""
    failure()
    answer = operator().get(f"{url('changelist')}?{query}", follow=True)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "query", ["body__contains=x", "header__startswith=x", "message_id__startswith=m", "token=5"]
)
@pytest.mark.parametrize("what", ["changelist", "live", "retry_all"])
def test_nobody_asks_for_what_is_in_a_body_by_conditions_on_it(query, what):
    failure()
    assert operator().get(f"{url(what)}?{query}").status_code == 400


def test_bodies_are_not_read_and_nothing_is_counted(monkeypatch):
    """What makes the list fast however large the table is; the times are told by a benchmark."""
    for number in range(12):
        failure(ago=number)
    browser = operator()
    browser.get(url("changelist"))
    with CaptureQueriesContext(
        connection,
    ) as few:
        browser.get(url("changelist"))
    monkeypatch.setattr(changelist.FailureListMixin, "list_per_page", 5)
    with CaptureQueriesContext(connection) as many:
        page = browser.get(url("changelist") + "?p=2")
    assert len(page.context["cl"].result_list) == 5
    assert len(many) == len(few)
    ours = [
        query["sql"] for query in many
        if 'FROM "rmq_publisher_outboxmessage"' in query["sql"]
    ]  # fmt: skip
    assert len(ours) >= 3
    for sql in ours:
        assert "LIMIT" in sql or '"id" IN (' in sql, sql
        for column in ("body", "header", "topology", "history"):
            assert f'"{column}"' not in sql, sql


def test_only_so_many_are_paged_through(monkeypatch):
    monkeypatch.setattr(bounded_list, "LISTED_MAX", 7)
    monkeypatch.setattr(changelist.FailureListMixin, "list_per_page", 5)
    for number in range(9):
        failure(message_id=f"m{number}", ago=number)
    browser = operator()
    page = browser.get(url("changelist"))
    assert page.context["cl"].result_count == 7
    assert "Only the first 7 are listed" in text(page)
    assert listed(browser, "?p=2") == ["m5", "m6"]


def test_the_registered_page_is_the_mixin_that_themes_take():
    page = admin.site._registry[PublishFailure]
    assert isinstance(page, PublishFailureAdminMixin)


# -- the strip ----------------------------------------------------------------------------------


def strip(browser, query=""):
    return browser.get(url("changelist") + query).context["strip"]


def test_the_tiles():
    failure()
    failure(state="dead")
    failure(state="dead")
    failure(state="delivered")
    PublishCount.objects.create(minute=DatabaseNow(-60), using="default", published=1234, failed=3)
    RelaySeen.objects.create(name="r", started_at=DatabaseNow(-90), seen_at=DatabaseNow(-5))
    shown = strip(operator())
    values = {tile["label"]: tile["value"] for tile in shown["tiles"]}
    assert values["Unresolved"] == "3"
    assert values["Dead"] == "2"
    assert values["Pending"] == "0"
    assert values["Published, 24\N{NO-BREAK SPACE}h"] == "1\u202f234"
    assert values["Failed, 24\N{NO-BREAK SPACE}h"] == "3"
    assert values["Relay"] == "1 running"
    notes = {tile["label"]: tile.get("note") for tile in shown["tiles"]}
    assert re.fullmatch(r"seen [567] seconds ago", notes["Relay"])
    assert notes["Pending"] == ""
    assert shown["warnings"] == []
    assert shown["announcement"] == "3 unresolved, including 2 dead"


def test_numbers_that_are_cut_say_so(monkeypatch):
    whole = outbox_stats.summary
    monkeypatch.setattr(
        outbox_stats, "summary", lambda database, at_most: whole(database, at_most=2)
    )
    for _ in range(3):
        failure(state="dead")
    values = {tile["label"]: tile["value"] for tile in strip(operator())["tiles"]}
    assert values["Dead"] == values["Unresolved"] == "2 or more"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [(None, "No relay has ever run"), (-600, "last seen 10 minutes ago"), (-5, "")],
)
def test_a_relay_that_is_missing_is_told(seen, expected):
    if seen is not None:
        RelaySeen.objects.create(name="r", started_at=DatabaseNow(-900), seen_at=DatabaseNow(seen))
    failure()
    browser = operator()
    for page in (browser.get(url("changelist")), browser.get(url("retry_all"))):
        assert (expected in text(page)) if expected else ("Attention" not in text(page))


@pytest.mark.parametrize(("period", "buckets"), [("60m", 60), ("24h", 96), ("7d", 84), ("x", 60)])
def test_the_chart(period, buckets, monkeypatch):
    asked = []
    series = outbox_stats.series
    monkeypatch.setattr(
        outbox_stats, "series", lambda *args: asked.append(found := series(*args)) or found
    )
    PublishCount.objects.create(minute=DatabaseNow(-60), using="default", published=90, failed=2)
    PublishCount.objects.create(minute=DatabaseNow(-120), using="audit", published=1, failed=0)
    page = operator().get(f"{url('changelist')}?period={period}&state=dead")
    assert len(asked[0]) == buckets
    assert page.context["strip"]["chart"].published == 91
    assert ": 91 published, 2 failed</title>" in text(page)
    assert "Show as a table" in text(page)
    # The filter stays when the period changes.
    assert all("state=dead" in address for address, *_ in page.context["strip"]["periods"])


def test_a_single_failure_among_thousands_is_seen():
    def bucket(published, failed):
        row = failure()
        return outbox_stats.Bucket(row.created_at, published, failed)

    drawn = chart([bucket(100_000, 1000), bucket(0, 0), bucket(1, 1)])
    assert [bar.up for bar in drawn.bars] == [HEIGHT - LEAST, LEAST]
    assert [bar.down for bar in drawn.bars] == [LEAST, LEAST]
    assert len(drawn.rows) == 2


def test_brokers_are_shown_by_their_state(monkeypatch):
    queues = (
        broker_status.QueueDepth("orders", 3, 1),
        broker_status.QueueDepth("gone", error="404 <b>"),
    )
    found = [
        broker_status.BrokerStatus(
            "default", "up", "h:5672", "/", "RabbitMQ 4.0.5", 12.4, queues=queues
        ),
        broker_status.BrokerStatus("audit", "down", "h:1", "/", error="refused <script>"),
        broker_status.BrokerStatus("slow", "blocked", "h:2", "/", error="low on memory"),
        broker_status.BrokerStatus("new"),
    ]
    monkeypatch.setattr(broker_status, "statuses", lambda: found)
    page = text(operator().get(url("changelist")))
    for words in (
        "RabbitMQ 4.0.5",
        "connected in 12 ms",
        "refused &lt;script&gt;",
        "404 &lt;b&gt;",
    ):
        assert words in page
    for state in (">up<", ">down<", ">blocked<", ">checking<"):
        assert state in page


def test_a_dead_broker_is_not_waited_for(settings):
    """Nobody answers at its address: the page asks the memory of what was looked up."""
    settings.RMQ_URL = "amqp://guest:guest@127.0.0.1:9/"
    settings.RMQ_CONNECT_TIMEOUT = 30
    page = operator().get(url("changelist"))
    assert page.status_code == 200
    assert page.context["strip"]["brokers"][0]["state"] in ("unknown", "down")
    broker_status.join(10)


# -- empty and broken ---------------------------------------------------------------------------


def test_nothing_has_failed_yet():
    browser = operator()
    assert "Nothing has failed yet" in text(browser.get(url("changelist")))
    failure()
    assert "No failure matches the filters" in text(browser.get(url("changelist") + "?q=zzz"))


@pytest.mark.parametrize("table", ["outboxmessage", "publishcount", "relayseen"])
@pytest.mark.parametrize("what", ["changelist", "live"])
def test_a_database_without_the_tables(table, what):
    browser = operator()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE rmq_publisher_{table} RENAME TO away")
    page = browser.get(url(what))
    assert page.status_code == 503
    assert "manage.py migrate rmq_publisher --database default" in text(page)


def test_other_errors_of_the_database_are_not_hidden(monkeypatch):
    def broken(database, at_most):
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM rmq_publisher_outboxmessage")

    monkeypatch.setattr(outbox_stats, "summary", broken)
    browser = operator()
    browser.raise_request_exception = False
    assert browser.get(url("changelist")).status_code == 500


def test_a_database_that_is_away(monkeypatch):
    def away(*args, **options):
        raise OperationalError("no answer")

    browser = operator()
    monkeypatch.setattr(outbox_stats, "summary", away)
    monkeypatch.setattr(connection.introspection, "table_names", away)
    page = browser.get(url("changelist"))
    assert page.status_code == 503
    assert "is unavailable" in text(page)


# -- the page of one failure --------------------------------------------------------------------


def detail(row, browser=None):
    return text((browser or operator()).get(url("change", row.pk)))


def test_all_that_is_known_of_a_message():
    row = failure(
        message_id="m-1", ordering_key="customer-7", attempts=3, unanswered=2,
        properties={"content_type": "text/plain", "priority": 7, "headers": {"tenant": "acme"}},
    )  # fmt: skip
    page = detail(row)
    for words in (
        "m-1", "customer-7", "No matching queue (312)", "NO_ROUTE", "content_type", "text/plain",
        "priority", "tenant", "acme", "python manage.py rmq_retry m-1",
    ):  # fmt: skip
        assert words in page, words
    assert 'title="2026-01-02 03:04:05.000+00:00"' in page


def test_every_attempt_is_shown_with_its_outcome():
    row = failure(state="delivered")
    row.history = [
        {"at": "2026-01-02T03:04:05+00:00", "type": "Nacked", "code": None, "text": "full"},
        {"at": "2026-01-02T03:05:05+00:00", "type": "Rejected", "code": 404, "text": "none"},
    ]
    row.save()
    page = operator().get(url("change", row.pk))
    outcomes = [attempt["outcome"] for attempt in page.context["attempts"]]
    assert outcomes == ["Confirmed", "Rejected by RabbitMQ (404)", "Refused by a queue"]


@pytest.mark.parametrize(
    ("columns", "retry", "discard"),
    [
        ({}, "", ""),
        ({"state": "dead"}, "", ""),
        ({"token": 5, "available_at": DatabaseNow(50)}, "being sent", "being sent"),
        ({"token": 5, "available_at": DatabaseNow(-1)}, "", ""),
        ({"ordering_key": "k"}, "Retry or discard message earlier first", ""),
    ],
)
def test_buttons_are_off_with_the_reason(columns, retry, discard):
    failure(message_id="earlier", state="dead", ordering_key="k")
    failure(message_id="other", state="dead", ordering_key="other")
    row = failure(**columns)
    page = detail(row)
    for what, reason in (("retry", retry), ("discard", discard)):
        form = re.search(rf'action="{url(what, row.pk)}">(.*?)</form>', page, re.DOTALL)[1]
        assert reason in form
        assert (" disabled" in form) is bool(reason)


@pytest.mark.parametrize(
    ("message_id", "command"),
    [
        ("it's; rm", "rmq_retry &#x27;it&#x27;&quot;&#x27;&quot;&#x27;s; rm&#x27;"),
        ("-x", "rmq_retry -- -x"),
        ("a\u202eb", None),
    ],
)
def test_the_command_can_be_pasted(message_id, command):
    page = detail(failure(message_id=message_id))
    assert (command in page) if command else ("rmq_retry" not in page)


def test_payload_is_for_those_who_may_see_it():
    row = failure(body=b'"secret-body"', properties={"headers": {"x-key": "secret-value"}})
    seen = detail(row)
    assert "secret-body" in seen
    assert "secret-value" in seen
    unseen = detail(row, client("view_publishfailure"))
    for secret in ("secret-body", "secret-value", "x-key"):
        assert secret not in unseen
    assert "1 header, hidden." in unseen


def test_a_body_is_downloaded_as_bytes(settings):
    settings.SECURE_CONTENT_TYPE_NOSNIFF = False  # Django's own; ours does not hang on it
    row = failure(message_id='a"b\r\nX: y/ü', body=bytes(range(256)))
    answer = operator().get(url("body", row.pk))
    assert answer.content == bytes(range(256))
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="a_b__X__y__.bin"'
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("object_id", ["x", "-1", "9" * 40, "1_0", "%00"])
def test_ids_of_nothing(object_id):
    browser = operator()
    for what in ("change", "body"):
        assert browser.get(url(what, object_id)).status_code == 302
    for what in ("retry", "discard"):
        assert browser.post(url(what, object_id)).status_code == 302


def test_redaction_reaches_pages_downloads_and_exports(monkeypatch):
    def redact_body(self, request, message, body):
        assert request.user.is_staff
        assert message.message_id == "m"
        return body.replace(b"4111", b"****")

    def redact_headers(self, request, message, headers):
        return {**headers, "authorization": "***"}

    monkeypatch.setattr(PublishFailureAdminMixin, "redact_body", redact_body)
    monkeypatch.setattr(PublishFailureAdminMixin, "redact_headers", redact_headers)
    row = failure(
        message_id="m", body=b'{"card": "4111"}',
        properties={"headers": {"authorization": "bearer", "other": "shown"}},
    )  # fmt: skip
    browser = operator()
    data = {"action": "export_json", "_selected_action": [row.pk]}
    exported = b"".join(browser.post(url("changelist"), data).streaming_content).decode()
    for page in (detail(row, browser), exported):
        assert "4111" not in page
        assert "bearer" not in page
        assert "shown" in page
    assert browser.get(url("body", row.pk)).content == b'{"card": "****"}'
    assert json.loads(exported)[0]["headers"]["authorization"] == "***"
