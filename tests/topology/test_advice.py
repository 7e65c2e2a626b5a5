"""Errors about what is missing name the command that declares it, or the name that was meant."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rmq_publisher import ExchangeConfig, QueueConfig, Rejected, Unroutable
from rmq_publisher.exceptions import BrokerAnswer
from rmq_publisher.outbox.retry_policy import words
from rmq_publisher.topology import registry

ROOT = Path(__file__).parents[2]
RUN = "; RMQ_QUEUES declares it: run manage.py rmq_declare"
MEANT = "; did you mean 'ledgers' (RMQ_QUEUES)?"


@pytest.fixture
def project(settings: Any) -> None:
    settings.RMQ_URL = "memory://"
    settings.RMQ_QUEUES = [QueueConfig("ledgers")]
    settings.RMQ_EXCHANGES = [ExchangeConfig("events")]


def missing(name: str, kind: str = "queue", code: int = 404) -> Rejected:
    return Rejected(code, f"NOT_FOUND - no {kind} '{name}' in vhost '/'")


def after(error: BrokerAnswer) -> str:
    """The text after the broker's words."""
    return str(error).partition(error.reply_text)[2]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (missing("ledgers"), RUN),
        (missing("legers"), MEANT),
        (missing("something else"), ""),
        (missing("ledgers", "exchange"), ""),
        (missing("events", "exchange"), RUN.replace("QUEUES", "EXCHANGES")),
        (missing("ledgers", code=403), ""),
        (Rejected(404, "NOT_FOUND - failed to perform operation on queue 'ledgers'"), ""),
        (Unroutable(312, "NO_ROUTE", routing_key="ledgers"), RUN),
        (Unroutable(312, "NO_ROUTE", routing_key="legers"), MEANT),
        (Unroutable(312, "NO_ROUTE", routing_key="ledgers", exchange="events"), ""),
    ],
    ids=[
        "known",
        "near",
        "unknown",
        "another kind",
        "exchange",
        "forbidden",
        "node down",
        "returned",
        "returned near",
        "of an exchange",
    ],
)
def test_advice(error: BrokerAnswer, advice: str) -> None:
    assert after(error) == advice
    assert words(error) == f"{error.reply_text}{advice}"


def test_of_several_connections_the_command_names_the_one(settings: Any) -> None:
    settings.RMQ_CONNECTIONS = {"a": {"URL": "memory://"}, "b": {"URL": "memory://"}}
    settings.RMQ_QUEUES = [QueueConfig("ledgers", using="b")]
    assert after(missing("ledgers")) == f"{RUN} --using b"


PROGRAM = """
from django.conf import settings
settings.configure(RMQ_URL="memory://", INSTALLED_APPS=[])
import django
django.setup()
from rmq_publisher import PublishError, publish
for place in ({"routing_key": "q"}, {"queue": "q"}, {"exchange": "x"}):
    try:
        publish("x", delivery="now", **place)
    except PublishError as error:
        print(error)
"""


def test_without_the_app_an_error_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=ROOT
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all('add "rmq_publisher" to INSTALLED_APPS' in line for line in lines)


@pytest.mark.usefixtures("project")
def test_other_settings_other_advice(settings: Any) -> None:
    assert after(missing("legers")) == MEANT
    settings.RMQ_QUEUES = []
    assert after(missing("legers")) == ""


@pytest.mark.usefixtures("project")
def test_a_project_that_cannot_be_read_spoils_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> None:
        raise ImportError("of the project's own module")

    monkeypatch.setattr(registry, "declarations", fails)
    assert after(missing("lgers")) == ""
