"""The README and docs/: their Python runs, their commands do what they show, their tables are the code's.

A Python block runs with the others of its page, in order. A comment in its first line names the file that
it stands for; `<!-- not run: why -->` above a block keeps it from being run.
"""

import ast
import inspect
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
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.db import models, transaction
from django.dispatch import Signal

import rmq_publisher
from rmq_publisher import ExchangeConfig, QueueConfig, connections, serialization, signals
from rmq_publisher.conf import schema
from rmq_publisher.messages import compose
from rmq_publisher.messages import envelope as messages
from rmq_publisher.publisher import api
from rmq_publisher.topology import declare as declaring
from rmq_publisher.transport.base import Status
from tests.support.rig.amqp import Amqp
from tests.support.rig.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rmq_publisher"
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
    if "_build" not in page.parts
)


# -- reading pages ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    text: str
    runs: bool

    @property
    def file(self) -> str:
        """The file that it stands for, empty where it is none."""
        found = re.match(
            r"# (?:at the end of )?([\w/]+\.(?:py|ini))$", self.text.partition("\n")[0]
        )
        return found[1] if found else ""

    def code(self, names: dict[str, str] | None = None) -> types.CodeType:
        """Compiled; string literals that are one of ``names`` are exchanged."""
        # Empty lines in front, so that an error names the page's own line.
        text = "\n" * self.line + renamed(self.text, names or {})
        return compile(text, str(ROOT / self.page), "exec")


def renamed(text: str, names: dict[str, str]) -> str:
    for name, other in names.items():
        text = re.sub(rf"(['\"]){re.escape(name)}\1", rf"\1{other}\1", text)
    return text


def blocks(page: str, language: str) -> list[Block]:
    found, fence, info, opened, above = [], "", "", 0, ""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        mark = re.match(r"(`{3,})(.*)$", line)
        if fence and mark and mark[1] == fence and not mark[2]:
            text = "\n".join(lines[opened : number - 1]) + "\n"
            if info == language:
                runs = not above.startswith("<!-- not run: ")
                found.append(Block(page, opened, info, text, runs))
            fence = ""
        elif mark and not fence:
            fence, info, opened, above = mark[1], mark[2].strip(), number, lines[number - 2]
    assert not fence, f"{page}: a fence is not closed"
    return found


def rows(page: Path) -> list[list[str]]:
    """The cells of all tables of a page, without their heads' underlines."""
    found = []
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    text = page.read_text("utf-8")
    return re.split(r"\n##? ", text.partition(f"## {heading}\n")[2])[0]


# -- every page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_are_python(page):
    for block in blocks(page, "python"):
        block.code()


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_lines_can_be_read_in_a_terminal(page):
    for line in (ROOT / page).read_text("utf-8").splitlines():
        assert len(line) <= 120 or line.startswith(("|", "````{py:")), line


# -- how-to guides ------------------------------------------------------------------------------------

# What the pages call the things of their shop.
SHOP_QUEUES = ("orders", "orders.dead", "emails", "audit", "reports")
SHOP_EXCHANGES = ("shop.events", "shop.dead")


