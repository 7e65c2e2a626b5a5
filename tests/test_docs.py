"""The README and docs/: their Python runs, their commands do what they show, their tables are the code's.

A Python block runs with the others of its page, in order. A comment in its first line names the file that
it stands for; `<!-- not run: why -->` above a block keeps it from being run."""

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal

import rmq_publisher
from rmq_publisher import serialization, signals
from rmq_publisher.conf import schema, validators
from rmq_publisher.messages import compose
from rmq_publisher.messages import envelope as messages
from rmq_publisher.publisher import api
from rmq_publisher.topology import declare as declaring
from rmq_publisher.transport.base import Status
from tests.support.pages import ROOT, blocks, rows

PACKAGE = ROOT / "rmq_publisher"
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
    if "_build" not in page.parts
)


# -- reading pages ------------------------------------------------------------------------------------


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
    of_transactions = {"delivery", "database", "ordering_key", "countdown", "eta"}
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
        with pytest.raises(validators.SettingError):
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
    for code in (403, 405, 406):
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
    assert missing == set()
