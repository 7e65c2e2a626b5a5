"""Dead letters go back through the outbox: once each, cleaned, in one transaction with their rows."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rmq_publisher import InvalidMessage
from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.consumer import dead_letters
from rmq_publisher.consumer.dead_letters import SENT_BACK, from_dead_letter_queue
from rmq_publisher.outbox import after_commit, transitions
from rmq_publisher.publisher.send_back import discard, send_back
from tests.support.received import received

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEATH = {"queue": "orders", "reason": "rejected", "exchange": "", "routing-keys": ["orders"]}


@pytest.fixture(autouse=True)
def _memory(settings: Any) -> None:
    settings.RMQ_URL = "memory://"


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be sent after the commit; the rows stay."""
    found: list[Any] = []
    monkeypatch.setattr(after_commit, "send_committed", lambda _, rows: found.extend(rows))
    return found


def stored(database: str, message_id: str = "m1", **properties: Any) -> int:
    headers = {"x-death": [DEATH], **properties.pop("headers", {})}
    message = received(b"body", queue="dead", message_id=message_id, headers=headers, **properties)
    dead_letters.store(database, [from_dead_letter_queue(message, "default")])
    pk: int = dead_letters.rows(database).order_by("-pk").values_list("pk", flat=True)[0]
    return pk


def outbox(database: str) -> list[Any]:
    return list(transitions.messages(database).order_by("pk"))


def state(database: str, pk: int) -> str:
    found: str = dead_letters.rows(database).get(pk=pk).state
    return found


def test_it_is_published_to_the_queue_where_it_died(store: str, sent: list[Any]) -> None:
    pk = stored(
        store, correlation_id="c", type="t", timestamp=7, content_type="text/plain", priority=3
    )
    assert send_back(store, [pk]).sent == [pk]
    (row,) = outbox(store)
    assert (row.message_id, row.using, row.exchange, row.routing_key) == (
        "m1", "default", "", "orders",
    )  # fmt: skip
    values = read_properties(bytes(row.header))
    assert values["content_type"] == "text/plain"
    kept = ("correlation_id", "type", "timestamp", "priority", "delivery_mode", "message_id")
    assert [values[name] for name in kept] == ["c", "t", 7, 3, 2, "m1"]
    assert bytes(row.body) == b"body"
    letter = dead_letters.rows(store).get()
    assert (letter.state, letter.finished_at is not None) == ("sent_back", True)
    assert [one.id for one in sent] == [row.pk]


def test_the_history_is_left_out_and_the_rest_is_kept(store: str) -> None:
    own = {"h": "v", "when": THEN, "price": Decimal("1.50"), "raw": b"\xff", "compression": "x"}
    brokers = {
        "x-first-death-queue": "orders", "x-last-death-reason": "rejected", "x-delivery-count": 3,
        "x-acquired-count": 4, "x-rmq-attempts": 4, "x-rmq-error": "failed", "CC": ["other"],
        "BCC": ["other"], "x-rmq-original": {"user_id": "guest"},
    }  # fmt: skip
    pk = stored(store, headers=own | brokers, expiration="1000", user_id="somebody")
    assert send_back(store, [pk]).sent == [pk]
    values = read_properties(bytes(outbox(store)[0].header))
    headers = values["headers"]
    assert len(headers.pop(SENT_BACK)) == 32
    assert headers == own
    assert not {"expiration", "user_id"} & set(values)


def test_it_goes_back_once(store: str) -> None:
    pk = stored(store)
    assert send_back(store, [pk, 10**9]).closed == [10**9]
    again = send_back(store, [pk])
    assert (again.sent, again.closed) == ([], [pk])
    assert len(outbox(store)) == 1


def test_another_death_of_it_is_another_row(store: str) -> None:
    """Even if the broker's clock says the same second."""
    send_back(store, [stored(store)])
    header = bytes(outbox(store)[0].header)
    values = read_properties(header)
    headers = {**values.pop("headers"), "x-death": [DEATH]}
    message = received(b"body", queue="dead", headers=headers, **values)
    dead_letters.rows(store).update(state="waiting")
    assert dead_letters.store(store, [from_dead_letter_queue(message, "default")]) == 1


def test_without_an_id_it_is_given_one(store: str) -> None:
    pk = stored(store, message_id="")
    assert send_back(store, [pk]).sent == [pk]
    assert len(outbox(store)[0].message_id) == 32


def test_what_cannot_be_sent_waits_on(store: str) -> None:
    unknown, unreadable, fine = (stored(store, name) for name in ("m1", "m2", "m3"))
    rows = dead_letters.rows(store)
    rows.filter(pk=unknown).update(queue="")
    rows.filter(pk=unreadable).update(header=b"\xff")
    gone = stored(store, "m4")
    rows.filter(pk=gone).update(using="nowhere")
    result = send_back(store, [unknown, unreadable, fine, gone])
    assert (result.sent, result.unknown) == ([fine], [unknown])
    assert set(result.refused) == {unreadable, gone}
    assert all(isinstance(error, InvalidMessage) for error in result.refused.values())
    assert "cannot be read" in str(result.refused[unreadable])
    assert "nowhere" in str(result.refused[gone])
    assert [state(store, pk) for pk in (unknown, unreadable, gone)] == ["waiting"] * 3


def test_the_row_and_the_message_are_one_transaction(
    store: str, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    pk = stored(store)

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("rmq_publisher.publisher.send_back._finish", killed)
        with pytest.raises(SystemExit):
            send_back(store, [pk])
    assert (state(store, pk), outbox(store), sent) == ("waiting", [], [])


def test_discarded_is_decided_once(store: str) -> None:
    first, second = stored(store), stored(store, "m2")
    assert discard(store, [first]) == [first]
    assert discard(store, [first, second, 10**9]) == [second]
    assert state(store, first) == "discarded"
    assert dead_letters.rows(store).get(pk=first).finished_at is not None
    assert send_back(store, [first]).closed == [first]
    assert outbox(store) == []
