"""`publish`, `apublish`, `publish_many`: what views and signals call."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from pika import BasicProperties

from rmq_publisher.amqp.entities import ExchangeConfig, QueueConfig
from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import Delivery
from rmq_publisher.db.support import check_table
from rmq_publisher.exceptions import InvalidMessage, PublishManyError
from rmq_publisher.messages.compose import (
    NOW_OPTIONS,
    Exchange,
    NowOptions,
    Queue,
    alias_of,
    check_many,
    compose,
    configs,
    prepare,
    seconds,
)
from rmq_publisher.messages.envelope import Envelope, Message, check_options
from rmq_publisher.outbox.only_outbox import refuse_now
from rmq_publisher.outbox.row import check_storable
from rmq_publisher.publisher.databases import check_database, current_database
from rmq_publisher.publisher.delivery_mode import delivery_mode_of
from rmq_publisher.publisher.event_loop import refuse_in_event_loop
from rmq_publisher.publisher.on_commit import on_commit, store
from rmq_publisher.publisher.scheduling import check_scheduled, schedule, when
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.telemetry.outcomes import tell
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.delivery import Batch, adeliver, deliver


class ManyOptions(NowOptions, total=False):
    """What `publish_many` takes besides the bodies: as `publish`, without ``message_id``."""

    database: str | None
    delivery: Delivery | None
    ordering_key: str | None
    countdown: float | timedelta | None
    eta: datetime | None


MANY_OPTIONS = frozenset(ManyOptions.__annotations__) - {"message_id"}


def publish(
    body: Any,
    *,
    queue: Queue = "",
    exchange: Exchange = "",
    routing_key: str | None = None,
    using: str | None = None,
    database: str | None = None,
    delivery: Delivery | None = None,
    ordering_key: str | None = None,
    properties: BasicProperties | None = None,
    headers: Mapping[str, Any] | None = None,
    priority: int | None = None,
    expiration: float | timedelta | None = None,
    delivery_mode: int | None = None,
    message_id: str | None = None,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    type: str | None = None,
    user_id: str | None = None,
    app_id: str | None = None,
    content_type: str | None = None,
    content_encoding: str | None = None,
    serializer: str | None = None,
    compression: str | None = None,
    mandatory: bool = True,
    countdown: float | timedelta | None = None,
    eta: datetime | None = None,
    declare: Iterable[QueueConfig | ExchangeConfig] = (),
    timeout: float | timedelta | None = None,
) -> str:
    """Publish a message, by default once the transaction on ``database`` has committed.

    Args:
        body: str (sent as UTF-8) or bytes (unchanged); anything else needs ``serializer``.
        queue: a name is verified passively, a `QueueConfig` declared; empty skips this.
        exchange: as for ``queue``; empty is the default exchange, which routes to the queue by name.
        routing_key: the queue's name when left out.
        using: RabbitMQ alias; may be left out when there is one.
        database: Django alias whose transaction counts; the one with an open ``atomic`` block when
            left out, ``default`` when there is none.
        delivery: ``"on_commit"``, ``"outbox"`` or ``"now"``; RMQ_DELIVERY when left out. ``"now"``
            sends inside the call and raises; the others never show the caller a broker's error;
            ``"outbox"`` writes a row in the transaction, which is gone once it is confirmed.
        ordering_key: messages of one key arrive in order; needs ``"outbox"``.
        properties: the caller's, never changed; the keywords below win over them.
        headers: merged over those of ``properties``.
        priority: 0 to 255.
        expiration: seconds or timedelta.
        delivery_mode: 1 (transient) or 2 (persistent, the default).
        message_id: made when left out; the same over every retry.
        correlation_id, reply_to, type, user_id, app_id, content_type, content_encoding: AMQP's.
        serializer: name of a serializer, for bodies that are neither str nor bytes.
        compression: ``"gzip"``, ``"bzip2"``, ``"lzma"``, ``"zstandard"`` or ``"brotli"``, told by kombu's
            header ``compression``; None for none.
        mandatory: False for events that may have no listener yet: what no queue takes then counts as
            confirmed.
        countdown: seconds or timedelta until it may be sent: it is stored whatever the delivery, and a
            relay sends it when its time has come by the database's clock. 0 or less is as if not given.
        eta: an aware datetime instead of ``countdown``; one that has passed is as if not given.
        declare: `QueueConfig` and `ExchangeConfig` objects declared before the message.
        timeout: seconds for the whole sending; RMQ_PUBLISH_TIMEOUT when left out.

    Returns:
        The message's id.

    Raises:
        TypeError, InvalidMessage: bad arguments, whatever the delivery; nothing is sent.
        PublishError: with ``delivery="now"``, every other outcome but a confirm.
        SynchronousOnlyOperation: called in a running event loop; use `apublish`.
    """
    __traceback_hide__ = True  # as in compose()
    refuse_in_event_loop("publish()")
    given = _given(
        properties=properties, headers=headers, priority=priority, expiration=expiration,
        delivery_mode=delivery_mode, message_id=message_id, correlation_id=correlation_id,
        reply_to=reply_to, type=type, user_id=user_id, app_id=app_id, content_type=content_type,
        content_encoding=content_encoding, compression=compression,
        mandatory=None if mandatory is True else mandatory,
    )  # fmt: skip
    plan = prepare(
        body, queue=queue, exchange=exchange, routing_key=routing_key, using=using,
        serializer=serializer, declare=declare, timeout=timeout, **given,
    )  # fmt: skip
    check_database(database)
    if (due := when(countdown, eta)) is not None:
        check_scheduled(delivery, [ordering_key])
        schedule(plan.using, [(plan.envelope, due)], database)
        return plan.envelope.message_id
    mode = delivery_mode_of(plan.using, delivery, [ordering_key])
    if mode == "now":
        deliver(*plan)
        return plan.envelope.message_id
    where = current_database(database)
    check_storable(plan.envelope, plan.using)
    if mode == "outbox":
        check_table(where)
        store(plan.using, [plan.envelope], [ordering_key or ""], plan.timeout, where)
    else:
        on_commit(plan.using, [plan.envelope], plan.timeout, where, many=False)
    return plan.envelope.message_id


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


async def apublish(body: Any, **options: Unpack[NowOptions]) -> str:
    """Publish a message now and await its confirm, without blocking the event loop.

    Takes what `publish` takes, without ``delivery``, ``database`` and ``ordering_key``.

    Returns:
        The message's id.

    Raises:
        TypeError, InvalidMessage: bad arguments; nothing is sent.
        PublishError: every other outcome but a confirm.
    """
    __traceback_hide__ = True  # as in compose()
    check_options("apublish()", options.keys(), NOW_OPTIONS)
    refuse_now("apublish()")
    plan = prepare(body, **options)
    await adeliver(*plan)
    return plan.envelope.message_id


def publish_many(bodies: Iterable[Any], **options: Unpack[ManyOptions]) -> list[str]:
    """Publish many messages as one pipelined batch.

    Args:
        bodies: bodies or `Message` objects, whose own options win over those of the call.
        options: as `publish` takes them, without ``message_id``. ``timeout`` bounds the seconds
            without progress.

    Returns:
        The messages' ids, in order.

    Raises:
        TypeError, InvalidMessage: bad arguments; nothing is sent.
        PublishManyError: with ``delivery="now"``, where some were not confirmed.
    """
    __traceback_hide__ = True  # as in compose()
    refuse_in_event_loop("publish_many()")
    check_options("publish_many()", options.keys(), MANY_OPTIONS)
    call: dict[str, Any] = dict(options)
    database, ordering_key = call.pop("database", None), call.pop("ordering_key", None)
    delivery = call.pop("delivery", None)
    countdown, eta = call.pop("countdown", None), call.pop("eta", None)
    using = alias_of(call.pop("using", None), call.get("queue"), call.get("exchange"))
    settings = loader.connection(using)
    timeout = seconds("timeout", call.pop("timeout", None), settings.publish_timeout)
    call["declare"] = configs(call.get("declare", ()))
    check_many(bodies, call)
    messages = [body if isinstance(body, Message) else Message(body) for body in bodies]
    keys = [message.ordering_key or ordering_key for message in messages]
    check_database(database)
    default_time = when(countdown, eta)
    times = [when(*message.time) if message.time else default_time for message in messages]
    if any(time is not None for time in times):
        check_scheduled(delivery, keys)
    mode = delivery_mode_of(using, delivery, keys)
    envelopes: list[Envelope] = []
    for number, message in enumerate(messages):
        try:
            envelopes.append(_item(settings, message, call))
        except (TypeError, InvalidMessage) as error:
            error.args = (f"bodies[{number}]: {error}",)
            raise
    ids = [envelope.message_id for envelope in envelopes]
    if any(times):
        timed = list(zip(envelopes, times, keys, strict=True))
        schedule(using, [(envelope, time) for envelope, time, _ in timed if time], database)
        envelopes = [envelope for envelope, time, _ in timed if not time]
        keys = [None] * len(envelopes)  # none has one
    if not envelopes:
        return ids
    if mode == "now":
        _now(using, envelopes, timeout)
    else:
        _later(
            mode,
            using,
            envelopes,
            [key or "" for key in keys],
            timeout,
            current_database(database),
        )
    return ids


def _item(
    settings: loader.ConnectionSettings, message: Message, call: Mapping[str, Any]
) -> Envelope:
    __traceback_hide__ = True  # as in compose()
    if not message.options and message.routing_key is None:  # most of them
        return compose(settings, message.body, **call)
    own = {**message.options, "routing_key": message.routing_key}
    given = {name: value for name, value in own.items() if value is not None}
    return compose(settings, message.body, **{**call, **given})


def _now(using: str, envelopes: Sequence[Envelope], timeout: float) -> None:
    batch = Batch(using, envelopes)
    batch.submit()
    batch.wait(timeout, monotonic() + timeout, extend=True)
    outcomes = batch.outcomes()
    for envelope, error in zip(envelopes, outcomes, strict=True):
        tell(using, envelope, error, will_retry=False)
    publish_counts.flush()
    if any(outcomes):
        raise PublishManyError(outcomes)


def _later(
    mode: str,
    using: str,
    envelopes: Sequence[Envelope],
    ordering_keys: Sequence[str],
    timeout: float,
    database: str,
) -> None:
    for envelope in envelopes:
        check_storable(envelope, using)
    if mode == "outbox":
        check_table(database)
        store(using, envelopes, ordering_keys, timeout, database)
    else:
        on_commit(using, envelopes, timeout, database, many=True)
