"""Sends dead letters back to the queues where they died, through the outbox; or discards them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import transaction
from pika import BasicProperties

from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.consumer import dead_letters
from rmq_publisher.consumer.dead_letters import BYTES_AT_ONCE, ROWS_AT_ONCE, SENT_BACK
from rmq_publisher.db.batches import IDS_AT_ONCE, batches, batches_by_size
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.errors import retried
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.messages.compose import prepare
from rmq_publisher.outbox.row import check_storable
from rmq_publisher.publisher.on_commit import store

# The broker's history and counts, and the queues that it would be sent to besides.
_LEFT_OUT = ("x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC")
_LEFT_OUT_PREFIXES = ("x-first-death-", "x-last-death-", "x-rmq-")
# It would expire again, or be refused from another user.
_PROPERTIES_LEFT_OUT = ("headers", "expiration", "user_id", "delivery_mode")


@dataclass
class SentBack:
    """The outcome of each row, by its id.

    Attributes:
        sent: stored in the outbox, and sent once the transaction has committed.
        closed: sent back or discarded already, or gone.
        unknown: the queue in which they died is unknown.
        refused: cannot be published as they are.
    """

    sent: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    refused: dict[int, InvalidMessage] = field(default_factory=dict)


def send_back(database: str, ids: Sequence[int]) -> SentBack:
    """Publish dead letters to the queues where they died, each at most once.

    They keep their ids, and lose the broker's history: their attempts begin at zero.

    Args:
        database: Django alias.
        ids: of the rows.

    Raises:
        DatabaseError, InterfaceError: Django's; of the last batch nothing is sent.
    """
    result = SentBack()
    known = dead_letters.rows(database).filter(pk__in=ids).order_by("pk")
    for batch in batches_by_size(known.values_list("pk", "size"), ROWS_AT_ONCE, BYTES_AT_ONCE):
        some = retried(database, partial(_send_back, database, batch))
        result.sent += some.sent
        result.unknown += some.unknown
        result.refused |= some.refused
    others = {*result.sent, *result.unknown, *result.refused}
    result.closed += [id_ for id_ in ids if id_ not in others]
    return result


def _send_back(database: str, ids: Sequence[int]) -> SentBack:
    result = SentBack()
    waiting = dead_letters.rows(database).filter(pk__in=ids, state="waiting").order_by("pk")
    with transaction.atomic(using=database):
        for row in waiting.select_for_update():
            if not row.queue:
                result.unknown.append(row.pk)
                continue
            try:
                _publish(database, row)
            except InvalidMessage as error:
                result.refused[row.pk] = error
            else:
                result.sent.append(row.pk)
        _finish(database, result.sent, "sent_back")
    return result


def discard(database: str, ids: Sequence[int]) -> list[int]:
    """Decide that dead letters are not sent back; return which of them still waited.

    Args:
        database: Django alias.
        ids: of the rows.
    """
    done: list[int] = []
    for some in batches(ids, IDS_AT_ONCE):
        with transaction.atomic(using=database):
            waiting = dead_letters.rows(database).filter(pk__in=some, state="waiting")
            found = list(waiting.select_for_update().values_list("pk", flat=True))
            _finish(database, found, "discarded")
        done += found
    return done


def _finish(database: str, ids: Sequence[int], state: str) -> None:
    rows = dead_letters.rows(database).filter(pk__in=ids)
    rows.update(state=state, finished_at=DatabaseNow())


def _publish(database: str, row: Any) -> None:
    try:
        values = read_properties(bytes(row.header))
    except Exception as error:  # noqa: BLE001 (whatever other clients wrote there)
        raise InvalidMessage(
            f"its properties cannot be read ({type(error).__name__})", message_id=row.message_id
        ) from None
    kept = {name: item for name, item in values.items() if name not in _PROPERTIES_LEFT_OUT}
    # As publish() does with delivery="outbox".
    plan = prepare(
        bytes(row.body),
        queue=row.queue,
        using=row.using,
        properties=BasicProperties(headers=_cleaned(values.get("headers") or {}), **kept),
    )
    check_storable(plan.envelope, plan.using)
    store(plan.using, [plan.envelope], [""], plan.timeout, database)


def _cleaned(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers that the publisher gave, and the mark of this sending."""
    kept = {
        name: value
        for name, value in headers.items()
        if name not in _LEFT_OUT and not name.startswith(_LEFT_OUT_PREFIXES)
    }
    return kept | {SENT_BACK: uuid.uuid4().hex}
