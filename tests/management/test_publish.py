"""rmq_publish: a message from a shell, confirmed by a real broker."""

import io
import sys

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.support.publishing import only, taken


@pytest.fixture
def publish(rmq, capsys):
    def run(*arguments: str) -> list[str]:
        call_command("rmq_publish", *arguments)
        return capsys.readouterr().out.split()

    return run


@pytest.fixture
def queue(amqp, names):
    name = names.queue()
    amqp.channel.queue_declare(name, durable=True)
    return name


def test_a_message_with_properties(publish, queue, amqp):
    [message_id] = publish(
        '{"a": 1}', "--queue", queue, "--header", "k=v=w", "--priority", "3", "--type", "t"
    )
    message = only(amqp, queue)
    assert message.body == b'{"a": 1}'
    assert message.properties.message_id == message_id
    assert message.properties.headers == {"k": "v=w"}
    assert (message.properties.priority, message.properties.type) == (3, "t")


def test_a_body_of_standard_input_stays_bytes(publish, queue, amqp, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\0")))
    publish("--queue", queue)
    assert only(amqp, queue).body == b"\xff\0"


def test_repeat(publish, queue, amqp):
    ids = publish("x", "--queue", queue, "--repeat", "3")
    assert [m.properties.message_id for m in taken(amqp, queue)] == ids
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], "nowhere to go"),
        (["x", "--queue", "no-such-queue"], "404"),
        (["x", "--exchange", "amq.direct", "--routing-key", "nobody"], "312"),
        (["x", "--queue", "q", "--repeat", "0"], "--repeat must be at least 1"),
        (["x", "--queue", "q", "--repeat", "2", "--message-id", "m"], "each message has its own"),
        (["x", "--queue", "q", "--priority", "999"], "priority"),
        (["x", "--queue", "q", "--header", "k"], "NAME=VALUE"),
        (["x", "--queue", "q", "--using", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_published_says_why(publish, arguments, words):
    with pytest.raises(CommandError, match=words):
        publish(*arguments)
