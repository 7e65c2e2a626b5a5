"""`--verbosity 0`: every command is silent, and still does its work."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from rmq_publisher import QueueConfig, consume, publish
from rmq_publisher.consumer import handlers
from rmq_publisher.management import commands
from rmq_publisher.testing import memory_broker

COMMANDS = sorted(path.stem for path in Path(commands.__path__[0]).glob("rmq_*.py"))
ARGUMENTS = {
    "rmq_relay": ["--once"],
    "rmq_retry": ["--all-dead"],
    "rmq_consume": ["--once"],
    "rmq_discard": ["--state", "dead"],
    "rmq_publish": ["x", "--queue", "orders"],
}


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("verbosity", [0, 1])
@pytest.mark.parametrize("name", COMMANDS)
def test_verbosity_0_is_silent(name, verbosity, settings, capsys, monkeypatch):
    monkeypatch.setattr(handlers, "_registered", {})
    if name == "rmq_consume":
        consume("orders", max_attempts=1)(print)
    settings.RMQ_URL = "memory://"
    settings.RMQ_QUEUES = [QueueConfig("orders")]
    call_command(name, *ARGUMENTS.get(name, []), verbosity=verbosity)
    said, aside = capsys.readouterr()
    assert bool(said) == bool(verbosity) or name == "rmq_relay"
    ends_here = name in ("rmq_publish", "rmq_relay", "rmq_consume")
    assert ("What this command sends ends with it" in aside) == (bool(verbosity) and ends_here)


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rmq_retry", "--error", "Foo"], "no error 'Foo'.*Unroutable"),
        (["rmq_prune", "--state", "pending"], "never deleted"),
        (["rmq_declare", "--strict"], "--strict needs --check"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said):
    with pytest.raises(CommandError, match=said):
        call_command(*arguments)


def test_the_memory_broker_of_each_process_has_the_projects_topology(settings):
    """As in the quick start: `rmq_declare` runs in another process than the server."""
    settings.RMQ_URL = "memory://"
    settings.RMQ_QUEUES = [QueueConfig("orders")]
    publish("b", queue="orders", delivery="now")
    assert memory_broker().depth("orders") == 1
    memory_broker().reset()
    publish("b", queue="orders", delivery="now")
    assert memory_broker().depth("orders") == 1


def test_declare_says_what_it_did_not_do(settings, capsys):
    settings.RMQ_URL = "memory://"
    settings.RMQ_QUEUES = [QueueConfig("orders")]
    call_command("rmq_declare")
    assert "memory:// exists in each process separately" in capsys.readouterr().out
