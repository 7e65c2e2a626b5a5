"""The testing helpers as a project's own tests use them, run in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rmq_publisher import (
    Binding,
    ExchangeConfig,
    QueueConfig,
)
from tests.support.rig.ladder import Broker

ROOT = Path(__file__).resolve().parents[2]

EVENTS = ExchangeConfig("events", "topic")
ORDERS = QueueConfig("orders", bindings=[Binding(EVENTS, "orders.#")])

PROJECT = {
    "pytest.ini": "[pytest]\n",  # else that of a folder above would count
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "project"
execute_from_command_line(sys.argv)
""",
    "project.py": """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "rmq_publisher", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
USE_TZ = True
""",
    "shop/__init__.py": "",
    "shop/models.py": """
from django.db import models

class Order(models.Model):
    item = models.CharField(max_length=100)
""",
    "shop/queues.py": """
from rmq_publisher import Binding, ExchangeConfig, QueueConfig

EVENTS = ExchangeConfig("shop.events", "topic")
ORDERS = QueueConfig("orders", bindings=[Binding(EVENTS, "orders.#")])
""",
    "shop/views.py": """
from django.db import transaction
from django.http import JsonResponse

from rmq_publisher import publish
from shop.models import Order
from shop.queues import ORDERS

@transaction.atomic
def orders(request):
    if request.method == "GET":
        return JsonResponse({})
    order = Order.objects.create(item="tea")
    publish({"id": order.pk, "item": order.item}, queue=ORDERS, serializer="json")
    return JsonResponse({"id": order.pk})
""",
    "shop/urls.py": """
from django.urls import path
from shop.views import orders

urlpatterns = [path("orders/", orders)]
""",
    "shop/tests/__init__.py": "",
}
HOW_TO = ROOT / "docs" / "how-to" / "testing.md"
BLOCK = re.compile(r"^```python\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose tests are the examples of the how-to."""
    files = dict(PROJECT)
    for name, block in BLOCK.findall(HOW_TO.read_text("utf-8")):
        files[name] = block
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def run(project: Path, *arguments: str, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=project,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{project}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output
    return output


# The plugin by its module's name: the package need not be installed.
PYTEST = (
    "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:rmq_publisher", "-p",
    "rmq_publisher.pytest_plugin", "--ds=project", "--rootdir=.", "-q", "shop",
)  # fmt: skip
WITHOUT_RABBITMQ = ("--ignore=shop/tests/test_rabbitmq.py",)


def test_the_how_to_with_pytest(project: Path, broker: Broker) -> None:
    output = run(project, *PYTEST, TEST_RMQ_URL=broker.url)
    assert re.search(r"^1[0-9] passed", output, re.MULTILINE), output


@pytest.mark.thorough
def test_the_how_to_with_xdist(project: Path) -> None:
    output = run(project, *PYTEST, *WITHOUT_RABBITMQ, "-n", "3")
    assert re.search(r"^1[0-9] passed", output, re.MULTILINE), output


@pytest.mark.parametrize("processes", ["1", pytest.param("3", marks=pytest.mark.thorough)])
def test_the_how_to_with_manage_py_test(project: Path, processes: str) -> None:
    output = run(project, "manage.py", "test", "--parallel", processes)
    assert re.search(r"Ran 1[0-9] tests", output), output


def test_fixtures_among_settings_of_a_test(project: Path) -> None:
    (project / "shop" / "tests" / "test_more.py").write_text("""
from rmq_publisher import publish
from rmq_publisher.conf import loader as conf
from rmq_publisher.testing import assert_published

def test_no_url(rmq_published, settings):
    settings.RMQ_APP_ID = "later"
    publish("b", queue="q", delivery="now")
    assert assert_published().properties.app_id == "later"

def test_all_is_as_before():
    assert conf.aliases() == ()

def test_settings_first(settings, rmq_broker):
    settings.RMQ_URL = "amqp://127.0.0.1:1"
    publish("b", queue="orders", delivery="now")
    assert len(rmq_broker.drain("orders")) == 1

def test_all_is_as_before_again():
    assert conf.aliases() == ()
""")
    output = run(project, *PYTEST, "-k", "test_more")
    assert "4 passed" in output


def test_the_plugin_keeps_counts_in_memory(project: Path) -> None:
    """Without a fixture of ours: any test of the project may count statements."""
    (project / "shop" / "tests" / "test_statements.py").write_text("""
import pytest
from django.db import connection
from rmq_publisher.telemetry import publish_counts

@pytest.mark.django_db(transaction=True)
def test_no_count_is_written(django_assert_num_queries):
    connection.ensure_connection()
    publish_counts.count("default", published=1)
    with django_assert_num_queries(0):
        publish_counts.flush()
""")
    output = run(project, *PYTEST, "-k", "test_statements")
    assert "1 passed" in output


def test_no_test_uses_the_projects_broker_by_accident(project: Path) -> None:
    """With whatever it publishes: the error names the helpers and cannot be swallowed."""
    with (project / "project.py").open("a") as settings:
        settings.write('RMQ_URL = "amqp://127.0.0.1:1/"\n')
        # In a file, so that stored messages are sent by a thread.
        settings.write('DATABASES["default"]["TEST"] = {"NAME": "test.sqlite3"}\n')
    (project / "shop" / "tests" / "test_guard.py").write_text("""
import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from rmq_publisher import BrokerUnavailable, Consumer, connections, publish
from rmq_publisher.outbox.transitions import messages
from rmq_publisher.testing import capture
from rmq_publisher.transport.broker_guard import RealBrokerInTestError

REFUSED = r"RabbitMQ at 127.0.0.1:1 .*capture\\(\\).*rmq_published.*rmq_real_broker"

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("delivery", ["on_commit", "outbox", "now"])
def test_publish(delivery):
    with pytest.raises(RealBrokerInTestError, match=REFUSED):
        try:
            publish("b", queue="q", delivery=delivery)
        except Exception:
            pass

@pytest.mark.django_db(transaction=True)
def test_a_view(client):
    with pytest.raises(RealBrokerInTestError, match=REFUSED):
        client.post("/orders/")

@pytest.mark.django_db
def test_without_a_commit(client):
    client.post("/orders/")

@pytest.mark.parametrize("command", ["rmq_check", "rmq_declare"])
def test_commands(command):
    with pytest.raises(RealBrokerInTestError, match=REFUSED):
        call_command(command)

@pytest.mark.django_db(transaction=True)
def test_a_relay():
    with pytest.raises(RealBrokerInTestError, match=REFUSED):
        call_command("rmq_relay", once=True)

def test_a_consumer():
    with pytest.raises(RealBrokerInTestError, match=REFUSED), Consumer("q") as consumer:
        next(iter(consumer))

def test_a_capture(rmq_published):
    publish("b", queue="q", delivery="now")
    assert len(rmq_published) == 1

@pytest.mark.django_db(transaction=True)
def test_a_captured_commit():
    with capture() as published, transaction.atomic():
        publish("b", queue="q")
    assert len(published) == 1

@pytest.mark.rmq_real_broker
def test_on_purpose():
    with pytest.raises(BrokerUnavailable):
        publish("b", queue="q", delivery="now")

def test_of_another_broker(settings):
    settings.RMQ_URL = "amqp://127.0.0.1:2/"
    with pytest.raises(BrokerUnavailable):
        publish("b", queue="q", delivery="now")
    settings.RMQ_ALLOW_BROKER = False
    with pytest.raises(RealBrokerInTestError, match="RMQ_ALLOW_BROKER = True"):
        publish("b", queue="q", delivery="now")
    settings.RMQ_URL = "memory://"
    connections["default"].declare((), 1)
""")
    output = run(project, *PYTEST, "-k", "test_guard")
    assert "13 passed" in output, output
    output = run(project, *PYTEST, "-k", "test_guard and test_on_purpose")
    assert "1 passed" in output
    (project / "pytest.ini").write_text("[pytest]\nrmq_real_broker = true\n")
    (project / "shop" / "tests" / "test_guard.py").write_text("""
import pytest
from rmq_publisher import BrokerUnavailable, publish

def test_all_are_allowed():
    with pytest.raises(BrokerUnavailable):
        publish("b", queue="q", delivery="now")
""")
    output = run(project, *PYTEST, "-k", "test_guard")
    assert "1 passed" in output


def test_the_switch_keeps_djangos_runner_from_the_broker(project: Path) -> None:
    with (project / "project.py").open("a") as settings:
        settings.write('RMQ_URL = "amqp://127.0.0.1:1/"\nRMQ_ALLOW_BROKER = False\n')
    (project / "shop" / "tests" / "test_switch.py").write_text("""
from django.test import TransactionTestCase
from rmq_publisher.transport.broker_guard import RealBrokerInTestError

class SwitchTests(TransactionTestCase):
    def test_a_view(self):
        with self.assertRaisesRegex(RealBrokerInTestError, "capture.*RMQ_ALLOW_BROKER = True"):
            self.client.post("/orders/")
""")
    output = run(project, "manage.py", "test", "shop.tests.test_switch")
    assert "Ran 1 test" in output


def test_without_pytest_django(project: Path) -> None:
    (project / "test_plain.py").write_text("""
import django
django.setup()
from rmq_publisher import publish
from rmq_publisher.conf import loader as conf

def test_a_message(rmq_published):
    publish("b", queue="q", delivery="now")
    assert len(rmq_published) == 1

def test_all_is_as_before():
    assert conf.aliases() == ()
""")
    arguments = [*PYTEST[:-4], "-p", "no:django", "-q", "test_plain.py"]
    output = run(project, *arguments, DJANGO_SETTINGS_MODULE="project")
    assert "2 passed" in output


def test_the_plugin_costs_nothing_until_it_is_used(project: Path) -> None:
    run(
        project,
        "-c",
        "import sys, rmq_publisher.pytest_plugin\n"
        "assert not {'django', 'pika', 'rmq_publisher.testing'} & set(sys.modules)",
    )
