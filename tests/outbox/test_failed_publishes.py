"""Where a failed publish is stored, and what is said when that is nowhere."""

import logging

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.db import connections as databases
from django.test import override_settings

from rmq_publisher import publish, signals
from rmq_publisher.outbox import failed_publishes, transitions
from tests.support.transactions import Undo

both = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _no_broker(settings):
    settings.RMQ_URL = "amqp://guest:guest@127.0.0.1:9/"


@pytest.fixture
def told():
    """What publish_failed says."""
    heard = []

    def receive(**arguments):
        heard.append(arguments)

    signals.publish_failed.connect(receive)
    yield heard
    signals.publish_failed.disconnect(receive)


@pytest.fixture
def never_migrated(django_db_blocker):
    """``other`` has no tables of ours."""
    call_command("migrate", "rmq_publisher", "zero", database="other", verbosity=0)
    yield
    with django_db_blocker.unblock():
        call_command("migrate", "rmq_publisher", database="other", verbosity=0)


def ids(alias):
    return list(transitions.messages(alias).values_list("message_id", flat=True))


def lost(caplog):
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    return record.getMessage()


class OnlyDefault:
    """A router that keeps our table out of ``other``."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "default" if app_label == "rmq_publisher" else None


class OnlyOther:
    """A router that has our table in ``other`` only."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "other" if app_label == "rmq_publisher" else None

    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "rmq_publisher" else None


@both
@pytest.mark.parametrize(
    ("router", "database", "home"),
    [(OnlyOther, "default", "other"), (OnlyDefault, "other", "default")],
)
def test_a_failure_goes_where_the_router_has_the_table(settings, told, router, database, home):
    settings.DATABASE_ROUTERS = [router()]
    with transaction.atomic(using=database):
        id_ = publish("x", queue="q")
    assert (ids(home), ids(database)) == ([id_], [])
    assert [one["will_retry"] for one in told] == [True]


@both
def test_a_failure_goes_to_a_database_that_was_migrated(never_migrated, told):
    with transaction.atomic(using="other"):
        id_ = publish("x", queue="q")
    assert ids("default") == [id_]
    assert [one["will_retry"] for one in told] == [True]


@both
def test_the_database_of_the_transaction_comes_first(told):
    with transaction.atomic(using="other"):
        id_ = publish("x", queue="q")
    assert (ids("other"), ids("default")) == ([id_], [])


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_row_does_not_share_the_fate_of_another_transaction(store, settings, told):
    """A transaction that is still open where the row goes may be rolled back."""
    settings.DATABASE_ROUTERS = [ToStore(store)]
    with pytest.raises(Undo), transaction.atomic(using=store):  # noqa: PT012
        with transaction.atomic(using="default"):
            id_ = publish("x", queue="q", database="default")
        raise Undo
    assert ids(store) == [id_]


class ToStore:
    """A router that has our table in one database only."""

    def __init__(self, alias):
        self.alias = alias

    def allow_migrate(self, db, app_label, **hints):
        return db == self.alias if app_label == "rmq_publisher" else None

    def db_for_write(self, model, **hints):
        return self.alias if model._meta.app_label == "rmq_publisher" else None


@both
def test_without_any_table_the_line_names_the_commands(never_migrated, settings, told, caplog):
    settings.DATABASE_ROUTERS = [OnlyOther()]
    id_ = publish("x", queue="q", database="default")
    line = lost(caplog)
    assert id_ in line
    assert "DATABASE_ROUTERS keep rmq_publisher's table out of it" in line
    assert "run manage.py migrate rmq_publisher --database other" in line
    assert [one["will_retry"] for one in told] == [False]


@both
def test_without_the_table_the_error_of_the_outbox_names_the_command(never_migrated):
    with pytest.raises(DatabaseError) as caught:
        publish("x", queue="q", database="other", delivery="outbox")
    [note] = caught.value.__notes__
    assert "run manage.py migrate rmq_publisher --database other" in note


@both
def test_where_the_app_is_not_installed_the_line_says_so(told, caplog):
    others = [app.name for app in apps.get_app_configs() if app.name != "rmq_publisher"]
    with override_settings(INSTALLED_APPS=others):
        id_ = publish("x", queue="q")
    assert id_ in lost(caplog)
    assert 'add "rmq_publisher" to INSTALLED_APPS' in lost(caplog)
    assert [one["will_retry"] for one in told] == [False]


@both
@pytest.mark.parametrize(
    "error",
    [ImproperlyConfigured("no ENGINE"), OSError(24, "files"), RuntimeError("r"), KeyError("k")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_database_raises_the_view_does_not_see_it(monkeypatch, told, caplog, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(failed_publishes, "_write_failures", fails)
    id_ = publish("x", queue="q")
    assert id_ in lost(caplog)
    assert type(error).__name__ in lost(caplog)
    assert [one["will_retry"] for one in told] == [False]


def test_without_a_database_it_is_lost_with_a_line(monkeypatch, told, caplog):
    """DATABASES = {} is what Django makes a dummy of."""
    entry = databases.configure_settings({})["default"]
    del databases["default"]
    monkeypatch.setitem(databases.databases, "default", entry)
    try:
        id_ = publish("x", queue="q")
    finally:
        del databases["default"]
    assert id_ in lost(caplog)
    assert [one["will_retry"] for one in told] == [False]
