"""The system checks: every problem with a stable id and a mend, and no broker needed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core import checks as django_checks
from django.core.management import call_command
from django.db import connections as databases

from rmq_publisher import checks
from rmq_publisher.amqp.entities import ExchangeConfig, QueueConfig
from rmq_publisher.transport.handler import connections
from tests.support.configured import configurer

# Django 6.1 runs the checks of databases by default.
pytestmark = pytest.mark.django_db(databases="__all__")
URL = "amqps://shop@broker.example/"
GOOD = {"URL": URL, "PASSWORD": "secret-1"}


@pytest.fixture
def configure(settings):
    settings.INSTALLED_APPS = ["rmq_publisher"]
    return configurer(settings)


def found(*, deploy: bool = False) -> list[str]:
    """Ids of what our checks say, without the package's name."""
    messages = said(deploy=deploy)
    assert all(message.hint and message.id for message in messages)
    return [message.id.removeprefix("rmq_publisher.") for message in messages]


def said(*, deploy: bool = False) -> list[django_checks.CheckMessage]:
    return django_checks.run_checks(tags=[checks.TAG], include_deployment_checks=deploy)


def only(*, deploy: bool = False) -> django_checks.CheckMessage:
    [message] = said(deploy=deploy)
    return message


def test_nothing_to_say(configure):
    configure(**GOOD)
    assert found(deploy=True) == []


def test_every_problem_is_shown_with_its_level_and_mend(configure):
    configure(URL=URL, HEARTBEAT=0, DELIVRY="now")
    unknown, wrong = said()
    assert (unknown.id, wrong.id) == ("rmq_publisher.E001", "rmq_publisher.E002")
    assert isinstance(wrong, django_checks.Error)
    assert str(wrong.msg) == "RMQ_HEARTBEAT must be an int from 1 to 65535, not 0."
    assert wrong.hint == "Set an int from 1 to 65535."
    assert "RMQ_DELIVERY" in unknown.hint


def test_no_url_is_a_warning_and_an_error_with_deploy(configure):
    message = only()
    assert (message.id, message.level) == ("rmq_publisher.W001", django_checks.WARNING)
    assert "Set RMQ_URL" in message.hint
    assert found(deploy=True) == ["W001", "E012"]


def test_no_url_of_an_alias(configure):
    configure(CONNECTIONS={"events": {}})
    assert "RMQ_CONNECTIONS['events']['URL']" in only().msg
    assert found(deploy=True) == ["W001", "E012"]


