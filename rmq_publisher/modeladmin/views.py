"""The admin page's URLs, and the views behind them that are not Django's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from rmq_publisher.modeladmin import changelist, formatting, groups, operations
from rmq_publisher.modeladmin.actions import confirmed
from rmq_publisher.modeladmin.dashboard import dashboard, relay_missing
from rmq_publisher.modeladmin.filters import ALL, STATE
from rmq_publisher.modeladmin.guards import or_unavailable, outside_transactions
from rmq_publisher.modeladmin.permissions import TEMPLATES, FailureAdminBase
from rmq_publisher.models import PublishFailure

# Our own pages: where they are, and the views' names.
PATHS = {
    "live": "live/",
    "retry_all": "retry-all/",
    "body": "<path:object_id>/body/",
    "retry": "<path:object_id>/retry/",
    "discard": "<path:object_id>/discard/",
}


class FailureViewsMixin(FailureAdminBase):
    """The list with its dashboard, retrying all, and the buttons of one message's page."""

    def get_urls(self) -> list[URLPattern]:
        """Return our own URLs before those of every admin page."""
        return [*(self._path(name) for name in PATHS), *super().get_urls()]

    def _path(self, name: str) -> URLPattern:
        view: Any = outside_transactions(self.admin_site.admin_view(getattr(self, f"{name}_view")))
        pattern: URLPattern = path(PATHS[name], view, name=self.url_name(name))
        return pattern

    # ---- the list ----

    @outside_transactions
    @or_unavailable
    def changelist_view(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponseBase:
        """Show the list and its dashboard; run actions."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = self._list_context(request) if request.method == "GET" else {}
        context.update(extra_context or {})
        response: HttpResponseBase = super().changelist_view(request, context)
        return response

    def _list_context(self, request: HttpRequest) -> dict[str, Any]:
        query = request.META.get("QUERY_STRING", "")
        return {
            "title": capfirst(self.opts.verbose_name_plural),
            "listed_max": changelist.LISTED_MAX,
            "strip": dashboard(request, self.get_database()),
            "groups": groups.groups(self),
            "live_url": self.address("live"),
            "retry_all_url": f"{self.address('retry_all')}?{query}",
            "may_retry": self.has_retry_permission(request),
            "nothing_yet": self._nothing_yet,  # the template asks only if the list is empty
            "all_states_url": f"?{STATE}={ALL}",
        }

    def _nothing_yet(self) -> bool:
        # In the order of a partial index, which is empty if nothing has failed.
        return not self.rows().order_by("-last_failed_at", "-id").values_list("pk")[:1]

    def live_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the list for the script that refreshes it.

        It is the same page, but messages to the user wait for a page that the user opens.
        """
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        response: HttpResponseBase = self.changelist_view(request, {"messages": ()})
        return response

    @outside_transactions
    @or_unavailable
    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show what users did with one message."""
        return super().history_view(request, *args, **kwargs)

    # ---- one row ----

    @or_unavailable
    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send one message now."""

        def retry(rows: Sequence[PublishFailure]) -> None:
            operations.retry(self, request, rows)

        return self._do(request, object_id, self.has_retry_permission, retry)

    @or_unavailable
    def discard_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Discard one message, once the user has confirmed it."""

        def discard(rows: Sequence[PublishFailure]) -> HttpResponseBase | None:
            if not confirmed(request):
                back = self.with_filters(request, self.address("change", rows[0].pk))
                return operations.ask_before_discarding(self, request, rows, back)
            operations.discard(self, request, rows)
            return None

        return self._do(request, object_id, self.has_discard_permission, discard)

    def _do(
        self,
        request: HttpRequest,
        object_id: str,
        allowed: Callable[[HttpRequest], bool],
        action: Callable[[Sequence[PublishFailure]], HttpResponseBase | None],
    ) -> HttpResponseBase:
        if not allowed(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_failure(object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        address = self.with_filters(request, self.address("change", row.pk))
        return action([row]) or HttpResponseRedirect(address)

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
        filters = changelist.narrowed_by(changes)
        matching = changes.queryset.order_by().filter(state__in=("failed", "dead"))
        warning = relay_missing(self.get_database())
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
        return TemplateResponse(request, f"{TEMPLATES}/retry_all.html", context)
