"""The pages' addresses, where they lead, and what they say when the database is away."""

import pytest
from django.contrib import admin
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from django.db import connections as databases
from django.urls import path

from rmq_publisher.admin import PublishFailureAdminMixin
from rmq_publisher.modeladmin import changelist
from rmq_publisher.models import PublishFailure
from tests.support.admin_rows import failure, fresh_broker, operator, text, url

pytestmark = pytest.mark.django_db

second = admin.AdminSite("second")
second.register(PublishFailure, type(admin.site._registry[PublishFailure]))
urlpatterns = [path("admin/", admin.site.urls), path("second/", second.urls)]

LIST = "/second/rmq_publisher/publishfailure/"
# Address, whether it takes a row, method.
ASKING = [
    ("changelist", False, "get"),
    ("changelist", False, "post"),
    ("live", False, "get"),
    ("retry_all", False, "get"),
    ("retry_all", False, "post"),
    ("change", True, "get"),
    ("history", True, "get"),
    ("body", True, "get"),
    ("retry", True, "post"),
    ("discard", True, "post"),
]


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def ask(browser, what, of_row, method):
    """One of the pages, of the row with the id 1."""
    data = {"confirmed": "1", "action": "retry_selected", "_selected_action": "1"}
    address = url(what, *([1] if of_row else []))
    return getattr(browser, method)(address, data if method == "post" else {})


# -- a page of the list that has gone -----------------------------------------------------------


@pytest.fixture
def _pages_of_two(monkeypatch):
    monkeypatch.setattr(changelist.FailureListMixin, "list_per_page", 2)
    for number in range(5):
        failure(message_id=f"m{number}", ago=number)
    failure(message_id="dead", state="dead")


@pytest.mark.parametrize("what", ["changelist", "live"])
@pytest.mark.usefixtures("_pages_of_two")
def test_a_page_that_has_gone_is_the_last_one(what):
    browser = operator()
    for gone in ("4", "19", "9" * 40):
        page = browser.get(f"{url(what)}?state=failed&p={gone}")
        assert page.status_code == 200
        assert [row.message_id for row in page.context["cl"].result_list] == ["m4"]
        assert page.context["cl"].page_num == 3
    PublishFailure.objects.filter(message_id__in=("m2", "m3", "m4")).delete()
    page = browser.get(f"{url(what)}?state=failed&p=3")
    assert [row.message_id for row in page.context["cl"].result_list] == ["m0", "m1"]


@pytest.mark.parametrize("number", ["0", "-1", "-99"])
@pytest.mark.usefixtures("_pages_of_two")
def test_a_page_that_never_was_is_refused(number):
    answer = operator().get(f"{url('changelist')}?state=failed&p={number}")
    assert (answer.status_code, answer["Location"]) == (302, f"{url('changelist')}?e=1")


@pytest.mark.usefixtures("_pages_of_two")
def test_all_that_match_are_found_from_a_page_that_has_gone():
    page = operator().get(f"{url('retry_all')}?state=failed&p=19")
    assert (page.status_code, page.context["count"]) == (200, 5)


# -- the database ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "of_row", "method"), ASKING)
def test_without_the_table_every_page_says_so(what, of_row, method):
    browser = operator()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rmq_publisher_outboxmessage RENAME TO away")
    page = ask(browser, what, of_row, method)
    assert page.status_code == 503
    assert "manage.py migrate rmq_publisher --database default" in text(page)


@pytest.mark.parametrize(("what", "of_row", "method"), ASKING)
def test_postgresql_calls_it_another_error(monkeypatch, what, of_row, method):
    def missing(*args, **options):
        raise ProgrammingError('relation "rmq_publisher_outboxmessage" does not exist')

    browser = operator()
    monkeypatch.setattr(PublishFailureAdminMixin, "rows", missing)
    monkeypatch.setattr(connection.introspection, "table_names", lambda: ["auth_user"])
    page = ask(browser, what, of_row, method)
    assert page.status_code == 503
    assert "manage.py migrate rmq_publisher --database default" in text(page)


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize(("what", "of_row", "method"), ASKING)
def test_while_the_database_is_away_every_page_says_so(monkeypatch, what, of_row, method, error):
    def away(*args, **options):
        raise error("no answer")

    browser = operator()
    monkeypatch.setattr(PublishFailureAdminMixin, "rows", away)
    monkeypatch.setattr(connection.introspection, "table_names", away)
    page = ask(browser, what, of_row, method)
    assert page.status_code == 503
    assert "is unavailable" in text(page)


@pytest.mark.parametrize(("what", "of_row", "method"), ASKING)
def test_other_errors_of_the_database_are_not_hidden(monkeypatch, what, of_row, method):
    def broken(*args, **options):
        raise OperationalError("too many variables")

    browser = operator()
    browser.raise_request_exception = False
    monkeypatch.setattr(PublishFailureAdminMixin, "rows", broken)
    assert ask(browser, what, of_row, method).status_code == 500


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("what", "of_row", "method"), ASKING)
def test_no_transaction_is_around_a_page(monkeypatch, what, of_row, method):
    """With ATOMIC_REQUESTS, too: in one that an error has ended nobody could ask what is amiss."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    atomic = []
    rows = PublishFailureAdminMixin.rows

    def watched(self):
        atomic.append(databases["default"].in_atomic_block)
        return rows(self)

    browser = operator()
    monkeypatch.setattr(PublishFailureAdminMixin, "rows", watched)
    ask(browser, what, of_row, method)
    assert set(atomic) == {False}


def test_the_database_is_the_one_that_is_written_to(settings):
    class Replica:
        def db_for_read(self, model, **hints):
            return "other"

        def db_for_write(self, model, **hints):
            return "default"

    settings.DATABASE_ROUTERS = [Replica()]
    assert admin.site._registry[PublishFailure].get_database() == "default"


# -- another admin site ---------------------------------------------------------------------------


def test_addresses_stay_on_the_site_that_they_were_opened_on(settings):
    settings.ROOT_URLCONF = __name__
    row = failure(state="dead")
    browser = operator()
    page = text(browser.get(LIST))
    assert f'data-url="{LIST}live/"' in page
    assert f'href="{LIST}retry-all/' in page
    assert f'href="{LIST}{row.pk}/change/' in page
    assert f'href="{LIST}?state=dead"' in text(browser.get(f"{LIST}retry-all/?state=dead"))
    assert browser.post(f"{LIST}retry-all/")["Location"] == LIST
    assert f'href="{LIST}{row.pk}/change/"' in text(browser.post(f"{LIST}{row.pk}/discard/"))
    answer = browser.post(f"{LIST}{row.pk}/retry/")
    assert answer["Location"] == f"{LIST}{row.pk}/change/"
