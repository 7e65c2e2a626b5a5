"""The code of the guides and the tutorial, run as it is printed."""

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
import time
import types
import unittest
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import models, transaction
from django.dispatch import Signal

import rmq_publisher
from rmq_publisher import serialization, signals
from tests.support.pages import ROOT, Block, Shop, blocks, renamed
from tests.support.rig.ports import free_port

# What the pages call the things of their shop.
SHOP_QUEUES = ("orders", "orders.dead", "emails", "audit", "reports")
SHOP_EXCHANGES = ("shop.events", "shop.dead")


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    watched: list[Signal] = [
        models.signals.post_save, signals.message_published, signals.publish_failed,
    ]  # fmt: skip
    before = [list(signal.receivers) for signal in watched]
    yield
    for signal, receivers in zip(watched, before, strict=True):
        signal.receivers[:] = receivers
        signal.sender_receivers_cache.clear()


@pytest.fixture
def told(names) -> dict[str, str]:
    """Names of this test's own for those of the pages."""
    queues = {name: names.queue() for name in SHOP_QUEUES}
    return queues | {name: names.exchange() for name in SHOP_EXCHANGES}


@pytest.fixture
def run(rmq, amqp, told, monkeypatch, _signals_as_before):
    """Run the blocks of a page; gives back its shop."""

    def run(page: str) -> Shop:
        shop = Shop(told, amqp, monkeypatch)
        shop.run(page)
        return shop

    return run


# -- how-to guides ------------------------------------------------------------------------------------

# What the pages call the things of their shop.
SHOP_QUEUES = ("orders", "orders.dead", "emails", "audit", "reports")
SHOP_EXCHANGES = ("shop.events", "shop.dead")


@pytest.fixture
def failures(caplog) -> Iterator[None]:
    """Fails where something was committed and not published."""
    yield
    for record in caplog.get_records("call"):
        assert record.levelno < logging.ERROR or record.name != "rmq_publisher", (
            record.getMessage()
        )


@pytest.mark.django_db(transaction=True)
def test_publish(run, failures, rf):
    shop = run("docs/how-to/publish.md")
    views = sys.modules["shop.views"]
    # What the page has sent while it ran, to the exchange and to the queue.
    assert len(shop.bodies(expected=8)) == 8

    answer = json.loads(views.place(rf.post("/")).content)
    # The page's own signal handler has a word to say too.
    order, event = sorted(
        map(json.loads, shop.bodies(expected=2)), key=lambda body: "item" not in body
    )
    assert order == {"id": answer["id"], "item": "tea"}
    assert event == {"id": answer["id"], "status": "placed"}

    answer = json.loads(async_to_sync(shop.namespace["ping"])(rf.post("/")).content)
    assert shop.bodies(expected=1) == ["{}"]
    assert set(answer) == {"message_id"}
    async_to_sync(views.place_async)(rf.post("/"))
    assert len(shop.bodies(expected=2)) == 2

    sys.modules["shop.apps"].ShopConfig("shop", apps.get_app_config("shop").module).ready()
    assert serialization.encode("csv", [(1, "a")]).body == b"1,a"
    serialization._serializers.pop("csv")


@pytest.mark.django_db(transaction=True)
def test_publish_rolls_back(run, rf):
    shop = run("docs/how-to/publish.md")
    shop.bodies()
    with transaction.atomic():
        sys.modules["shop.views"].place(rf.post("/"))
        transaction.set_rollback(True)
    assert shop.bodies() == []


@pytest.mark.django_db(transaction=True)
def test_publish_in_a_test_case(run):
    shop = run("docs/how-to/publish.md")
    case = shop.namespace["PlacingTests"]("test_one_message_after_the_commit")
    # The page's handler publishes as well, which a reader's project would not have.
    models.signals.post_save.disconnect(
        sys.modules["shop.signals"].order_saved, sender=sys.modules["shop.models"].Order
    )
    result = unittest.TestResult()
    case(result)
    assert result.testsRun == 1
    assert not result.errors + result.failures


