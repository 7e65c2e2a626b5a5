"""The list's actions. Each requires its own permission, and runs on POST only."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin import confirmation, export, operations
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.modeladmin.row_selection import RowSelectionMixin, confirmed, is_across
from rmq_publisher.models import PublishFailure


class FailureActionsMixin(RowSelectionMixin, FailureAdminBase):
    """Retry, discard and export selected rows."""

    exported = (
        "id", "message_id", "state", "using", "exchange", "routing_key", "ordering_key",
        "correlation_id", "size", "attempts", "unanswered", "created_at", "failed_at",
        "last_failed_at", "finished_at", "first_error_type", "first_error_code", "first_error_text",
        "last_error_type", "last_error_code", "last_error_text", "history",
    )  # fmt: skip
    export_name = "publish-failures.json"
    actions = ("retry_selected", "discard_selected", "export_json")

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry selected messages now"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[PublishFailure]) -> None:
        """Send them from this process; the relay retries those that fail again."""
        rows = self.selected(request, queryset)
        if len(rows) > operations.SENT_MAX:
            text = _("This action takes at most %(most)d messages. Nothing was changed.")
            advice = _("To retry more, use “Retry all matching messages”.")
            self.message_user(
                request, f"{text % {'most': operations.SENT_MAX}} {advice}", messages.ERROR
            )
        elif rows:
            operations.retry(self, request, rows)

    @admin.action(permissions=["discard"], description=gettext_lazy("Discard selected messages"))
    def discard_selected(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> TemplateResponse | None:
        """Discard them, once the user has confirmed it."""
        rows = self.selected(request, queryset)
        if rows and (is_across(request) or not confirmed(request)):
            form = confirmation.repeated(request)
            back = request.get_full_path()
            return operations.ask_before_discarding(self, request, rows, back, form)
        if rows:
            operations.discard(self, request, rows)
        return None

    @admin.action(
        permissions=["export"], description=gettext_lazy("Export selected messages as JSON")
    )
    def export_json(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> StreamingHttpResponse | None:
        """Download them, with bodies and headers if the user may see those."""
        return export.selected(self, request, self.selected(request, queryset))
