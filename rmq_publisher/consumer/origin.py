"""What a received message needs from its consumer."""

from collections.abc import Callable, Collection

from rmq_publisher.transport.consuming import Delivered


class Origin:
    """What a message needs from its consumer.

    Args:
        settle: sends a verdict; returns False if the channel is lost.
        is_current: returns whether the channel is open.
        accept: content types that are decoded, as `serialization.accepted` returns them.
        limit: bytes that a body may have.
    """

    __slots__ = ("accept", "is_current", "limit", "settle", "upto")

    def __init__(
        self,
        settle: Callable[[Delivered, int], bool],
        is_current: Callable[[Delivered], bool],
        accept: Collection[str] | None,
        limit: int,
    ) -> None:
        self.settle = settle
        self.is_current = is_current
        self.accept = accept
        self.limit = limit
        self.upto = (0, 0)  # session and tag of the last multiple ack
