"""What people do with selected failures. Each action asks for its own permission, on POST only."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from rmq_publisher.modeladmin import export, formatting
from rmq_publisher.modeladmin.change_view import DetailPart
from rmq_publisher.modeladmin.selecting import SelectionPart, is_across
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox import transitions
from rmq_publisher.outbox.manual_retry import Resent, resend

SENT_MAX = 500  # rows that one request sends; people wait for it
TOLD_MAX = 20  # rows of which a message tells one by one
REPEATED = ("action", "index")  # of an action's form, what says what is to be done

Outcome = tuple[PublishFailure, str, str]  # row, what is told of it, what is logged


class ActionPart(SelectionPart, DetailPart):
    """Send again, discard, export."""

    actions = ("retry_selected", "discard_selected", "export_json")

    @admin.action(
        permissions=["retry"], description=gettext_lazy("Send selected messages again, now")
    )
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[PublishFailure]) -> None:
        """Send them from this process; what fails again is left to the relay."""
        rows = self.selected(request, queryset)
        if len(rows) > SENT_MAX:
            text = _(
                "No more than %(most)d messages can be selected for this. Nothing was changed."
            )
            advice = _("To send more of them again, use “Send all that match again”.")
            self.message_user(request, f"{text % {'most': SENT_MAX}} {advice}", messages.ERROR)
        elif rows:
            self.retry_rows(request, rows)

    @admin.action(permissions=["discard"], description=gettext_lazy("Discard selected messages"))
    def discard_selected(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> TemplateResponse | None:
        """Decide that they are not sent any more, once the person has confirmed it."""
        rows = self.selected(request, queryset)
        if rows and (is_across(request) or not confirmed(request)):
            form = [(key, each) for key in REPEATED for each in request.POST.getlist(key)]
            # These rows and no others: what comes to match meanwhile was not asked about.
            form.append((ACTION_CHECKBOX_NAME, ",".join(str(row.pk) for row in rows)))
            return self.ask_before_discarding(request, rows, request.get_full_path(), form)
        if rows:
            self.discard_rows(request, rows)
        return None

    @admin.action(
        permissions=["export"], description=gettext_lazy("Export selected messages as JSON")
    )
    def export_json(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> StreamingHttpResponse | None:
        """Download them; bodies and headers are in it where the person may see them."""
        rows = self.selected(request, queryset)
        if not rows:
            return None
        self._log(request, rows, "Exported as JSON.")
        ids = [(row.pk, row.size) for row in rows]
        return export.response(self, request, ids, payload=self.has_payload_permission(request))

    # ---- sending again ----

    def retry_rows(self, request: HttpRequest, rows: Sequence[PublishFailure]) -> Resent:
        """Send rows again, log it and tell what became of each."""
        result = resend(self.get_database(), [row.pk for row in rows])
        by_id = {row.pk: row for row in rows}
        outcomes = [
            (by_id[id_], told, logged) for id_, told, logged in _each(result) if id_ in by_id
        ]
        tried = [outcome for outcome in outcomes if outcome[0].pk not in result.gone]
        self._log_outcomes(request, tried)
        level = messages.SUCCESS if len(result.sent) == len(rows) else messages.WARNING
        self._tell(request, level, _summary(result), outcomes)
        return result

    # ---- discarding ----

    def ask_before_discarding(
        self,
        request: HttpRequest,
        rows: Sequence[PublishFailure],
        back: str,
        form: Sequence[tuple[str, str]] = (),
    ) -> TemplateResponse:
        """Ask once more: nothing brings a discarded message back.

        Args:
            request: the person's.
            rows: of which some are named.
            back: an address for those who would rather not.
            form: names and values of what is sent when the person confirms.
        """
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": _("Discard messages"),
            "count": len(rows),
            "names": [formatting.name(row.message_id) for row in rows[:TOLD_MAX]],
            "more": len(rows) > TOLD_MAX,
            "form": form,
            "back": back,
        }
        request.current_app = self.admin_site.name
        template = "admin/rmq_publisher/publishfailure/discard.html"
        return TemplateResponse(request, template, context)

    def discard_rows(self, request: HttpRequest, rows: Sequence[PublishFailure]) -> int:
        """Discard rows, log it and tell what became of each."""
        done: set[int] = set()
        ids = [row.pk for row in rows]
        for start in range(0, len(ids), transitions.AT_ONCE):
            some = ids[start : start + transitions.AT_ONCE]
            # Those that it changes: nobody else can make one "discarded" that was not before.
            before = self._discarded(some)
            transitions.discard(self.rows().filter(pk__in=some))
            done |= self._discarded(some) - before
        told = _("discarded"), _("left alone: it is being sent, or not open any more")
        outcomes = [
            (row, told[0], "Discarded.") if row.pk in done else (row, told[1], "") for row in rows
        ]
        self._log_outcomes(request, [outcome for outcome in outcomes if outcome[2]])
        parts = [(len(done), ngettext("%d discarded", "%d discarded", len(done)))]
        if left := len(rows) - len(done):
            text = ngettext(
                "%d left alone: it is being sent, or not open any more",
                "%d left alone: they are being sent, or not open any more",
                left,
            )
            parts.append((left, text))
        level = messages.WARNING if left else messages.SUCCESS
        self._tell(request, level, _joined(parts), outcomes)
        return len(done)

    def _discarded(self, ids: Sequence[int]) -> set[int]:
        found = self.rows().filter(pk__in=ids, state="discarded")
        return set(found.values_list("pk", flat=True))

    # ---- telling and logging ----

    def _tell(
        self, request: HttpRequest, level: int, summary: str, outcomes: Sequence[Outcome]
    ) -> None:
        lines = format_html_join(
            "",
            "<li>{}: {}</li>",
            (
                (formatting.name(row.message_id), told)
                for row, told, _logged in outcomes[:TOLD_MAX]
            ),
        )
        rest: SafeString | str = ""
        if len(outcomes) > TOLD_MAX:
            text = _("What became of each stands in its history.")
            rest = format_html("<li>{}</li>", text)
        text_html = format_html('{}<ul class="rmq-told">{}{}</ul>', summary, lines, rest)
        self.message_user(request, text_html, level)

    def _log_outcomes(self, request: HttpRequest, outcomes: Iterable[Outcome]) -> None:
        by_text: dict[str, list[PublishFailure]] = {}
        for row, _told, logged in outcomes:
            by_text.setdefault(logged, []).append(row)
        for text, rows in by_text.items():
            self._log(request, rows, text)

    def _log(self, request: HttpRequest, rows: Sequence[PublishFailure], text: str) -> None:
        # As Django's own log_change, for many at once.
        LogEntry.objects.log_actions(_person(request), rows, CHANGE, text)

    def log_all(self, request: HttpRequest, what: str, text: str) -> None:
        """Log what was done to all rows that match a filter: one entry, of no row."""
        LogEntry.objects.create(
            user_id=_person(request),
            content_type=ContentType.objects.get_for_model(self.model, for_concrete_model=False),
            object_repr=what[:200],
            action_flag=CHANGE,
            change_message=text,
        )


def confirmed(request: HttpRequest) -> bool:
    """Whether the person was asked and has said yes."""
    return "confirmed" in request.POST


def _person(request: HttpRequest) -> Any:
    return request.user.pk


def _each(result: Resent) -> Iterable[tuple[int, str, str]]:
    """Yield what became of each row: told in the person's language, logged in English."""
    for id_ in result.sent:
        yield id_, _("sent, and confirmed by RabbitMQ"), "Sent again: confirmed."
    for id_, error in result.failed.items():
        kind, code = type(error).__name__, getattr(error, "reply_code", None)
        text = f"{formatting.error(kind, code)}: {formatting.visible(transitions.words(error))}"
        yield id_, _("failed again: %s") % text, f"Sent again: failed, {kind} {code or ''}".strip()
    for field, told in _REASONS.items():
        for id_ in getattr(result, field):
            yield id_, str(told), f"Not sent again: {_LOGGED[field]}."