class Shop:
    """Runs the blocks of a page in a shop of its own."""

    def __init__(self, names: dict[str, str], amqp: Amqp, monkeypatch) -> None:
        self.names = names
        self.amqp = amqp
        self.namespace: dict[str, object] = {"__name__": "page"}
        self._monkeypatch = monkeypatch
        package = types.ModuleType("shop")
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "shop", package)
        example = sys.modules["example_project.shop.models"]
        monkeypatch.setitem(sys.modules, "shop.models", example)
        self._modules: dict[str, types.ModuleType] = {}

    def run(self, page: str) -> None:
        """Run its blocks; what they write into shop/queues.py is declared."""
        self.amqp.declare_queue(self.names["orders"])
        self.amqp.declare_exchange(self.names["shop.events"], "topic", durable=True)
        self.amqp.bind(self.names["orders"], self.names["shop.events"], "orders.#")
        for block in blocks(page, "python"):
            if not block.runs:
                continue
            if block.file.endswith("settings.py"):
                self._read_settings(block)
            elif block.file:
                self._write_module(block)
            else:
                exec(block.code(self.names), self.namespace)

    def _read_settings(self, block: Block) -> None:
        secret = "$ecret/@:"
        for name in ("RMQ_PASSWORD", "ORDERS_RMQ_PASSWORD", "AUDIT_RMQ_PASSWORD"):
            self._monkeypatch.setenv(name, secret)
        self._monkeypatch.setenv("RMQ_URL", "amqp://shop@rabbit.example.com/shop")
        space: dict[str, object] = {"__file__": "mysite/settings.py", "INSTALLED_APPS": []}
        exec(block.code(), space)
        raw = {name: value for name, value in space.items() if name.startswith("RMQ_")}
        reading = schema.Reading(raw)
        assert not [str(problem) for problem in reading.problems if problem.is_error]
        for settings in reading.connections.values():
            assert isinstance(settings, schema.ConnectionSettings)
            assert settings.password == secret or "RMQ_PASSWORD" not in raw

    def _write_module(self, block: Block) -> None:
        """Add a block to its module; shop/queues.py is written anew each time."""
        name = block.file.removesuffix(".py").replace("/", ".")
        if name not in self._modules or name == "shop.queues":
            # By this name Django sees which app a model belongs to.
            self._modules[name] = types.ModuleType(f"example_project.{name}")
            self._monkeypatch.setitem(sys.modules, name, self._modules[name])
        exec(block.code(self.names), vars(self._modules[name]))
        if name == "shop.queues":
            self._declare(list(vars(self._modules[name]).values()))

    def _declare(self, values: list[object]) -> None:
        queues = [value for value in values if isinstance(value, QueueConfig)]
        exchanges = [value for value in values if isinstance(value, ExchangeConfig)]
        for queue in queues:
            self.amqp.delete_queue(queue.name)
        for alias in connections:
            mine = [config for config in (*exchanges, *queues) if config.using in (None, alias)]
            connections[alias].declare(tuple(mine), timeout=5)

    def bodies(self, name: str = "orders", expected: int = 0) -> list[str]:
        """Take the messages out of a queue."""
        received = self.amqp.drain(self.names[name], expected)
        return [message.body.decode(errors="replace") for message in received]


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


def test_consume(run, capsys, amqp):
    shop = run("docs/how-to/consume.md")
    queue, handle = shop.names["orders"], sys.modules["consumer"].handle
    for body, message_id in (('{"id": 7}', "a"), ('{"id": 7}', "a"), ("no JSON", "b")):
        rmq_publisher.publish(body, queue=queue, message_id=message_id, delivery="now")
    for _ in range(3):
        handle(amqp.channel, *amqp.channel.basic_get(queue))
    assert capsys.readouterr().out == "order 7\n"
    assert amqp.depth(queue) == 0


@pytest.mark.django_db(transaction=True)
def test_migrate(run, failures, amqp):
    shop = run("docs/how-to/migrate.md")
    assert len(shop.bodies(expected=3)) == 3


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
    python = blocks("README.md", "python")
    lines = [line for block in python for line in block.text.splitlines()[1:] if line]
    assert len(lines) <= 10, "ten lines"
    told = {"orders": names.queue()}
    project.command("django-admin startproject mysite .")
    for block in python:
        project.write(block, told, broker.url)
    assert project.command("python manage.py check").startswith(
        "System check identified no issues"
    )
    (console,) = blocks("README.md", "console")
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


def as_pattern(line: str) -> str:
    """What a line of a page's output may look like elsewhere."""
    pattern = re.escape(line)
    pattern = re.sub(ID, ID, pattern)
    pattern = re.sub(r"127\\\.0\\\.0\\\.1:\d+", r"\\S+:\\d+", pattern)
    return re.sub(r"RabbitMQ\\ \d\S*", r"RabbitMQ \\S+", pattern)


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


# -- the reference against the code -------------------------------------------------------------------


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text("utf-8") for page in REFERENCE.glob("*.md"))
    for name in rmq_publisher.__all__:
        assert re.search(rf"(?m)^(````\{{py:\w+\}} |`){name}\b", text), name


