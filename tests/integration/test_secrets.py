"""Bodies, header values and passwords stay out of logs, errors and reprs, whatever goes wrong."""

import asyncio
import gc
import logging
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pika import BasicProperties
from pika.exceptions import ConnectionClosedByBroker

from rmq_publisher import (
    InvalidMessage,
    Message,
    Nacked,
    PublishError,
    PublishManyError,
    QueueConfig,
    Rejected,
    Unroutable,
    apublish,
    connections,
    publish,
    publish_many,
)
from rmq_publisher.signals import publish_failed
from rmq_publisher.transport.rabbitmq.errors import describe
from tests.support.calls import PATIENCE, calling, error_of, eventually, now, status
from tests.support.rig.amqp import Amqp
from tests.support.rig.node import PrivateNode
from tests.support.rig.ports import closed_port
from tests.support.rig.proxy import Proxy

PASSWORD, BODY, HEADER = "canary-pa55word", "canary-b0dy", "canary-h3ader"
CORRELATION = "canary-c0rrelation"
CANARIES = (PASSWORD, BODY, HEADER, CORRELATION)
MESSAGE: dict[str, Any] = {
    "body": BODY,
    "correlation_id": CORRELATION,
    "reply_to": CORRELATION,
    "headers": {"who": HEADER, "nested": {"deep": [HEADER]}},
    "timeout": PATIENCE,
}