_REASONS = {
    "busy": gettext_lazy("being sent by somebody else at this moment"),
    "waiting": gettext_lazy("an earlier message of its ordering key comes first"),
    "settled": gettext_lazy("not open any more: delivered or discarded"),
    "unconfigured": gettext_lazy("its RabbitMQ connection is not configured here"),
    "untouched": gettext_lazy("not tried: there was no time left"),
    "gone": gettext_lazy("no such message any more"),
}
_LOGGED = {
    "busy": "being sent by somebody else",
    "waiting": "an earlier message of its ordering key comes first",
    "settled": "delivered or discarded before",
    "unconfigured": "its RabbitMQ connection is not configured",
    "untouched": "no time was left",
    "gone": "no such message any more",
}


def _summary(result: Resent) -> str:
    """Say what became of all, such as "3 sent, 1 being sent by somebody else at this moment"."""
    sent, failed, busy = len(result.sent), len(result.failed), len(result.busy)
    waiting, settled = len(result.waiting), len(result.settled) + len(result.gone)
    left = len(result.untouched) + len(result.unconfigured)
    parts = [
        (sent, ngettext("%d sent", "%d sent", sent)),
        (
            busy,
            ngettext(
                "%d being sent by somebody else at this moment",
                "%d being sent by somebody else at this moment",
                busy,
            ),
        ),
        (failed, ngettext("%d failed again", "%d failed again", failed)),
        (
            waiting,
            ngettext(
                "%d behind an earlier message of its ordering key",
                "%d behind an earlier message of their ordering key",
                waiting,
            ),
        ),
        (settled, ngettext("%d not open any more", "%d not open any more", settled)),
        (left, ngettext("%d not tried", "%d not tried", left)),
    ]
    return _joined([part for part in parts if part[0]] or parts[:1])


def _joined(parts: Sequence[tuple[int, str]]) -> str:
    return ", ".join(text % number for number, text in parts) + "."