def directives() -> dict[str, str]:
    text = (REFERENCE / "api.md").read_text("utf-8")
    return dict(
        re.findall(
            r"(?m)^`{3,}\{py:(?:function|class|method)\} ([\w.]+)\((.*?)\)(?: ->.*)?$", text
        )
    )


@pytest.mark.parametrize("name", ["publish", *sorted({*directives()} - {"publish"})])
def test_signatures_are_those_of_the_code(name):
    found = re.findall(
        rf"(?m)^(`{{3,}})\{{py:\w+\}} {re.escape(name)}\((.*?)\)(?: ->.*)?$",
        (REFERENCE / "api.md").read_text("utf-8"),
    )
    for fence, signature in found:
        home = rmq_publisher.Producer if len(fence) == 3 else rmq_publisher
        real = serialization.register_serializer if "." in name else getattr(home, name)
        assert documented(signature) == actual(real), name


def documented(signature: str) -> list[tuple[str, str, object]]:
    (function,) = ast.parse(f"def f({signature}): ...").body
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    empty = inspect.Parameter.empty
    padding = [empty] * (len(arguments.args) - len(arguments.defaults))
    found = [
        (argument.arg, "plain", default if default is empty else ast.literal_eval(default))
        for argument, default in zip(arguments.args, [*padding, *arguments.defaults], strict=True)
    ]
    found += [
        (argument.arg, "keyword", empty if default is None else ast.literal_eval(default))
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return [*found, *([(arguments.kwarg.arg, "rest", empty)] if arguments.kwarg else [])]


def actual(real: object) -> list[tuple[str, str, object]]:
    kinds = {
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "plain",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
        inspect.Parameter.VAR_KEYWORD: "rest",
    }
    return [
        (parameter.name, kinds[parameter.kind], parameter.default)
        for parameter in inspect.signature(real).parameters.values()  # type: ignore[arg-type]
        if parameter.name != "self"
    ]


def test_the_other_calls_take_what_publish_takes():
    """As the reference says of `**options`."""
    of_publish = set(inspect.signature(rmq_publisher.publish).parameters) - {"body"}
    of_transactions = {"delivery", "database", "ordering_key"}
    assert of_publish - of_transactions == compose.NOW_OPTIONS
    assert of_publish - {"message_id"} == api.MANY_OPTIONS
    of_producer = compose.PRODUCER_OPTIONS | {"routing_key", "properties"}
    assert of_publish - of_transactions == of_producer
    text = section(REFERENCE / "api.md", "Publishing").partition("{py:class} Message")[2]
    listed = set(re.findall(r"`(\w+)`", text.partition("````")[0])) - {"publish_many", "publish"}
    assert listed == messages.MESSAGE_OPTIONS


def settings_rows() -> dict[str, tuple[str, str]]:
    """Default and range by name, without prefix."""
    found = {}
    for name, *cells in rows(REFERENCE / "settings.md"):
        if name.startswith("`RMQ_"):
            found[name.strip("`").removeprefix("RMQ_")] = (cells[0].strip("`"), cells[1])
    return found


SETTINGS = {**schema.OF_CONNECTIONS, **schema.GLOBAL}


def test_every_setting_is_in_the_reference():
    assert set(settings_rows()) == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_defaults_and_ranges_of_settings(name):
    default, told_range = settings_rows()[name]
    real, rule = SETTINGS[name]
    told = ast.literal_eval(default)
    assert told == (list(real) if isinstance(real, tuple) else real)
    assert type(told) is type(real) or isinstance(real, tuple)
    if limits := re.fullmatch(r"(\d+) to (\d+)", told_range):
        least, most = map(int, limits.groups())
        assert (rule(least), rule(most)) == (least, most)
        refused = (least - 1, most + 1)
    elif told_range == "above 0":
        refused = (0, -1)
    elif told_range == "0 or more":
        assert rule(0) == 0
        refused = (-1,)
    else:
        return
    for value in refused:
        with pytest.raises(schema.SettingError):
            rule(value)


def test_keys_of_tls():
    text = (REFERENCE / "settings.md").read_text("utf-8").partition("## RMQ_TLS")[2]
    assert re.findall(r"(?m)^\| `(\w+)`", text) == list(schema.TLS_KEYS)


def test_every_check_is_in_the_reference_and_no_other():
    code = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r"\b[EW]\d{3}\b", code))
    told = {row[0].strip("`"): row[1] for row in rows(REFERENCE / "checks.md") if "." in row[0]}
    assert set(told) == {f"rmq_publisher.{number}" for number in used}
    with_deploy = re.findall(r"`(rmq_publisher\.\w+)` \| yes", code)
    assert {name for name, when in told.items() if when} == set(with_deploy)