@pytest.mark.django_db(transaction=True)
def test_publish_many(run, failures):
    shop = run("docs/how-to/publish-many.md")
    assert len(shop.namespace["ids"]) == 1000
    assert len(shop.bodies(expected=1106)) == 100 + 1000 + 3 + 3


@pytest.mark.django_db(transaction=True)
def test_errors(run, failures):
    shop = run("docs/how-to/errors.md")
    assert shop.namespace["announce"](5) is True
    assert json.loads(shop.bodies(expected=2)[-1]) == {"id": 5}


@pytest.mark.django_db(transaction=True)
def test_outbox(run, failures):
    shop = run("docs/how-to/outbox.md")
    order = types.SimpleNamespace(save=lambda: None)
    shop.namespace["pay"](order)
    assert order.paid
    assert sorted(shop.bodies(expected=3)) == ["1", "2", '{"order": 7}']


def test_consume(run, told, capsys, amqp):
    queue = told["orders"]
    rmq_publisher.publish('{"id": 1}', queue=rmq_publisher.QueueConfig(queue), delivery="now")
    run("docs/how-to/consume.md")
    for body, message_id in (('{"id": 7}', "a"), ('{"id": 7}', "a"), ("no JSON", "b")):
        rmq_publisher.publish(body, queue=queue, message_id=message_id, delivery="now")
    sys.modules["consumer"].main()
    assert capsys.readouterr().out == "{'id': 1}\norder 7\n"
    assert amqp.depth(queue) == 0


@pytest.mark.django_db(transaction=True)
def test_migrate(run, failures, amqp):
    shop = run("docs/how-to/migrate.md")
    assert len(shop.bodies(expected=3)) == 3


@pytest.mark.django_db(transaction=True)
def test_celery(run, failures, rmq, broker, told):
    rmq.CELERY_BROKER_URL = broker.url
    rmq.CELERY_TASK_DEFAULT_QUEUE = told["emails"]
    shop = run("docs/how-to/celery.md")
    (receipt,) = shop.amqp.drain(shop.names["emails"], 1)
    assert receipt.properties.message_id == shop.namespace["result"].id
    assert json.loads(receipt.body)[0] == [shop.namespace["order"].pk]
    invoices = shop.amqp.drain(shop.names["orders"], 8)
    assert [invoice.properties.headers["task"] for invoice in invoices] == [
        "billing.tasks.create_invoice"
    ] * 8
    assert invoices[0].properties.message_id == shop.namespace["task_id"]
    arguments = [json.loads(invoice.body)[0][0] for invoice in invoices]
    assert sorted(arguments) == list(range(42, 50))


@pytest.mark.django_db(transaction=True)
def test_several_brokers(run, failures, rmq, broker, told):
    # The page's aliases bear the names of its queues.
    rmq.RMQ_CONNECTIONS = {told[name]: {"URL": broker.url} for name in ("orders", "audit")}
    rmq.RMQ_URL = None
    shop = run("docs/how-to/several-brokers.md")
    assert shop.bodies(expected=2) == ["{}", "{}"]
    shop.namespace["audit"].publish("{}")
    assert shop.bodies("audit", expected=1) == ["{}"]


def test_declare(run, amqp):
    shop = run("docs/how-to/declare.md")
    assert amqp.queue_exists(shop.names["orders.dead"])


@pytest.mark.parametrize("name", ["settings", "tls", "logging"])
def test_settings_blocks(run, name):
    run(f"docs/how-to/{name}.md")


def test_watch(run, rf):
    shop = run("docs/how-to/watch.md")
    answer = json.loads(shop.namespace["rabbitmq_status"](rf.get("/")).content)
    assert answer["default"]["state"] == "closed"


# -- projects made from nothing -----------------------------------------------------------------------


ID = r"[0-9a-f]{32}"