class Everything(logging.Handler):
    """Keeps what any logger says, in every form in which a handler could put it down."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        # At once: what the arguments refer to may change.
        record.seen = "\n".join((self.format(record), repr(record.args), repr(vars(record))))

    def leaks(self) -> list[str]:
        """Where a canary was logged."""
        return [
            f"{record.name} {record.pathname}:{record.lineno} {found}"
            for record in self.records
            if (found := leaks(record.seen))
        ]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Everything]:
    handler = Everything()
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "pika")  # conftest.py has it silent
    caplog.set_level(logging.DEBUG, "rmq_publisher")
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


def in_words(error: BaseException | None) -> Iterator[str]:
    """All that is ever shown of an error, and of what lies behind it."""
    while error is not None:
        yield from (repr(error), str(error), repr(error.args), repr(vars(error)))
        yield "".join(traceback.format_exception(error))
        if isinstance(error, PublishManyError):
            for outcome in error.outcomes:
                yield from in_words(outcome)
        error = error.__cause__ or error.__context__


def words_of(errors: Iterable[BaseException | None]) -> list[str]:
    """The canaries in all that is shown of errors."""
    return [leak for error in errors for text in in_words(error) for leak in leaks(text)]


def our_objects() -> Iterator[str]:
    """What everything of ours that is alive says of itself."""
    for thing in gc.get_objects():
        module = type(thing).__module__
        if isinstance(module, str) and module.startswith(
            "rmq_publisher"
        ):  # a class may say anything
            yield f"{thing!r} {thing}"


@pytest.mark.disturbs
@pytest.mark.django_db(transaction=True)  # what failed after a commit is stored
def test_nothing_leaks_over_a_run_with_faults(
    settings: Any, node: PrivateNode, node_proxy: Proxy, node_amqp: Amqp, logged: Everything
) -> None:
    node.add_user("canary", PASSWORD, write="^(amq\\.default|open)$")
    node_amqp.declare_exchange("open", "fanout")
    node_amqp.declare_exchange("forbidden", "fanout")
    node_amqp.declare_queue("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    queue = node_amqp.declare_queue("q")
    url = node_proxy.url.replace("guest:guest@", f"canary:{PASSWORD}@")
    errors: list[Any] = []

    def fails(**options: Any) -> None:
        errors.append(error_of(**{**MESSAGE, **options}))

    # No broker, and a login that is refused.
    settings.RMQ_URL = f"amqp://canary:{PASSWORD}@127.0.0.1:{closed_port()}"
    fails(queue=queue)
    settings.RMQ_URL = url.replace(PASSWORD, f"{PASSWORD}-wrong")
    fails(queue=queue)

    # All answers that a broker has.
    settings.RMQ_URL = url
    now(**MESSAGE, queue=queue)
    now(**MESSAGE, queue="full")
    fails(queue="full")
    fails(queue="missing")
    fails(queue=QueueConfig(queue, durable=False))
    fails(routing_key="nowhere")
    fails(exchange="forbidden")
    fails(exchange="forbidden")
    fails(queue=queue, user_id="somebody")
    with pytest.raises(PublishManyError) as caught:
        publish_many(
            [Message(BODY), Message(BODY, routing_key="nowhere")],
            queue=queue,
            headers=MESSAGE["headers"],
            properties=BasicProperties(headers={"other": HEADER}, correlation_id=CORRELATION),
            delivery="now",
        )
    errors.append(caught.value)

    # What is found out after a commit goes to the log, and to receivers.
    def receiver(error: PublishError, **_: Any) -> None:
        errors.append(error)
        raise RuntimeError("logged by Django")

    publish_failed.connect(receiver)
    publish(**MESSAGE, queue="missing")
    publish(**MESSAGE, queue="full")
    publish_many([BODY, BODY], routing_key="nowhere", headers=MESSAGE["headers"])
    publish_failed.disconnect(receiver)
    assert [type(error) for error in errors[-4:]] == [Rejected, Nacked, Unroutable, Unroutable]

    # A network that breaks, and deadlines.
    node_proxy.cut()
    now(**MESSAGE, queue=queue)
    cut = node_proxy.cut_after_publish()
    now(**MESSAGE, queue=queue)
    broken = node_proxy.reset_in_body()
    now(**{**MESSAGE, "body": BODY * 20_000}, queue=queue)
    swallowed = node_proxy.swallow_acks()
    fails(queue=queue, timeout=0.2)
    stall = node_proxy.stall("client")
    with pytest.raises(PublishError) as timed_out:
        asyncio.run(apublish(BODY, queue=queue, headers=MESSAGE["headers"], timeout=0.2))
    errors.append(timed_out.value)
    stall.disarm()
    assert (cut.hits, broken.hits, swallowed.hits) == (1, 1, 1)

    # A callback that raises with a value in its words, and in its frames.
    engine = connections["default"]._thread  # type: ignore[attr-defined]
    engine.dispatcher.answered = _raise
    fails(queue=queue)

    # An alarm.
    now(**MESSAGE, queue=queue)
    node.block()
    call = calling(**{**MESSAGE, "timeout": 1}, queue=queue)
    eventually(lambda: status().blocked)
    errors.append(call.outcome())
    fails(queue=queue)

    shown = [leak for text in our_objects() for leak in leaks(text)]
    connections.close()
    assert all(isinstance(error, PublishError) for error in errors)
    assert len({type(error) for error in errors}) >= 6
    assert (words_of(errors), shown, logged.leaks()) == ([], [], [])
    assert {record.name.partition(".")[0] for record in logged.records} >= {
        "pika", "rmq_publisher",
    }  # fmt: skip


def _raise(*_: object, **__: object) -> None:
    secret = BODY
    raise RuntimeError(f"{secret} {PASSWORD} {HEADER}")


@pytest.mark.disturbs
def test_nothing_leaks_of_tls(
    settings: Any, tls_node: PrivateNode, logged: Everything, tmp_path: Path
) -> None:
    assert tls_node.certificates is not None
    trusted = {"CA_FILE": tls_node.certificates.ca_file}
    (tmp_path / "garbage.pem").write_text(f"{PASSWORD}\n")
    other = {"CA_FILE": tls_node.certificates.other_authority()}
    errors = []
    for url, tls in (
        (tls_node.tls_url("canary", PASSWORD), trusted),  # there is no such user
        (tls_node.tls_url("canary", PASSWORD), other),
        (tls_node.tls_url("canary", PASSWORD), {"CA_FILE": tmp_path / "missing.pem"}),
        (tls_node.tls_url("canary", PASSWORD), {"CA_FILE": tmp_path / "garbage.pem"}),
        (f"amqps://canary:{PASSWORD}@localhost:{tls_node.port}", trusted),
        (f"amqp://canary:{PASSWORD}@localhost:{tls_node.tls_port}", None),
    ):
        settings.RMQ_URL, settings.RMQ_TLS = url, tls
        errors.append(error_of(**MESSAGE, queue="q"))
    settings.RMQ_URL, settings.RMQ_TLS = tls_node.tls_url(), trusted
    errors.append(error_of(**MESSAGE, queue="missing"))
    now(**MESSAGE, queue=QueueConfig("tls"))
    connections.close()
    assert len({str(error) for error in errors}) == 7
    assert (words_of(errors), logged.leaks()) == ([], [])
    assert any(record.name.startswith("pika") for record in logged.records)


REFUSED: dict[str, dict[str, Any]] = {
    "no bytes": {"body": {BODY: BODY}},
    "no serializer": {"body": [BODY], "serializer": "nowhere"},
    "no JSON": {"body": {BODY, HEADER}, "serializer": "json"},
    "too large": {"body": BODY * 2_000_000},
    "surrogate": {"body": f"{BODY}\ud800"},
    "header": {"headers": {"who": HEADER, "x": object()}},
    "headers": {"headers": [HEADER]},
    "too many headers": {"headers": {"who": HEADER * 20_000}},
    "long id": {"message_id": CORRELATION * 20},
    "long": {"correlation_id": CORRELATION * 20},
    "number": {"reply_to": 5, "priority": 999},
    "expiration": {"expiration": -1},
    "properties": {"properties": {"correlation_id": CORRELATION}},
    "no such keyword": {"header": HEADER},
    "not a timeout": {"timeout": BODY},
    "no such alias": {"using": "elsewhere"},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_at_the_call_is_not_repeated(
    rmq: Any, logged: Everything, options: dict[str, Any]
) -> None:
    with pytest.raises((InvalidMessage, TypeError)) as caught:
        publish(**{**MESSAGE, "queue": "q", **options})
    # Their frames are the debug page's matter; here it is their words.
    assert leaks(f"{caught.value} {caught.value!r} {caught.value.args} {vars(caught.value)}") == []
    assert logged.leaks() == []


@pytest.mark.parametrize("quoted", [f'<<"{BODY}">>', "<<99,97,110,97,114,121>>", f"<<\n{BODY}"])
def test_what_the_broker_quotes_of_a_frame_is_not_repeated(quoted: str) -> None:
    text = f"FRAME_ERROR - type 3, first 16 octets = {quoted}: {{invalid_frame_end_marker, 0}}"
    words = describe(ConnectionClosedByBroker(501, text))
    assert words == (
        "the broker closed the connection: 501 FRAME_ERROR - type 3, first 16 octets are not shown"
    )


def test_settings_and_status_show_no_password(settings: Any) -> None:
    settings.RMQ_URL = f"amqp://canary:{PASSWORD}@127.0.0.1:{closed_port()}"
    transport = connections["default"]
    for shown in (transport, transport.settings, transport.status(), connections):
        assert not leaks(f"{shown!r} {shown}")