def test_ids_of_checks_anywhere_in_the_docs_exist():
    known = (REFERENCE / "checks.md").read_text("utf-8")
    for page in PAGES:
        for found in re.findall(r"rmq_publisher\.[EW]\d+", (ROOT / page).read_text("utf-8")):
            assert found in known, page


def test_exceptions():
    text = (REFERENCE / "exceptions.md").read_text("utf-8")
    for name in rmq_publisher.__all__:
        kind = getattr(rmq_publisher, name)
        if inspect.isclass(kind) and issubclass(kind, Exception):
            assert f"\n`{name}`\n: " in text, name
    table = rows(ROOT / "docs/how-to/errors.md")
    told = {row[0]: row[3] for row in table if row[3] in ("yes", "no")}
    assert told.pop("`Rejected`, `reply_code` 404") == "yes"
    assert rmq_publisher.Rejected(404, "").retryable
    for code in (403, 406):
        assert told.pop(f"`Rejected`, {code}") == "no"
        assert not rmq_publisher.Rejected(code, "").retryable
    for name, retryable in told.items():
        assert getattr(rmq_publisher, name.strip("`")).retryable == (retryable == "yes"), name


def test_signals():
    text = (REFERENCE / "signals.md").read_text("utf-8")
    for name, value in vars(signals).items():
        if isinstance(value, Signal):
            assert f"\n`{name}`\n: " in text


def test_fields_of_a_status():
    names = [field.name for field in fields(Status)]
    told = [row[0].strip("`") for row in rows(ROOT / "docs/how-to/watch.md")[1:]]
    assert told == names
    listed = section(REFERENCE / "api.md", "Connections").partition("fields")[2].partition("(")[0]
    assert re.findall(r"`(\w+)`", listed) == names


def test_commands_and_their_options():
    directory = PACKAGE / "management" / "commands"
    text = (REFERENCE / "commands.md").read_text("utf-8")
    for path in directory.glob("rmq_*.py"):
        parser = load_command_class("rmq_publisher", path.stem).create_parser(
            "manage.py", path.stem
        )
        usual = BaseCommand().create_parser("manage.py", "usual")
        own = {*parser._option_string_actions} - {*usual._option_string_actions}
        usage = section(REFERENCE / "commands.md", path.stem).partition("```text")[2]
        usage = usage.partition("```")[0]
        assert set(re.findall(r"--[\w-]+", usage)) == own
    states = {
        value
        for name, value in vars(declaring).items()
        if name.isupper() and isinstance(value, str)
    }
    assert {state for state in states if f"`{state}`" not in text} == set()
    bad = [row[0].strip("`") for row in rows(REFERENCE / "commands.md") if row[1:2] == ["yes"]]
    assert sorted(bad) == sorted(declaring.BAD_STATES)


# -- the layout ---------------------------------------------------------------------------------------


def test_every_module_that_the_layout_names_is_there():
    text = (ROOT / "docs/explanation/layout.md").read_text("utf-8")
    named = {
        name
        for name in re.findall(r"`((?:[a-z_]+\.)+[a-z_]+)`", text)
        if (PACKAGE / name.split(".")[0]).is_dir()
    }
    paths = {name: PACKAGE / name.replace(".", "/") for name in named}
    missing = {
        name
        for name, path in paths.items()
        if not path.is_dir() and not path.with_suffix(".py").exists()
    }
    assert named
    assert missing == {"testing.capture"}  # a function