def test_a_build_without_a_broker_works(tmp_path):
    program = f"""
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.staticfiles", "rmq_publisher"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
    STATIC_URL="/static/", STATIC_ROOT={str(tmp_path)!r}, SECRET_KEY="x" * 60,
)
django.setup()
call_command("check")
call_command("migrate", verbosity=0, skip_checks=False)
call_command("collectstatic", interactive=False, verbosity=0, skip_checks=False)
call_command("check", deploy=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    # Of check, migrate and check --deploy; collectstatic asks nobody.
    assert done.stderr.count("rmq_publisher.W001") == 3
    assert done.stderr.count("rmq_publisher.E012") == 1
    assert "SystemCheckError" in done.stderr


@pytest.mark.parametrize("serializer", ["json", "json+gzip", "json+zlib"])
def test_a_known_serializer(configure, serializer):
    configure(**GOOD, SERIALIZER=serializer)
    assert found() == []


@pytest.mark.parametrize("serializer", ["toml", "json+brotli", "pickle"])
def test_an_unknown_serializer(configure, serializer):
    configure(**GOOD, SERIALIZER=serializer)
    message = only()
    assert message.id == "rmq_publisher.E007"
    assert message.msg.startswith("RMQ_SERIALIZER")
    assert "json" in message.hint


def test_the_place_of_an_alias_is_named(configure):
    own = {"URL": URL, "PASSWORD": "x", "SERIALIZER": "toml"}
    configure(CONNECTIONS={"events": own}, **GOOD)
    assert only().msg.startswith("RMQ_CONNECTIONS['events']['SERIALIZER']")


def test_a_flat_setting_of_several_connections_is_told_once(configure):
    configure(CONNECTIONS={"a": {}, "b": {}}, SERIALIZER="toml", **GOOD)
    assert found() == ["E007"]


def test_the_outbox(configure):
    configure(**GOOD, DELIVERY="outbox")
    assert found() == []


class Elsewhere:
    """A router that has a database of its own for this app."""

    def __init__(self, *, also_here: bool) -> None:
        self.also_here = also_here

    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "rmq_publisher" else None

    def allow_migrate(self, db, app_label, **hints):
        return db == "other" or self.also_here if app_label == "rmq_publisher" else None


@pytest.mark.parametrize("also_here", [True, False])
def test_a_router_that_sends_the_table_elsewhere(configure, settings, also_here):
    settings.DATABASE_ROUTERS = [Elsewhere(also_here=also_here)]
    configure(**GOOD)
    assert found() == ([] if also_here else ["W012"])
    configure(**GOOD, DELIVERY="outbox")
    [message] = [message for message in said() if message.id != "rmq_publisher.W012"]
    assert (message.id, message.level) == ("rmq_publisher.E008", django_checks.ERROR)
    assert "DATABASE_ROUTERS" in message.msg + message.hint
    assert message.msg.startswith("RMQ_DELIVERY")


@pytest.mark.parametrize("mode", [None, "DEFERRED"])
def test_sqlite_wants_immediate_transactions(configure, monkeypatch, mode):
    options = databases["default"].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "transaction_mode", mode)
    configure(**GOOD)
    assert found() == []
    configure(**GOOD, DELIVERY="outbox")
    message = only()
    assert (message.id, message.level) == ("rmq_publisher.W010", django_checks.WARNING)
    assert "transaction_mode" in message.hint


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"OUTBOX_GRACE": 5}, ["E006"]),
        ({"OUTBOX_LEASE": 5}, ["E006"]),
        ({"OUTBOX_GRACE": 5.1, "OUTBOX_LEASE": 5.1}, []),
        ({"OUTBOX_GRACE": 0}, []),
        ({"PUBLISH_TIMEOUT": 30}, ["E006"]),
        ({"PUBLISH_TIMEOUT": 60}, ["E006", "E006"]),
        ({"CONNECTIONS": {"slow": {"PUBLISH_TIMEOUT": 45}}}, ["E006"]),
        ({"OUTBOX_GRACE": "x"}, ["E002"]),
    ],
)
def test_grace_and_lease_exceed_the_publish_timeout(configure, settings_, expected):
    configure(**GOOD, **settings_)
    assert found() == expected


@pytest.mark.parametrize(
    ("heartbeat", "confirm_timeout", "expected"),
    [
        (10, 10, []),
        (10, 7.1, []),
        (10, 7, ["W003"]),
        (60, 10, ["W003"]),
        (60, 33, []),
        (1, 2.4, ["W003"]),
    ],
)
def test_silence_is_noticed_by_heartbeats(configure, heartbeat, confirm_timeout, expected):
    configure(**GOOD, HEARTBEAT=heartbeat, CONFIRM_TIMEOUT=confirm_timeout)
    assert found() == expected


def test_the_memory_broker_has_no_heartbeat(configure):
    configure(URL="memory://", CONFIRM_TIMEOUT=1)
    assert found() == []


def test_files_of_tls(configure, tmp_path):
    there = tmp_path / "ca.pem"
    there.touch()
    configure(**GOOD, TLS={"CA_FILE": there, "SERVER_HOSTNAME": "mq"})
    assert found() == []
    configure(**GOOD, TLS={"CA_FILE": there, "CERT_FILE": tmp_path / "no", "KEY_FILE": tmp_path})
    messages = said()
    assert [message.id for message in messages] == ["rmq_publisher.W004"] * 2
    assert "CERT_FILE" in messages[0].msg
    assert "KEY_FILE" in messages[1].msg


# -- topology ---------------------------------------------------------------------------------


def test_problems_of_the_topology(configure):
    configure(**GOOD, QUEUES=[QueueConfig("q"), QueueConfig("q", max_length=1), "nonsense"])
    assert found() == ["E010", "E009"]


def test_an_unknown_alias_of_a_queue(configure):
    configure(**GOOD, QUEUES=[QueueConfig("q", using="events")])
    assert "'events'" in only().msg
    assert found() == ["E011"]


@pytest.mark.parametrize("url", [URL, None])
def test_dead_letters_that_go_nowhere(configure, url):
    configure(
        URL=url,
        PASSWORD="x",
        QUEUES=[
            QueueConfig("a", dead_letter_exchange="declared"),
            QueueConfig("b", dead_letter_exchange="amq.topic"),
            QueueConfig("c", dead_letter_exchange="", dead_letter_routing_key="a"),
            QueueConfig("d", dead_letter_exchange="unknown"),
            QueueConfig("e", arguments={"x-dead-letter-exchange": "unknown"}),
        ],
        EXCHANGES=[ExchangeConfig("declared"), ExchangeConfig("x", alternate_exchange="unknown")],
    )
    messages = [message for message in said() if message.id == "rmq_publisher.W005"]
    assert [re.findall(r"(?:queue|exchange) '\w+'", message.msg)[0] for message in messages] == [
        "exchange 'x'", "queue 'd'", "queue 'e'",
    ]  # fmt: skip
    assert all("ExchangeConfig('unknown')" in message.hint for message in messages)


def test_an_exchange_of_another_connection_takes_no_dead_letters(configure):
    configure(
        **GOOD,
        CONNECTIONS={"events": {}},
        QUEUES=[QueueConfig("q", dead_letter_exchange="dead", using="events")],
        EXCHANGES=[ExchangeConfig("dead", using="default")],
    )
    assert found() == ["W005"]


# -- deployment -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"URL": "memory://"}, ["W008"]),
        ({"URL": "amqps://broker.example", "USERNAME": "guest", "PASSWORD": "x"}, ["W006"]),
        ({"URL": "amqps://broker.example", "USERNAME": "shop", "PASSWORD": "guest"}, ["W006"]),
        ({"URL": "amqps://broker.example"}, ["W006"]),
        ({"URL": "amqp://shop@broker.example"}, ["W007"]),
        ({"URL": "amqp://shop@10.0.0.1"}, ["W007"]),
        ({"URL": ["amqp://shop@localhost", "amqp://shop@broker.example"]}, ["W007"]),
        ({"URL": "amqp://shop@localhost"}, []),
        ({"URL": "amqp://shop@mq.localhost"}, []),
        ({"URL": "amqp://shop@127.0.0.2"}, []),
        ({"URL": "amqp://shop@[::1]"}, []),
        ({"URL": "amqp://shop@localhost.example"}, ["W007"]),
        ({"URL": "amqps://shop:secret-2@broker.example"}, ["W009"]),
        ({"URL": ["amqps://shop:secret-2@broker.example"]}, ["W009"]),
        ({"URL": URL, "CONNECTIONS": {"b": {"URL": "amqps://shop:secret-2@b.example"}}}, ["W009"]),
    ],
)
def test_what_may_not_stand_in_production(configure, settings_, expected):
    configure(**{"PASSWORD": "secret-1", **settings_})
    assert found() == []  # only with --deploy
    assert found(deploy=True) == expected
    assert "secret" not in str(said(deploy=True))


def test_a_user_without_a_password_is_seen_before(configure):
    configure(URL=URL)
    assert found() == ["W002"]


# -- the table and the start ------------------------------------------------------------------


def test_every_id_is_in_the_table_and_the_other_way_round():
    table, used = set(), set()
    for module in Path(checks.__file__).parent.rglob("*.py"):
        code = module.read_text()
        table |= set(re.findall(r"^\| `(rmq_publisher\.[EW]\d{3})` \|", code, re.MULTILINE))
        code = re.sub(r"^\| `.*$", "", code, flags=re.MULTILINE)
        used |= set(re.findall(r"rmq_publisher\.[EW]\d{3}", code))
        used |= {f"rmq_publisher.{code}" for code in re.findall(r"\{TAG\}\.([EW]\d{3})", code)}
    assert used == table


def test_nothing_is_read_or_connected_at_start():
    """Importing everything and setting Django up takes settings that are all wrong in silence."""
    program = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["rmq_publisher"], RMQ_URL=5, RMQ_HEARTBEAT="x", RMQ_NONSENSE=1,
    RMQ_QUEUES=["no.such.module"],
)
import rmq_publisher.checks, rmq_publisher.topology.declare
django.setup()
from rmq_publisher.conf import loader
from rmq_publisher.topology import registry
assert loader._reading.cache_info().misses == 0
assert registry._collected.cache_info().misses == 0
import threading
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_checks_do_not_connect(configure):
    configure(URL="amqp://shop@127.0.0.1:1", PASSWORD="x")
    said(deploy=True)
    assert connections["default"].status().state == "closed"


# -- where failures are stored --------------------------------------------------------------------


class Keeping:
    """A router that keeps our table in one database."""

    def __init__(self, *aliases):
        self.aliases = aliases

    def allow_migrate(self, db, app_label, **hints):
        return db in self.aliases if app_label == "rmq_publisher" else None


def test_a_database_without_the_table_is_warned_of(configure, settings):
    configure(**GOOD)
    settings.DATABASE_ROUTERS = [Keeping("default")]
    message = only()
    assert (message.id, message.level) == ("rmq_publisher.W012", django_checks.WARNING)
    assert message.msg.startswith(
        "DATABASES['other'] has no table for stored messages (DATABASE_ROU"
    )
    assert message.msg.endswith("goes to database 'default'.")


def test_where_no_database_has_the_table_failures_are_lost(configure, settings):
    configure(**GOOD)
    settings.DATABASE_ROUTERS = [Keeping()]
    assert [message.msg.endswith("cannot be stored.") for message in said()] == [True, True]


def test_a_replica_needs_no_table(configure, settings, monkeypatch):
    configure(**GOOD)
    settings.DATABASE_ROUTERS = [Keeping("default")]
    monkeypatch.setitem(databases["other"].settings_dict["TEST"], "MIRROR", "default")
    assert found() == []


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_migrations_that_are_not_applied(configure):
    configure(**GOOD)
    call_command("migrate", "rmq_publisher", "zero", database="other", verbosity=0)
    try:
        assert django_checks.run_checks(tags=[checks.TAG], databases=["default"]) == []
        [message] = django_checks.run_checks(tags=[checks.TAG], databases=["default", "other"])
    finally:
        call_command("migrate", "rmq_publisher", database="other", verbosity=0)
    assert message.id == "rmq_publisher.W013"
    assert "0001_initial" in message.msg
    assert message.hint == "Run manage.py migrate rmq_publisher --database other."


def test_the_app_is_not_installed(configure, settings):
    configure(**GOOD)
    settings.INSTALLED_APPS = []
    [message] = django_checks.run_checks(tags=[checks.TAG])
    assert message.id == "rmq_publisher.W014"
    assert 'Add "rmq_publisher" to INSTALLED_APPS' in message.hint


IMPORTED_BY_A_VIEW = """
import sys, types, django
from django.conf import settings
from django.core.management import call_command
settings.configure(INSTALLED_APPS=[], ROOT_URLCONF="urls", SILENCED_SYSTEM_CHECKS=sys.argv[1:])
django.setup()
class Urls(types.ModuleType):
    @property
    def urlpatterns(self):
        from rmq_publisher import publish
        return []
sys.modules["urls"] = Urls("urls")
call_command("check")
"""


@pytest.mark.parametrize("silenced", [(), ("rmq_publisher.W014",)])
def test_the_app_is_not_installed_and_a_view_imports_it(silenced):
    """The checks import the view: what it registers is not run by them."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY_A_VIEW, *silenced],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ('Add "rmq_publisher" to INSTALLED_APPS' in done.stderr) == (not silenced)


@pytest.mark.parametrize("type", ["x-delayed-message", "x-recent-history", "x-lvc", "topic"])
def test_an_exchange_that_returns_what_it_keeps(configure, type):
    configure(EXCHANGES=[ExchangeConfig("later", type, arguments={"x-delayed-type": "direct"})])
    messages = [message for message in said() if message.id == "rmq_publisher.W015"]
    assert len(messages) == (type != "topic")
    for message in messages:
        assert "RMQ_EXCHANGES declares exchange 'later'" in message.msg
        assert "mandatory=False" in message.hint
