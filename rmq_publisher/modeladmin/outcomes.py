"""The outcomes of retrying and discarding, with the words in which a person reads them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, Self

from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.exceptions import PublishError
from rmq_publisher.modeladmin import formatting
from rmq_publisher.outbox import retry_policy
from rmq_publisher.outbox.manual_retry import Resent


class Words(Enum):
    """What may happen to one row: a line about it, and the sentence that counts all like it."""

    line: Promise
    total: Promise

    def __new__(cls, name: str, line: Promise, total: Promise) -> Self:
        """Make a member whose value is its name."""
        member = object.__new__(cls)
        # Not the texts: Enum would compare them, and so translate them during the import.
        member._value_ = name
        member.line, member.total = line, total
        return member


class Told(Protocol):
    """One row's outcome, for the user and for the log."""

    @property
    def id(self) -> Any:
        """The row's."""

    @property
    def outcome(self) -> Words:
        """What happened to it."""

    def line(self) -> str:
        """Return what the person reads about this row."""

    def logged(self) -> str:
        """Return what the admin's log keeps, in English; empty if nothing was tried or changed."""


class Outcome(Words):
    """What happened to one message."""

    SENT = ("sent", gettext_lazy("sent and confirmed by RabbitMQ"), gettext_lazy("Sent %d."))
    FAILED = ("failed", gettext_lazy("failed again: %s"), gettext_lazy("Failed again: %d."))
    BUSY = (
        "busy",
        gettext_lazy("already being sent by another process"),
        gettext_lazy("Skipped %d: already being sent by another process."),
    )
    BEHIND = (
        "behind",
        gettext_lazy("an earlier message with the same ordering key must be sent first"),
        gettext_lazy(
            "Skipped %d: an earlier message with the same ordering key must be sent first."
        ),
    )
    CLOSED = (
        "closed",
        gettext_lazy("already delivered or discarded"),
        gettext_lazy("Skipped %d: already delivered or discarded."),
    )
    GONE = (
        "gone",
        gettext_lazy("no longer exists"),
        gettext_lazy("Skipped %d: no longer in the database."),
    )
    UNCONFIGURED = (
        "unconfigured",
        gettext_lazy("its RabbitMQ connection is not configured on this server"),
        gettext_lazy("Skipped %d: RabbitMQ connection not configured on this server."),
    )
    UNTRIED = (
        "untried",
        gettext_lazy("not tried: the time limit was reached"),
        gettext_lazy("Not tried: %d, because the time limit was reached."),
    )
    REFUSED = (
        "refused",
        gettext_lazy("failed, and now a publish failure: %s"),
        gettext_lazy("Failed: %d, now listed under publish failures."),
    )
    ENDED = (
        "ended",
        gettext_lazy("no longer pending: sent, failed or cancelled in the meantime"),
        gettext_lazy("Skipped %d: no longer pending."),
    )
    CANCELLED = ("cancelled", gettext_lazy("cancelled"), gettext_lazy("Cancelled %d."))
    TAKEN = (
        "taken",
        gettext_lazy("a process has taken it, so it may have been sent"),
        gettext_lazy("Skipped %d: taken by a process, so they may have been sent."),
    )
    SENT_BACK = (
        "sent back",
        gettext_lazy("goes back to its queue"),
        gettext_lazy("Sent back %d."),
    )
    UNSENDABLE = (
        "unsendable",
        gettext_lazy("cannot be sent back: %s"),
        gettext_lazy("Cannot be sent back: %d."),
    )
    HOMELESS = (
        "homeless",
        gettext_lazy("the queue in which it died is unknown"),
        gettext_lazy("Skipped %d: the queues in which they died are unknown."),
    )
    DECIDED = (
        "decided",
        gettext_lazy("already sent back or discarded"),
        gettext_lazy("Skipped %d: already sent back or discarded."),
    )
    DISCARDED = ("discarded", gettext_lazy("discarded"), gettext_lazy("Discarded %d."))
    KEPT = (
        "kept",
        gettext_lazy("already delivered, discarded or being sent"),
        gettext_lazy("Skipped %d: already delivered, discarded or being sent."),
    )


_UNCHANGED = (
    Outcome.KEPT, Outcome.TAKEN, Outcome.GONE, Outcome.ENDED, Outcome.HOMELESS, Outcome.DECIDED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One row's outcome.

    Attributes:
        id: the row's.
        outcome: of it.
        error: why it failed.
        action: what was tried, in English, for the log.
    """

    id: int
    outcome: Outcome
    error: PublishError | None = None
    action: str = "retried"

    def line(self) -> str:
        """Return what the person reads about this row."""
        if self.error is None:
            return str(self.outcome.line)
        kind, code = type(self.error).__name__, getattr(self.error, "reply_code", None)
        words = formatting.visible(retry_policy.words(self.error))
        return str(self.outcome.line) % f"{formatting.error(kind, code)}: {words}"

    def logged(self) -> str:
        """Return what the admin's log keeps, in English; empty if nothing was tried or changed."""
        if self.outcome in (Outcome.DISCARDED, Outcome.CANCELLED, Outcome.SENT_BACK):
            return f"{self.outcome.value.capitalize()}."
        if self.outcome in _UNCHANGED:
            return ""
        if self.error is not None:
            kind, code = type(self.error).__name__, getattr(self.error, "reply_code", None)
            return f"{self.action.capitalize()}: failed, {kind} {code or ''}".strip()
        with translation.override(None):  # the log is read by everybody
            done = self.action if self.outcome is Outcome.SENT else f"not {self.action}"
            return f"{done.capitalize()}: {self.outcome.line}."


def of_retry(resent: Resent) -> Iterator[Result]:
    """Yield the outcome of each failure that a person retried."""
    for id_, outcome, error in _outcomes(resent):
        yield Result(id_, outcome, error)


def of_sending(resent: Resent) -> Iterator[Result]:
    """Yield the outcome of each pending message that a person sent."""
    other = {
        Outcome.FAILED: Outcome.REFUSED,
        Outcome.CLOSED: Outcome.ENDED,
        Outcome.GONE: Outcome.ENDED,
    }
    for id_, outcome, error in _outcomes(resent):
        yield Result(id_, other.get(outcome, outcome), error, action="sent by hand")


def _outcomes(resent: Resent) -> Iterator[tuple[int, Outcome, PublishError | None]]:
    by_outcome: dict[Outcome, Iterable[int]] = {
        Outcome.SENT: resent.sent,
        Outcome.BUSY: resent.busy,
        Outcome.BEHIND: resent.waiting,
        Outcome.CLOSED: resent.closed,
        Outcome.UNCONFIGURED: resent.unconfigured,
        Outcome.UNTRIED: resent.untouched,
        Outcome.GONE: resent.gone,
    }
    for id_, error in resent.failed.items():
        yield id_, Outcome.FAILED, error
    for outcome, ids in by_outcome.items():
        for id_ in ids:
            yield id_, outcome, None


def summary(results: Sequence[Told]) -> str:
    """Return how many there are of each outcome, such as "Sent 3. Failed again: 1."."""
    numbers: dict[Words, int] = {}
    for result in results:
        numbers[result.outcome] = numbers.get(result.outcome, 0) + 1
    if not numbers:
        return _("Nothing was changed.")
    kind = type(results[0].outcome)
    totals: list[Any] = [str(each.total) % numbers[each] for each in kind if each in numbers]
    return " ".join(totals)
