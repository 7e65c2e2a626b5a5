"""Bodies, header values and passwords stay out of logs, errors and reprs, whatever goes wrong."""

import asyncio
import gc
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from pika import BasicProperties
from pika.exceptions import ConnectionClosedByBroker

from rmq_publisher import (
    Message,
    PublishManyError,
    QueueConfig,
    apublish,
    connections,
    publish_many,
)
from rmq_publisher.exceptions import PublishError
from rmq_publisher.transport.failures import describe
from tests.calls import PATIENCE, calling, error_of, eventually, now, status
from tests.rig.amqp import Amqp
from tests.rig.node import PrivateNode
from tests.rig.ports import closed_port
from tests.rig.proxy import Proxy

PASSWORD, BODY, HEADER = "canary-pa55word", "canary-b0dy", "canary-h3ader"
CANARIES = (PASSWORD, BODY, HEADER)
MESSAGE: dict[str, Any] = {
    "body": BODY,
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


def our_objects() -> Iterator[str]:
    """What everything of ours that is alive says of itself."""
    for thing in gc.get_objects():
        if type(thing).__module__.startswith("rmq_publisher"):
            yield f"{thing!r} {thing}"


@pytest.mark.disturbs
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
            properties=BasicProperties(headers={"other": HEADER}),
            delivery="now",
        )
    errors.append(caught.value)

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
    engine = connections["default"]._engine  # type: ignore[attr-defined]
    engine.dispatcher.answered = _raise
    fails(queue=queue)

    # An alarm.
    now(**MESSAGE, queue=queue)
    node.block()
    call = calling(**{**MESSAGE, "timeout": 1}, queue=queue)
    eventually(lambda: status().blocked)
    errors.append(call.outcome())
    fails(queue=queue)

    said = [leak for error in errors for text in in_words(error) for leak in leaks(text)]
    shown = [leak for text in our_objects() for leak in leaks(text)]
    connections.close()
    told = [
        f"{record.name} {record.pathname}:{record.lineno} {leaks(record.seen)}"
        for record in logged.records
        if leaks(record.seen)
    ]
    assert all(isinstance(error, PublishError) for error in errors)
    assert len({type(error) for error in errors}) >= 6
    assert (said, shown, told) == ([], [], [])
    assert {record.name.partition(".")[0] for record in logged.records} >= {
        "pika", "rmq_publisher",
    }  # fmt: skip


def _raise(*_: object, **__: object) -> None:
    secret = BODY
    raise RuntimeError(f"{secret} {PASSWORD} {HEADER}")


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