class Project:
    """An empty Django project, its `manage.py` and its server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "server.log"
        self._server: subprocess.Popen[bytes] | None = None
        told = {k: v for k, v in os.environ.items() if not k.startswith(("RMQ_", "DJANGO_"))}
        self._environment = {**told, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def write(self, block: Block, names: dict[str, str], url: str) -> None:
        """Put a block into the file that it names: at its end, or in its place."""
        path = self.directory / block.file
        text = renamed(block.text, names)
        text = re.sub(r"amqp://guest:guest@127\.0\.0\.1:5672/(%2F)?", url, text)
        at_the_end = block.text.startswith("# at the end of ")
        path.write_text(path.read_text() + "\n" + text if at_the_end else text)

    def prefix_tasks(self, prefix: str) -> str:
        """Give the project's tasks a queue that no other project uses; its name."""
        settings = self.directory / "mysite" / "settings.py"
        options = f'TASKS["default"]["OPTIONS"] = {{"prefix": "{prefix}."}}'
        settings.write_text(f"{settings.read_text()}\n{options}\n")
        return f"{prefix}.default"

    def command(self, line: str) -> str:
        """Run a line of a page as it stands; its output."""
        program, *arguments = line.split()
        if program == "django-admin":
            program, arguments = "python", ["-m", "django", *arguments]
        assert program == "python", line
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.directory, env=self._environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "WARNINGS:" not in done.stderr, f"{line}\n{done.stderr}"  # of Django's checks
        return done.stdout

    def serve(self) -> None:
        command = [sys.executable, "manage.py", "runserver", "--noreload", str(self.port)]
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                command, cwd=self.directory, env=self._environment, stdout=log, stderr=log
            )

    def get(self, path: str, timeout: float = 30.0) -> tuple[int, str]:
        """Status and text, as soon as the server answers."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()
            except urllib.error.URLError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def logged(self, text: str, timeout: float = 10.0) -> bool:
        deadline = time.monotonic() + timeout
        while text not in self.log.read_text():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def end(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(15)


@pytest.fixture
def project(tmp_path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.end()


@pytest.mark.smoke
def test_quick_start(project, broker, amqp, names):
    *python, tasks = blocks("README.md", "python")
    lines = [line for block in python for line in block.text.splitlines()[1:] if line]
    assert len(lines) <= 10, "ten lines"
    told = {"orders": names.queue()}
    project.command("django-admin startproject mysite .")
    for block in python:
        project.write(block, told, broker.url)
    assert project.command("python manage.py check").startswith(
        "System check identified no issues"
    )
    console, of_tasks = blocks("README.md", "console")
    migrate, declare, serve, curl = console.text.splitlines()
    project.command(migrate.removeprefix("$ "))
    assert f"created        queue '{told['orders']}'" in project.command(
        declare.removeprefix("$ ")
    )
    assert serve == "$ python manage.py runserver"
    project.serve()
    status, message_id = project.get(curl.partition("127.0.0.1:8000")[2])
    assert status == 200, message_id
    (received,) = amqp.drain(told["orders"], 1)
    assert received.body == b'{"order":1}'
    properties = received.properties
    assert (properties.message_id, properties.content_type) == (message_id, "application/json")
    assert properties.delivery_mode == 2
    project.write(for_this_django(tasks), told, broker.url)
    # The tutorial of tasks may use the broker's "tasks.default" at the same time.
    queue = project.prefix_tasks(told["orders"])
    *commands, worker = of_tasks.text.splitlines()
    for line in commands:
        project.command(line.removeprefix("$ "))
    assert worker == "$ python manage.py rmq_worker"
    project.command("python manage.py rmq_worker --once")
    assert amqp.depth(queue) == 0
    amqp.delete_queue(queue)


def for_this_django(block):
    """What the tutorial of tasks tells the readers with Django 5.2 to write."""
    if django.VERSION >= (6, 0):
        return block
    text = block.text.replace("from django.tasks", "from django_tasks")
    text = text.replace('["rmq_publisher', '["django_tasks", "rmq_publisher')
    return dataclasses.replace(block, text=text)


def as_pattern(line: str) -> str:
    """What a line of a page's output may look like elsewhere."""
    pattern = re.escape(line)
    pattern = re.sub(ID, ID, pattern)
    pattern = re.sub(r"127\\\.0\\\.0\\\.1:\d+", r"\\S+:\\d+", pattern)
    return re.sub(r"RabbitMQ\\ \d\S*", r"RabbitMQ \\S+", pattern)


