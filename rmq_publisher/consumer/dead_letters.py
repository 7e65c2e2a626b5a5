"""Dead letters as rows: from dead-letter queues, and from workers whose queue has none."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.consumer.deaths import Death, clean_text, deaths, last_death
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.retry_headers import Carried
from rmq_publisher.db.batches import batches_by_size
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.keys import key_of
from rmq_publisher.db.schema import ERROR_MAX

# A header of messages that are sent back: it tells a later death from the first one.
SENT_BACK = "x-rmq-sent-back"
ROWS_AT_ONCE = 100
BYTES_AT_ONCE = 2**20  # of bodies; MySQL's packets have a limit
_RUN = ("rejected", "delivery_limit")  # the broker's reasons that mean a consumer had the message
_ENDED = ("failed", "crashed", "rejected")  # a worker's reasons
AHEAD_MAX = timedelta(days=1)  # how far a broker's clock may be ahead
_INT_MAX = 2**31 - 1


def rows(database: str) -> QuerySet[Any]:
    """Return the rows of a database. The model is not imported: apps may not be ready yet."""
    return apps.get_model("rmq_publisher", "DeadLetter")._default_manager.using(database)


def from_dead_letter_queue(message: ReceivedMessage, using: str) -> Any:
    """Return the row of a message that was taken from a dead-letter queue, not saved yet.

    Args:
        message: as received.
        using: RabbitMQ alias.

    Raises:
        DecodeError: its body is larger than RMQ_MAX_BODY_SIZE, and was not kept.
    """
    values = _values(message.header)
    found = deaths(values.get("headers") or {})
    last = last_death(found)
    columns = {
        "dead_letter_queue": clean_text(message.queue),
        "deaths": [death.plain() for death in found],
        "died_at": _stored_time(last.time if last else None),
        **_why(message, values, last),
    }
    return _row(message, using, values, columns, _identity(last))


def _why(
    message: ReceivedMessage, values: Mapping[str, Any], last: Death | None
) -> dict[str, Any]:
    """Return where it was published, where and why it died, and after how many attempts."""
    queue = reason = exchange = routing_key = ""
    if last is not None:
        queue, reason, exchange = last.queue, last.reason, last.exchange
        routing_key = last.routing_keys[0] if last.routing_keys else ""
    carried = Carried(dict(values), message.queue, exchange, routing_key)
    exchange, routing_key = carried.place
    attempts = carried.failures
    # A worker that gives a message up publishes it with the reason, and counts all its attempts.
    ended = carried.error.partition(":")[0]
    if ended in _ENDED:
        reason = ended
    elif reason in _RUN:
        attempts += 1
    return {
        "queue": queue,
        "exchange": clean_text(exchange),
        "routing_key": clean_text(routing_key),
        "reason": reason,
        "error": clean_text(carried.error, ERROR_MAX),
        "attempts": min(attempts, _INT_MAX),
    }


def from_worker(
    message: ReceivedMessage,
    using: str,
    *,
    handler: str,
    reason: str,
    error: str,
    attempts: int,
) -> Any:
    """Return the row of a message whose attempts have ended in a worker, not saved yet.

    Args:
        message: as received.
        using: RabbitMQ alias.
        handler: the handler's name.
        reason: "failed", "crashed" or "rejected".
        error: class and place of the exception, never a value.
        attempts: the number of attempts.

    Raises:
        DecodeError: its body is larger than RMQ_MAX_BODY_SIZE, and was not kept.
    """
    values = _values(message.header)
    info = message.delivery_info
    columns = {
        "queue": clean_text(message.queue),
        "exchange": clean_text(info["exchange"]),
        "routing_key": clean_text(info["routing_key"]),
        "handler": clean_text(handler),
        "reason": clean_text(reason, 50),
        "error": clean_text(error, ERROR_MAX),
        "attempts": attempts,
        "deaths": [death.plain() for death in deaths(values.get("headers") or {})],
        "died_at": DatabaseNow(),
    }
    identity = (message.queue, handler, reason, str(attempts))
    return _row(message, using, values, columns, identity)


def store(database: str, letters: Iterable[Any]) -> int:
    """Write rows, in one transaction, except those that are stored already.

    A message counts as stored only while its row is waiting. Once that row was sent back or discarded,
    the same message is stored again rather than lost.

    Args:
        database: Django alias.
        letters: rows as `from_dead_letter_queue` and `from_worker` return them.

    Returns:
        How many rows are new.

    Raises:
        DatabaseError, InterfaceError: Django's; nothing is stored.
    """
    sized = [(letter, letter.size) for letter in letters]
    batches = list(batches_by_size(sized, ROWS_AT_ONCE, BYTES_AT_ONCE))
    try:
        return _store_all(database, batches)
    except IntegrityError:  # another process has stored one of them at this moment
        return _store_all(database, batches)


def _store_all(database: str, batches: Iterable[Sequence[Any]]) -> int:
    with transaction.atomic(using=database):
        return sum(_store(database, batch) for batch in batches)


def _store(database: str, letters: Sequence[Any]) -> int:
    table = rows(database)
    digests = [letter.digest for letter in letters]
    known = dict(table.filter(digest__in=digests).values_list("digest", "state"))
    new = []
    for letter in letters:
        state = known.get(letter.digest)
        if state == letter.State.WAITING:
            continue
        known[letter.digest] = letter.State.WAITING
        if state is not None:
            letter.digest = uuid.uuid4()
        new.append(letter)
    # Not ignore_conflicts: MySQL and MariaDB would ignore other errors too, and store damaged rows.
    table.bulk_create(new)
    return len(new)


def _row(
    message: ReceivedMessage,
    using: str,
    values: Mapping[str, Any],
    columns: Mapping[str, Any],
    identity: Iterable[str],
) -> Any:
    model: Any = apps.get_model("rmq_publisher", "DeadLetter")
    body = message.body
    message_id = values.get("message_id") or ""
    return model(
        digest=_digest(message_id, body, values.get("headers") or {}, identity),
        message_id=clean_text(message_id),
        correlation_id=clean_text(values.get("correlation_id")),
        using=using,
        header=message.header,
        body=body,
        size=len(body),
        stored_at=DatabaseNow(),
        **columns,
    )


def _digest(
    message_id: str, body: bytes, headers: Mapping[str, Any], identity: Iterable[str]
) -> uuid.UUID:
    """Return what identifies a message and its death when the broker redelivers it.

    Two messages without an id may be equal in everything, so each delivery is stored, even duplicates.
    """
    if not message_id:
        return uuid.uuid4()
    mark = headers.get(SENT_BACK)
    return key_of(message_id, body, mark if isinstance(mark, str) else "", *identity)


def _identity(death: Death | None) -> tuple[str, ...]:
    if death is None:
        return ()
    time = "" if death.time is None else death.time.isoformat()
    return (death.queue, death.reason, death.exchange, *death.routing_keys, str(death.count), time)


def _values(header: bytes) -> Mapping[str, Any]:
    """Return a message's properties; none if they cannot be read."""
    try:
        return read_properties(header)
    except Exception:  # noqa: BLE001 (other clients may have written anything)
        return {}


def _stored_time(time: datetime | None) -> Any:
    """Return a time as Django stores it, or the database's current time if it is not plausible."""
    if time is None or time - datetime.now(UTC) > AHEAD_MAX:
        return DatabaseNow()
    return time if settings.USE_TZ else time.astimezone().replace(tzinfo=None)
