"""The page of parity: every name of the libraries that it covers has a row, and every row a test."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reference" / "parity.md"
ROW = re.compile(r"^\| (?P<there>.+?) \| (?P<here>.+) \| `(?P<test>.+)` \|$", re.MULTILINE)

# As the libraries' own documentation names them.
NAMES = {
    "kombu's Producer": """
        Producer(channel) Producer(exchange) Producer(routing_key) Producer(serializer)
        Producer(compression) Producer(auto_declare) Producer(on_return) Producer.declare
        Producer.maybe_declare Producer.publish Producer.revive Producer.close Producer.release
        Producer.channel publish(body) publish(routing_key) publish(delivery_mode) publish(mandatory)
        publish(immediate) publish(priority) publish(content_type) publish(content_encoding)
        publish(serializer) publish(headers) publish(compression) publish(exchange) publish(retry)
        publish(retry_policy) publish(declare) publish(expiration) publish(timeout)
        publish(confirm_timeout) publish(**properties) max_retries interval_start interval_step
        interval_max""",
    "kombu's Consumer": """
        Consumer(channel) Consumer(queues) Consumer(no_ack) Consumer(auto_declare) Consumer(callbacks)
        Consumer(on_decode_error) Consumer(on_message) Consumer(accept) Consumer(prefetch_count)
        Consumer(tag_prefix) Consumer.channel Consumer.revive Consumer.declare
        Consumer.register_callback Consumer.add_queue Consumer.consume Consumer.cancel
        Consumer.cancel_by_queue Consumer.consuming_from Consumer.purge Consumer.flow Consumer.qos
        Consumer.recover Consumer.receive prefetch_size apply_global drain_events""",
    "kombu's Message": """
        Message.body Message.delivery_tag Message.content_type Message.content_encoding
        Message.delivery_info Message.properties Message.headers Message.ack Message.ack_log_error
        Message.reject Message.reject_log_error Message.requeue Message.decode Message._decode
        Message.acknowledged Message.payload MessageStateError""",
    "Flask-RMQ's producer": """
        Producer(queue) BasicProperties delivery_mode=2 mandatory=True queue_declare(passive=True)
        QueueConfig dead_letter_exchange dead_letter_routing_key @producer""",
    "nucleon.amqp's publishing": """
        basic_publish mandatory immediate content-type content-encoding delivery-mode priority
        correlation-id reply-to expiration message-id timestamp type user-id app-id headers CC BCC
        MessageReturned MessageReturnedNoRoute MessageReturnedNoConsumers confirm_select nowait""",
}
ROWS = [match.groupdict() for match in ROW.finditer(PAGE.read_text("utf-8"))]


@pytest.mark.parametrize("section", NAMES)
def test_every_name_has_a_row(section: str) -> None:
    text = re.split(
        r"^## ", PAGE.read_text("utf-8").partition(f"## {section}\n")[2], flags=re.MULTILINE
    )[0]
    named = {match["there"].strip("`") for match in ROW.finditer(text)}
    assert set(NAMES[section].split()) - named == set()


@pytest.mark.parametrize("row", ROWS, ids=[row["there"] for row in ROWS])
def test_every_row_has_a_test(row: dict[str, str]) -> None:
    path, _, name = row["test"].partition("::")
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert row["here"].strip()


def test_all_rows_are_read() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    headings = sum(line == "| There | Here | Test |" for line in lines)
    assert len(ROWS) == len(lines) - headings > 100


def test_only_immediate_cannot_be_had() -> None:
    """Everything else is here; what RabbitMQ itself does not implement is said with its reason."""
    refused = {row["there"] for row in ROWS if "removed it in 3.0" in row["here"]}
    assert refused == {"`publish(immediate)`", "`immediate`"}
