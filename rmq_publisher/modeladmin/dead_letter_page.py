"""Dead letters: one message's page, and the actions to send them back, discard or export them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin import confirmation, export, formatting, operations, reporting
from rmq_publisher.modeladmin.base import TEMPLATES
from rmq_publisher.modeladmin.confirmed_actions import ConfirmedActionsMixin
from rmq_publisher.modeladmin.dead_letter_list import REASONS, DeadLetterListMixin, reason, state
from rmq_publisher.modeladmin.guards import or_unavailable
from rmq_publisher.modeladmin.message_view import MessageViewMixin
from rmq_publisher.modeladmin.outcomes import Outcome, Result
from rmq_publisher.publisher.send_back import SentBack, discard, send_back

Rows = Sequence[Any]


class DeadLetterPageMixin(ConfirmedActionsMixin, MessageViewMixin, DeadLetterListMixin):
    """The list's actions, one dead letter's page and its buttons."""

    detail_template = f"{TEMPLATES}/deadletter/detail.html"
    actions = ("send_back_selected", "discard_selected", "export_json")
    exported = (
        "id", "message_id", "state", "using", "queue", "dead_letter_queue", "exchange", "routing_key",
        "handler", "reason", "error", "attempts", "deaths", "correlation_id", "size", "died_at",
        "stored_at", "finished_at",
    )  # fmt: skip
    export_name = "dead-letters.json"
    paths: ClassVar = {
        "live": "live/",
        "body": "<path:object_id>/body/",
        "send_back": "<path:object_id>/send-back/",
        "discard": "<path:object_id>/discard/",
    }

    def has_send_back_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may send dead letters back."""
        return self.may(request, "send_back_deadletter")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may discard dead letters."""
        return self.may(request, "discard_deadletter")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may export dead letters."""
        return self.may(request, "export_deadletter")

    # ---- one message ----

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what is shown of a dead letter."""
        return {
            "title": _("Dead letter"),
            "state": state(row),
            "facts": _facts(row),
            "deaths": [_death(each, row) for each in row.deaths if isinstance(each, Mapping)],
            "buttons": self._buttons(request, row),
        }

    def _buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        buttons: list[dict[str, Any]] = []
        if row.state != row.State.WAITING:
            return buttons
        if self.has_send_back_permission(request):
            why = "" if row.queue else _("The queue in which it died is unknown.")
            buttons.append(self.button(request, row, "send_back", _("Send back"), why))
        if self.has_discard_permission(request):
            buttons.append(self.button(request, row, "discard", _("Discard"), "", final=True))
        return buttons

    @or_unavailable
    def send_back_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send one message back to the queue where it died."""

        def send(rows: Rows) -> None:
            self._send_back(request, rows)

        return self.do(request, object_id, self.has_send_back_permission, send)

    @or_unavailable
    def discard_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Discard one message, once the user has confirmed it."""
        return self.do_confirmed(request, object_id, self.has_discard_permission, self._discard)

    # ---- the list's actions ----

    @admin.action(
        permissions=["send_back"], description=gettext_lazy("Send selected messages back")
    )
    def send_back_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Publish them to the queues where they died, through the outbox."""
        rows = self.selected(request, queryset)
        operations.act_on_few(self, request, rows, self._send_back)

    @admin.action(permissions=["discard"], description=gettext_lazy("Discard selected messages"))
    def discard_selected(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> TemplateResponse | None:
        """Discard them, once the user has confirmed it."""
        return self.act_confirmed(request, queryset, self._discard)

    @admin.action(
        permissions=["export"], description=gettext_lazy("Export selected messages as JSON")
    )
    def export_json(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> StreamingHttpResponse | None:
        """Download them, with bodies and headers if the user may see those."""
        return export.selected(self, request, self.selected(request, queryset))

    def _send_back(self, request: HttpRequest, rows: Rows) -> None:
        ids = [row.pk for row in rows]
        results = list(_results(send_back(self.get_database(), ids)))
        outcomes = {result.outcome for result in results}
        level = messages.SUCCESS if outcomes == {Outcome.SENT_BACK} else messages.WARNING
        reporting.finish(self, request, rows, results, level)

    def _discard(self, request: HttpRequest, rows: Rows) -> None:
        done = set(discard(self.get_database(), [row.pk for row in rows]))
        results = [
            Result(row.pk, Outcome.DISCARDED if row.pk in done else Outcome.DECIDED)
            for row in rows
        ]
        level = messages.SUCCESS if len(done) == len(rows) else messages.WARNING
        reporting.finish(self, request, rows, results, level)

    def ask(
        self, request: HttpRequest, rows: Rows, back: str, form: confirmation.Form = ()
    ) -> TemplateResponse | None:
        """Return the page that asks before messages are discarded, counting those that wait."""
        waiting = [row for row in rows if row.state == row.State.WAITING]
        if not waiting:
            text = _("Nothing to discard: already sent back or discarded.")
            self.message_user(request, text, messages.WARNING)
            return None
        return confirmation.question(
            self,
            request,
            waiting,
            template="deadletter/discard.html",
            title=_("Discard messages"),
            skipped=len(rows) - len(waiting),
            back=back,
            form=form,
        )


def _results(sent_back: SentBack) -> Iterator[Result]:
    """Yield the outcome of each dead letter that a person sent back."""
    for id_, error in sent_back.refused.items():
        yield Result(id_, Outcome.UNSENDABLE, error, action="sent back")
    by_outcome = {
        Outcome.SENT_BACK: sent_back.sent,
        Outcome.HOMELESS: sent_back.unknown,
        Outcome.DECIDED: sent_back.closed,
    }
    for outcome, ids in by_outcome.items():
        for id_ in ids:
            yield Result(id_, outcome)


def _facts(row: Any) -> list[tuple[str, Any]]:
    facts = [
        (_("Died in queue"), formatting.name(row.queue) if row.queue else _("unknown")),
        (_("Reason"), reason(row)),
        (_("Error"), formatting.name(row.error)),
        (_("Attempts"), row.attempts),
        (_("Died"), formatting.moment(row.died_at, row.now)),
        (_("Connection"), formatting.name(row.using)),
        (_("Exchange"), formatting.exchange(row.exchange)),
        (_("Routing key"), formatting.name(row.routing_key)),
        (_("Stored"), formatting.moment(row.stored_at, row.now)),
    ]
    if row.dead_letter_queue:
        facts.append((_("Dead-letter queue"), formatting.name(row.dead_letter_queue)))
    if row.handler:
        facts.append((_("Handler"), formatting.name(row.handler)))
    if row.finished_at is not None:
        facts.append((_("Finished"), formatting.moment(row.finished_at, row.now)))
    return facts


def _death(death: Mapping[str, Any], row: Any) -> dict[str, Any]:
    """Return one entry of the broker's history as the page shows it."""
    then = formatting.written(death.get("time"), row.now)
    why = str(death.get("reason", ""))
    keys = death.get("routing_keys")
    return {
        "when": _("time unknown") if then is None else formatting.moment(then, row.now),
        "queue": formatting.name(str(death.get("queue", ""))),
        "reason": REASONS.get(why) or formatting.visible(why),
        "exchange": formatting.exchange(str(death.get("exchange", ""))),
        "keys": [formatting.name(str(key)) for key in keys] if isinstance(keys, list) else [],
        "count": formatting.visible(str(death.get("count", ""))),
    }
