"""Where a message may be published through the outbox only: within a handler with ``once=True``.

Its row of the inbox says that all is done. A message that is sent after the commit would be lost for ever
by a kill between the two, since the handler does not run again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rmq_publisher.exceptions import InvalidMessage

_required: ContextVar[bool] = ContextVar("rmq_publisher_only_outbox", default=False)


@contextmanager
def only_outbox() -> Iterator[None]:
    """Have every message that is published within the block stored in the caller's transaction."""
    token = _required.set(True)
    try:
        yield
    finally:
        _required.reset(token)


def outbox_is_required() -> bool:
    """Return whether only the outbox will do."""
    return _required.get()


def refuse_now(call: str) -> None:
    """Refuse to send a message at once where only the outbox will do.

    Args:
        call: what was called, such as ``apublish()``.

    Raises:
        InvalidMessage: with the reason.
    """
    if outbox_is_required():
        raise InvalidMessage(
            f"{call} in a handler with once=True: its transaction would not take the message back, and "
            'a crash would lose it; use publish(), which stores it (delivery="outbox")'
        )
