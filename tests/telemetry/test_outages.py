"""A broker that stays down is logged once a minute, with counts, and not once for each attempt."""

import logging

import pytest
from django.db import transaction

from rmq_publisher import BrokerUnavailable, publish
from rmq_publisher.telemetry import outages
from rmq_publisher.testing import capture
from tests.support.rig.ports import closed_port

REASON = "cannot use RabbitMQ at rabbit:5672: Connection refused"


@pytest.fixture
def now(monkeypatch):
    """Our clock, in a list of one; it stands still until it is told."""
    seconds = [1000.0]
    monkeypatch.setattr(outages, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def lines(caplog):
    """Return level, logger and text of what has been logged since the last call."""
    caplog.set_level(logging.INFO, "rmq_publisher")

    def take():
        found = [
            (record.levelname, record.name, record.getMessage())
            for record in caplog.records
            if record.getMessage().startswith(("shop: ", "message "))
        ]
        caplog.clear()
        return found

    return take


def attempts(number):
    for _ in range(number):
        outages.attempt_failed("shop", REASON)


def kept(number, level=logging.ERROR):
    for one in range(number):
        outages.messages_kept("shop", REASON, level, f"message {one} is kept")


def summary(seconds, tries, messages):
    return (
        f"shop: {REASON}; down for {seconds} s, since the last line: {tries} failed, "
        f"{messages} kept for rmq_relay"
    )


def test_everything_in_the_first_seconds_then_one_line_a_minute(now, lines):
    attempts(2)
    now[0] += outages.VERBOSE_SECONDS
    kept(2)
    assert len(lines()) == 4
    for _ in range(59):
        now[0] += 1
        attempts(3)
        kept(5)
        assert lines() == []
    now[0] += 1
    attempts(1)
    kept(1)
    [(level, logger, text)] = lines()
    assert (level, logger) == ("ERROR", "rmq_publisher")
    assert text == summary(70, "178 connection attempts", "295 messages")
    now[0] += 60
    attempts(1)
    [(level, logger, text)] = lines()
    assert (level, logger) == ("ERROR", "rmq_publisher")
    assert text == summary(130, "1 connection attempt", "1 message")
    now[0] += 60
    attempts(1)
    [(level, logger, _)] = lines()
    assert (level, logger) == ("WARNING", "rmq_publisher.transport")


def test_its_end_logs_what_no_line_has_said(now, lines):
    attempts(1)
    now[0] += 30
    attempts(4)
    kept(1)
    lines()
    outages.ended("shop")
    [(_, _, text)] = lines()
    assert text.startswith(
        "shop: usable again after 30 s, since the last line: 4 connection attempts"
    )
    assert text.endswith("failed, 1 message kept for rmq_relay")
    outages.ended("shop")
    assert lines() == []
    attempts(1)
    assert len(lines()) == 1, "the next outage is logged at once"


def test_after_a_quiet_minute_it_is_another_outage(now, lines):
    attempts(1)
    now[0] += 61
    attempts(1)
    now[0] += 9
    attempts(1)
    assert len(lines()) == 3


def test_each_broker_has_its_own_lines(now, lines):
    attempts(1)
    now[0] += 30
    attempts(1)
    lines()
    outages.attempt_failed("message broker", REASON)
    assert len(lines()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_kept_message_says_so_and_names_itself_once(settings, caplog):
    settings.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}"
    with transaction.atomic():
        id_ = publish("x", routing_key="the-key", exchange="")
    [line] = [text for text in caplog.messages if id_ in text]
    assert "it is kept, and rmq_relay will send it" in line
    for name in (id_, "the-key", "'default'", "127.0.0.1"):
        assert line.count(name) == 1, name
    for attempt in {text for text in caplog.messages if "cannot use" in text} - {line}:
        assert attempt.count("default") == 1


@pytest.mark.django_db(transaction=True)
def test_the_messages_of_a_long_outage_are_counted(settings, caplog, now, monkeypatch):
    settings.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}"
    monkeypatch.setattr(
        outages, "attempt_failed", lambda *_: None
    )  # its line takes the counts too
    ids = [publish("x", routing_key="q")]
    for _ in range(2):
        now[0] += 30
        ids.append(publish("x", routing_key="q"))
    assert [id_ in caplog.text for id_ in ids] == [True, False, False]
    assert "2 messages kept for rmq_relay" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_dead_message_says_what_it_needs(rmq, amqp, caplog):
    rmq.RMQ_MAX_ATTEMPTS = 1
    id_ = publish("x", exchange="amq.direct", routing_key=amqp.names.unique())
    [line] = [text for text in caplog.messages if id_ in text]
    assert "is dead and needs a decision (rmq_retry or rmq_discard)" in line
    assert line.count("amq.direct") == 1


@pytest.mark.django_db(transaction=True)
def test_a_capture_knows_nothing_of_outages_before_it(settings, caplog, now):
    settings.RMQ_URL = f"amqp://127.0.0.1:{closed_port()}"
    outages.attempt_failed("default", REASON)
    now[0] += 30
    with capture(error=BrokerUnavailable("no connection")):
        id_ = publish("x", routing_key="q")
    assert id_ in caplog.text
