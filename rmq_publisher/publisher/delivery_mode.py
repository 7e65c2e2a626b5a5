"""How a call's message is delivered: what the call says, else the setting; within limits."""

from collections.abc import Sequence

from rmq_publisher.amqp.validation import plain
from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import DELIVERIES, Delivery
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.outbox.only_outbox import outbox_is_required, refuse_now
from rmq_publisher.outbox.row import check_ordering_key


def delivery_mode_of(
    using: str, delivery: Delivery | None, ordering_keys: Sequence[str | None]
) -> str:
    """Return the delivery of a call.

    Raises:
        InvalidMessage: it is unknown or cannot be had.
    """
    mode = loader.connection(using).delivery if delivery is None else plain(delivery)
    if mode not in DELIVERIES:
        raise InvalidMessage(f"delivery must be one of {DELIVERIES}, not {mode!r}")
    if mode != "outbox" and outbox_is_required():
        if delivery is not None:
            refuse_now(f"delivery={delivery!r}")
        mode = "outbox"
    keys = {key for key in ordering_keys if key is not None}
    if keys and mode != "outbox":
        raise InvalidMessage(f'ordering_key needs delivery="outbox"; this call has {mode!r}')
    for key in keys:
        check_ordering_key(key)
    return mode
