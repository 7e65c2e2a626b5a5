"""The views of failures that are not Django's own."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from rmq_publisher.modeladmin import bounded_list, formatting, groups, operations, tiles
from rmq_publisher.modeladmin.base import TEMPLATES
from rmq_publisher.modeladmin.choice_filter import ALL
from rmq_publisher.modeladmin.dashboard import dashboard
from rmq_publisher.modeladmin.filters import STATE
from rmq_publisher.modeladmin.guards import or_unavailable
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.modeladmin.row_selection import confirmed
from rmq_publisher.modeladmin.row_views import RowViewsMixin
from rmq_publisher.models import PublishFailure


class FailureViewsMixin(RowViewsMixin, FailureAdminBase):
    """The list with its dashboard, retrying all, and the buttons of one message's page."""

    paths: ClassVar = {
        "live": "live/",
        "retry_all": "retry-all/",
        "body": "<path:object_id>/body/",
        "retry": "<path:object_id>/retry/",
        "discard": "<path:object_id>/discard/",
    }

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the dashboard and the buttons around the list."""
        query = request.META.get("QUERY_STRING", "")
        return {
            "strip": dashboard(self, request),
            "groups": groups.groups(self),
            "retry_all_url": f"{self.address('retry_all')}?{query}",
            "may_retry": self.has_retry_permission(request),
            "nothing_yet": self._nothing_yet,  # the template asks only if the list is empty
            "all_states_url": f"?{STATE}={ALL}",
        }

    def _nothing_yet(self) -> bool:
        # In the order of a partial index, which is empty if nothing has failed.
        return not self.rows().order_by("-last_failed_at", "-id").values_list("pk")[:1]

    # ---- one row ----

    @or_unavailable
    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send one message now."""

        def retry(rows: Sequence[PublishFailure]) -> None:
            operations.retry(self, request, rows)

        return self.do(request, object_id, self.has_retry_permission, retry)

    @or_unavailable
    def discard_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Discard one message, once the user has confirmed it."""

        def discard(rows: Sequence[PublishFailure]) -> HttpResponseBase | None:
            if not confirmed(request):
                back = self.with_filters(request, self.address("change", rows[0].pk))
                return operations.ask_before_discarding(self, request, rows, back)
            operations.discard(self, request, rows)
            return None

        return self.do(request, object_id, self.has_discard_permission, discard)

    # ---- all that match ----

    @or_unavailable
    def retry_all_view(self, request: HttpRequest) -> HttpResponseBase:
        """Say how many messages match the list's filters; on POST have a relay send them.

        Without a relay, this process can send the first of them itself.
        """
        if not self.has_retry_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        query = request.META.get("QUERY_STRING", "")
        back = f"{self.address('changelist')}?{query}" if query else self.address("changelist")
        try:
            changes = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self.address("changelist") + "?e=1")
        filters = bounded_list.narrowed_by(changes)
        matching = changes.queryset.order_by().filter(state__in=("failed", "dead"))
        warning = tiles.relay_missing(self.get_database())
        if request.method == "POST" and "now" in request.POST:
            rows = matching.filter(operations.OPEN).only("pk", "message_id", "state", "size")
            operations.retry(self, request, list(rows.order_by("pk")[: operations.SENT_MAX]))
            return HttpResponseRedirect(back)
        if request.method == "POST":
            which = f" ({query})" if filters else ""
            done, more = operations.make_due(self, request, matching, which)
            operations.tell_made_due(self, request, done, more=more, warning=warning)
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": _("Retry all matching messages"),
            "count": matching.filter(operations.NOT_DUE).count(),
            "left_alone": matching.exclude(operations.NOT_DUE).count(),
            "filters": [(capfirst(title), formatting.name(value)) for title, value in filters],
            "most": operations.DUE_MAX,
            "most_now": operations.SENT_MAX,
            "relay_missing": warning,
            "back": back,
        }
        return TemplateResponse(request, f"{TEMPLATES}/publishfailure/retry_all.html", context)
