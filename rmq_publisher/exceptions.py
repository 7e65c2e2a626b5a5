"""The outcomes of a publish other than a confirm.

Every error names its message and says whether retrying the same message may work. No error holds a
body, a header value or a password: only names, sizes, ids and reply codes.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rmq_publisher.amqp.reply_codes import NO_ROUTE, NOT_FOUND


class PublishError(Exception):
    """Base class of every outcome other than a confirm.

    Attributes:
        message_id: id of the message; empty if it has none yet.
        exchange: the exchange it was published to; empty for the default exchange.
        routing_key: its routing key.
        reason: the text without the message's id and destination.
        retryable: whether the same message may succeed later, once the broker, the network or
            the topology has been fixed.
    """

    __module__ = "rmq_publisher"

    retryable: bool = True
    # Whether the broker answered about the message itself: only then a stored row counts an attempt.
    answered: ClassVar[bool] = False

    def __init__(
        self, text: str, *, message_id: str = "", exchange: str = "", routing_key: str = ""
    ) -> None:
        super().__init__(text)
        self.message_id = message_id
        self.exchange = exchange
        self.routing_key = routing_key

    @property
    def reason(self) -> str:
        """The text without the message's id and destination."""
        return str(self.args[0])

    def __str__(self) -> str:
        if not self.message_id:
            return self.reason
        return (
            f"{self.reason} (exchange {self.exchange!r}, routing key {self.routing_key!r}, "
            f"message {self.message_id})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Test runners and task queues pickle errors, and by default unpickling would call __init__
        # with the text only.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[PublishError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> PublishError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InvalidMessage(PublishError, ValueError):
    """Refused before a byte was sent: the message cannot be expressed in AMQP or is over a limit."""

    __module__ = "rmq_publisher"

    retryable = False


def _without_the_app(error: "BrokerAnswer") -> str:
    """Return what to do about a missing queue or exchange while nothing is known of the project's."""
    if error.reply_code not in (NOT_FOUND, NO_ROUTE):
        return ""
    return (
        "if the project declares it: Django has not loaded the app that reads its declarations, "
        'add "rmq_publisher" to INSTALLED_APPS'
    )


class BrokerAnswer(PublishError):
    """Base class of the outcomes that carry the broker's reply code and reply text.

    Attributes:
        advice: what to do about it, from what the project declares; the app sets it when Django starts.
    """

    advice: ClassVar[Callable[["BrokerAnswer"], str]] = staticmethod(_without_the_app)
    words: ClassVar[str] = "refused"
    answered = True

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        *,
        message_id: str = "",
        exchange: str = "",
        routing_key: str = "",
    ) -> None:
        super().__init__(
            f"{self.words}: {reply_code} {reply_text}",
            message_id=message_id,
            exchange=exchange,
            routing_key=routing_key,
        )
        self.reply_code = reply_code
        self.reply_text = reply_text

    @property
    def reason(self) -> str:
        """The broker's answer and what to do about it."""
        # Looked up by whoever reads it: the thread that makes the error must not import modules.
        return "; ".join(filter(None, (super().reason, BrokerAnswer.advice(self))))


class Unroutable(BrokerAnswer):
    """Returned by the broker (basic.return): no queue is bound for this exchange and routing key."""

    __module__ = "rmq_publisher"

    words = "returned by the broker, no queue took it"


class Rejected(BrokerAnswer):
    """The broker closed the channel because of it: 403 (forbidden), 404 (not found), 406 (mismatch)."""

    __module__ = "rmq_publisher"

    words = "rejected by the broker"

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Whether a retry may work: a missing exchange or queue may appear; 403 and 406 need a person."""
        return self.reply_code == NOT_FOUND


class Nacked(PublishError):
    """A queue refused it (basic.nack): full with ``reject-publish``, or the queue failed."""

    __module__ = "rmq_publisher"

    answered = True


class ConfirmTimeout(PublishError):
    """Outcome unknown: it was sent, and neither confirmed nor refused by the deadline."""

    __module__ = "rmq_publisher"


class BrokerUnavailable(PublishError):
    """Not sent: no connection, the login was refused, or the broker blocks publishing."""

    __module__ = "rmq_publisher"


class PublishManyError(PublishError):
    """Some messages of ``publish_many(delivery="now")`` were not confirmed.

    Attributes:
        outcomes: one entry per message, in order: None if confirmed, else its `PublishError`.
    """

    __module__ = "rmq_publisher"

    def __init__(self, outcomes: Sequence[PublishError | None]) -> None:
        failed = [outcome for outcome in outcomes if outcome is not None]
        kinds = ", ".join(sorted({type(error).__name__ for error in failed}))
        first = failed[0]
        super().__init__(
            f"{len(failed)} of {len(outcomes)} messages were not confirmed ({kinds}); "
            f"the first: {first}",
            message_id=first.message_id,
            exchange=first.exchange,
            routing_key=first.routing_key,
        )
        self.outcomes = list(outcomes)
        self.retryable = all(error.retryable for error in failed)

    def __str__(self) -> str:
        return self.reason  # which names the first message already


class TaskCancelled(Exception):
    """The error of a task of Django's framework that was cancelled before it ran."""


class TaskTimeout(Exception):
    """The error of a run of a task that took longer than its ``timeout``."""


class WorkerLost(Exception):
    """The last error of a task whose workers died while they ran it."""