@pytest.mark.thorough
def test_tutorial_of_consuming(project, broker, amqp, names):
    """It goes on from the project of the first one."""
    told = {
        "orders.handled": names.queue(),
        "orders.dead": names.queue(),
        "shop.dead": names.exchange(),
    }
    project.command("django-admin startproject mysite .")
    project.command("python manage.py startapp shop")
    for block in blocks("docs/tutorial.md", "python"):
        if block.file not in ("shop/queues.py", "read.py"):
            project.write(block, told, broker.url)
    page = "docs/tutorial-consume.md"
    parts = sorted(
        (*blocks(page, "python"), *blocks(page, "console")), key=lambda block: block.line
    )
    for block in parts:
        if block.file:
            project.write(block, told, broker.url)
            continue
        for command, shown in re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).+\n?)*)", block.text):
            output = project.command(command)
            for line in shown.splitlines():
                assert line in output.splitlines(), f"{page}: {line!r} is not in {output!r}"


@pytest.mark.thorough
@pytest.mark.disturbs
def test_tutorial(project, node):
    page = "docs/tutorial.md"
    files = [block for block in blocks(page, "python") if block.runs]
    consoles = [block for block in blocks(page, "console") if block.runs]
    for block in sorted((*files, *consoles), key=lambda block: block.line):
        if block.file:
            project.write(block, {}, node.url())
            continue
        output = ""
        for line in block.text.splitlines():
            if line.startswith("$ "):
                assert not output.strip(), f"{page}: shows nothing of {output!r}"
                output = in_tutorial(project, node, line.removeprefix("$ "))
                continue
            found = re.search(as_pattern(line) + r"\n?", output)
            assert found, f"{page}, line {block.line}: {line!r} is not in {output!r}"
            output = output[found.end() :]
    assert len(re.findall("was committed but not published", project.log.read_text())) == 1


def in_tutorial(project: Project, node, command: str) -> str:
    """Do what a line of the tutorial says; the output that the page must show."""
    program, *arguments = command.split()
    if command == "python manage.py runserver":
        project.serve()
    elif program == "curl":
        status, text = project.get(arguments[0].strip('"').partition("127.0.0.1:8000")[2])
        assert status == (500 if "fail" in command else 200), text
        return text if status == 200 else ""
    elif command == "docker stop rabbit":
        node.kill()
    elif command == "docker start rabbit":
        node.restart()
        # Once for the first connection, once for this one.
        assert project.logged("connected to", 10)
        assert connected_again(project)
    else:
        output = project.command(command)
        return output if "rmq_" in command or "read.py" in command else ""
    return ""


def connected_again(project: Project) -> bool:
    deadline = time.monotonic() + 10
    while project.log.read_text().count("connected to") < 2:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.thorough
def test_testing_goes_on_from_the_tutorial(project):
    """As a reader makes its project; tests/test_testing.py runs the examples in more ways."""
    testing = "docs/how-to/testing.md"
    project.command("django-admin startproject mysite .")
    project.command("python manage.py startapp shop")
    for block in blocks("docs/tutorial.md", "python"):
        project.write(block, {}, "memory://")
    (console,) = blocks(testing, "console")
    for line in console.text.splitlines():
        program, *arguments = line.removeprefix("$ ").split()
        assert program in ("rm", "mkdir", "touch")
        subprocess.run([program, *arguments], cwd=project.directory, check=True)
    for block in (*blocks(testing, "python"), *blocks(testing, "ini")):
        project.write(block, {}, "memory://")
    project.command("python manage.py makemigrations shop")
    project.command("python -W error manage.py test")
    # By its module's name: the package need not be installed here.
    plugin = "-p no:rmq_publisher -p rmq_publisher.pytest_plugin"
    said = project.command(f"python -W error -m pytest -q -p no:cacheprovider {plugin}")
    assert re.search(r"1[0-9] passed, 1 skipped", said), said
