"""Pending and scheduled messages: their own page, and the actions to send or cancel them."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin import confirmation, formatting, operations, reporting
from rmq_publisher.modeladmin.confirmed_actions import ConfirmedActionsMixin
from rmq_publisher.modeladmin.guards import or_unavailable
from rmq_publisher.modeladmin.message_view import MessageViewMixin
from rmq_publisher.modeladmin.outcomes import Outcome, Result, of_sending
from rmq_publisher.modeladmin.pending_holds import Holds
from rmq_publisher.modeladmin.pending_list import PendingListMixin, scheduled
from rmq_publisher.outbox.manual_retry import resend
from rmq_publisher.publisher.scheduling import cancel_rows

Rows = Sequence[Any]


class PendingPageMixin(ConfirmedActionsMixin, MessageViewMixin, PendingListMixin):
    """The list's actions, one message's page and its buttons."""

    actions = ("send_selected", "cancel_selected")
    listed_by = ("pk", "message_id", "state", "token")
    paths: ClassVar = {
        "live": "live/",
        "body": "<path:object_id>/body/",
        "send": "<path:object_id>/send/",
        "cancel": "<path:object_id>/cancel/",
    }

    def has_send_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may send messages now."""
        return self.may(request, "send_pendingmessage")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel messages."""
        return self.may(request, "cancel_pendingmessage")

    # ---- one message ----

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what is shown of a message."""
        holds = Holds(self, request, [row])
        facts = [
            (_("Waits for"), holds.of(row)),
            (_("Scheduled for"), scheduled(row)),
            (_("Created"), formatting.moment(row.created_at, row.now)),
            (_("Connection"), formatting.name(row.using)),
            (_("Exchange"), formatting.exchange(row.exchange)),
            (_("Routing key"), formatting.name(row.routing_key)),
        ]
        if row.ordering_key:
            facts.append((_("Ordering key"), formatting.name(row.ordering_key)))
        buttons = []
        if self.has_send_permission(request):
            reason = formatting.held(row) or holds.behind(row)
            buttons.append(self.button(request, row, "send", _("Send now"), reason))
        if self.has_cancel_permission(request):
            reason = _("A process has taken it, so it may have been sent.") if row.token else ""
            buttons.append(self.button(request, row, "cancel", _("Cancel"), reason, final=True))
        return {
            "title": _("Pending message"),
            "state": formatting.state(row),
            "facts": facts,
            "buttons": buttons,
        }

    @or_unavailable
    def send_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send one message now."""

        def send(rows: Rows) -> None:
            self._send(request, rows)

        return self.do(request, object_id, self.has_send_permission, send)

    @or_unavailable
    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Cancel one message, once the user has confirmed it."""
        return self.do_confirmed(request, object_id, self.has_cancel_permission, self._cancel)

    # ---- the list's actions ----

    @admin.action(permissions=["send"], description=gettext_lazy("Send selected messages now"))
    def send_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Send them from this process, whether or not they are due."""
        rows = self.selected(request, queryset)
        operations.act_on_few(self, request, rows, self._send)

    @admin.action(permissions=["cancel"], description=gettext_lazy("Cancel selected messages"))
    def cancel_selected(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> TemplateResponse | None:
        """Cancel them, once the user has confirmed it."""
        return self.act_confirmed(request, queryset, self._cancel)

    def _send(self, request: HttpRequest, rows: Rows) -> None:
        ids = [row.pk for row in rows]
        results = list(of_sending(resend(self.get_database(), ids, states=("pending",))))
        reporting.finish(self, request, rows, results, operations.level_of(results))

    def _cancel(self, request: HttpRequest, rows: Rows) -> None:
        database = self.get_database()
        done = cancel_rows(database, [row.pk for row in rows])
        left = [row.pk for row in rows if row.pk not in done]
        taken = set(self.rows().filter(pk__in=left).values_list("pk", flat=True))
        results = [Result(id_, Outcome.CANCELLED) for id_ in done]
        results += [Result(id_, Outcome.TAKEN if id_ in taken else Outcome.ENDED) for id_ in left]
        level = messages.WARNING if left else messages.SUCCESS
        reporting.finish(self, request, rows, results, level)

    def ask(
        self, request: HttpRequest, rows: Rows, back: str, form: confirmation.Form = ()
    ) -> TemplateResponse | None:
        """Return the page that asks before messages are cancelled, counting those that can be."""
        free = [row for row in rows if not row.token]
        if not free:
            text = _("Nothing to cancel: every message has been taken, and may have been sent.")
            self.message_user(request, text, messages.WARNING)
            return None
        return confirmation.question(
            self,
            request,
            free,
            template="pendingmessage/cancel.html",
            title=_("Cancel messages"),
            skipped=len(rows) - len(free),
            back=back,
            form=form,
        )
