"""Retrying, discarding and making due: each changes rows, logs it, and tells the user the outcomes."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rmq_publisher.db.batches import IDS_AT_ONCE, batches
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import confirmation, reporting
from rmq_publisher.modeladmin.outcomes import Outcome, Result, of_retry
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox import notifier, transitions
from rmq_publisher.outbox.manual_retry import resend

SENT_MAX = 500  # rows that one request sends; the user waits for it
DUE_AT_ONCE = 1000  # rows that one statement makes due, so that none holds many locks for long
DUE_MAX = 100_000  # rows that one request makes due

# What "retry all" changes: rows that are due already are sent anyway.
NOT_DUE = transitions.FREE & (Q(state="dead") | Q(available_at__gt=DatabaseNow()))
# What can still be discarded.
OPEN = transitions.FREE & Q(state__in=("failed", "dead"))

Rows = Sequence[PublishFailure]


def retry(page: FailureAdminBase, request: HttpRequest, rows: Rows) -> None:
    """Send rows from this process and wait for the broker's answers."""
    database = page.get_database()
    results = list(of_retry(resend(database, [row.pk for row in rows])))
    reporting.finish(page, request, rows, results, level_of(results))


def level_of(results: Sequence[Result]) -> int:
    """Return the level of the message about what was sent."""
    outcomes = {result.outcome for result in results}
    if outcomes == {Outcome.SENT}:
        return messages.SUCCESS
    if outcomes & {Outcome.FAILED, Outcome.REFUSED} and Outcome.SENT not in outcomes:
        return messages.ERROR
    return messages.WARNING


def discard(page: FailureAdminBase, request: HttpRequest, rows: Rows) -> None:
    """Decide that rows are not sent any more."""
    done: set[int] = set()
    ids = [row.pk for row in rows]
    for some in batches(ids, IDS_AT_ONCE):
        # Nobody else can discard a row that was not discarded before: these are ours.
        before = _discarded(page, some)
        transitions.discard(page.rows().filter(pk__in=some))
        done |= _discarded(page, some) - before
    results = [Result(id_, Outcome.DISCARDED if id_ in done else Outcome.KEPT) for id_ in ids]
    level = messages.SUCCESS if len(done) == len(ids) else messages.WARNING
    reporting.finish(page, request, rows, results, level)


def _discarded(page: FailureAdminBase, ids: Sequence[int]) -> set[int]:
    found = page.rows().filter(pk__in=ids, state="discarded")
    return set(found.values_list("pk", flat=True))


def _open(page: FailureAdminBase, ids: Sequence[int]) -> set[int]:
    """Return which rows can still be discarded."""
    found: set[int] = set()
    for some in batches(ids, IDS_AT_ONCE):
        rows = page.rows().filter(OPEN, pk__in=some)
        found.update(rows.values_list("pk", flat=True))
    return found


def ask_before_discarding(
    page: FailureAdminBase,
    request: HttpRequest,
    rows: Rows,
    back: str,
    form: Sequence[tuple[str, str]] = (),
) -> TemplateResponse | None:
    """Return the page that asks whether to discard rows, which cannot be undone.

    Only those that can still be discarded are counted and named. If there are none, the user is told.

    Args:
        page: the admin.
        request: the user's.
        rows: what would be discarded; the first of them are named.
        back: where to go without discarding.
        form: names and values of the form fields that confirm it.
    """
    found = _open(page, [row.pk for row in rows])
    open_rows = [row for row in rows if row.pk in found]
    if not open_rows:
        text = _("Nothing to discard: already delivered, discarded or being sent.")
        page.message_user(request, text, messages.WARNING)
        return None
    return confirmation.question(
        page,
        request,
        open_rows,
        template="publishfailure/discard.html",
        title=_("Discard messages"),
        skipped=len(rows) - len(open_rows),
        back=back,
        form=form,
    )


def make_due(
    page: FailureAdminBase, request: HttpRequest, matching: QuerySet[PublishFailure], which: str
) -> tuple[int, bool]:
    """Have a relay send all rows of a queryset as soon as possible, with their attempts reset.

    Args:
        page: the admin.
        request: the user's.
        matching: failed and dead rows.
        which: the list's filters, for the log.

    Returns:
        How many rows were made due, and whether more than `DUE_MAX` match.
    """
    found = matching.filter(NOT_DUE).order_by("pk").values_list("pk", flat=True)
    ids = list(found[: DUE_MAX + 1])
    done = 0
    for some in batches(ids[:DUE_MAX], DUE_AT_ONCE):
        done += transitions.make_due(page.rows().filter(pk__in=some))
    if done:
        notifier.notify(page.get_database())
        LogEntry.objects.create(
            user_id=reporting.user_id(request),
            content_type=ContentType.objects.get_for_model(page.model, for_concrete_model=False),
            object_repr=f"{done} publish failures{which}"[:200],
            action_flag=CHANGE,
            change_message=f"Made {done} due.",
        )
    return done, len(ids) > DUE_MAX


def tell_made_due(
    page: FailureAdminBase, request: HttpRequest, done: int, *, more: bool, warning: str
) -> None:
    """Tell the user what `make_due` did."""
    told, level = (
        _("Nothing to retry: every matching message is already due, delivered or discarded."),
        messages.WARNING,
    )
    if done:
        text = ngettext(
            "%d message is due: a relay will send it now.",
            "%d messages are due: a relay will send them now.",
            done,
        )
        told, level = text % done, messages.SUCCESS
    if more:
        told, level = f"{told} {_('More messages match: repeat this.')}", messages.WARNING
    if warning:
        told, level = f"{told} {warning}", messages.WARNING
    page.message_user(request, told, level)


def act_on_few(
    page: Any, request: HttpRequest, rows: Sequence[Any], act: Callable[..., None]
) -> None:
    """Run an action that sends messages from this process, unless too many are selected."""
    if len(rows) > SENT_MAX:
        text = _("This action takes at most %(most)d messages. Nothing was changed.")
        page.message_user(request, text % {"most": SENT_MAX}, messages.ERROR)
    elif rows:
        act(request, rows)
