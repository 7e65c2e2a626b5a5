"""The page's addresses, and what each of them does."""

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, ProgrammingError, transaction
from django.db import connections as databases
from django.db.models import Q, QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rmq_publisher.db.clock import After
from rmq_publisher.modeladmin import changelist, formatting
from rmq_publisher.modeladmin.actions import ActionPart, confirmed
from rmq_publisher.modeladmin.dashboard import relay_missing, strip
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox import notifier, transitions

TEMPLATES = "admin/rmq_publisher/publishfailure"
DUE_AT_ONCE = 1000  # rows that one statement makes due, so that none holds many locks for long
DUE_MAX = 100_000  # and those of one request

AMISS = (OperationalError, ProgrammingError, InterfaceError)  # a table or the database, perhaps

# What "send all that match again" changes: what is due already is sent anyway.
NOT_DUE = transitions.FREE & (Q(state="dead") | Q(available_at__gt=After()))


def _unwrapped(view: Any) -> Any:
    """Mark a view: no transaction around it (ATOMIC_REQUESTS) may take back what it has settled.

    Nor may one be left that an error has ended, in which nobody can ask any more what is amiss.
    """
    for database in databases:
        view = transaction.non_atomic_requests(using=database)(view)
    return view


def _or_broken(view: Any) -> Any:
    """Have a view answer what is amiss where a table is missing or the database is away."""

    @wraps(view)
    def answered(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response: HttpResponseBase = view(self, request, *args, **kwargs)
        except AMISS:
            missing = self.missing_table()
            if missing is None:
                raise
            response = self.broken(request, missing)
        return response

    return answered


class PagePart(ActionPart):
    """The views."""

    def get_urls(self) -> list[URLPattern]:
        """Add our own addresses to those of every admin page."""
        view = self.admin_site.admin_view
        own = [
            path("live/", _unwrapped(view(self.live_view)), name=self._url_name("live")),
            path(
                "retry-all/",
                _unwrapped(view(self.retry_all_view)),
                name=self._url_name("retry_all"),
            ),
            path(
                "<path:object_id>/body/",
                _unwrapped(view(self.body_view)),
                name=self._url_name("body"),
            ),
            path(
                "<path:object_id>/retry/",
                _unwrapped(view(self.retry_view)),
                name=self._url_name("retry"),
            ),
            path(
                "<path:object_id>/discard/",
                _unwrapped(view(self.discard_view)),
                name=self._url_name("discard"),
            ),
        ]
        return [*own, *super().get_urls()]

    def _url_name(self, what: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{what}"

    def address(self, what: str, *args: object) -> str:
        """Return the address of one of these pages."""
        return reverse(
            f"admin:{self._url_name(what)}", args=args, current_app=self.admin_site.name
        )

    # ---- the list ----

    @_unwrapped
    @_or_broken
    def changelist_view(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponseBase:
        """Show the list with the strip above it, or why there is none; run actions."""
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
            "strip": strip(request, self.get_database()),
            "live_url": self.address("live"),
            "retry_all_url": f"{self.address('retry_all')}?{query}",
            "may_retry": self.has_retry_permission(request),
            "nothing_yet": self._nothing_yet,  # asked only where the list is empty
        }

    def _nothing_yet(self) -> bool:
        # In the order of an index, which without failures has no rows.
        return not self.rows().order_by(*self.ordering).values_list("pk")[:1]

    def live_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the list for the page that refreshes itself.

        It is the same page, but the messages to the person wait for one that is really opened.
        """
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        response: HttpResponseBase = self.changelist_view(request, {"messages": ()})
        return response

    # ---- what is amiss with the database ----

    def missing_table(self) -> bool | None:
        """Return True where there is no table, False where the database is away, else None."""
        connection = databases[self.get_database()]
        try:
            tables = connection.introspection.table_names()
        except (OperationalError, InterfaceError):
            return False
        names = {model._meta.db_table for model in self.opts.app_config.get_models()}
        return None if names <= set(tables) else True

    def broken(self, request: HttpRequest, missing: bool) -> HttpResponseBase:
        """Return the page that says what is amiss, and what to do."""
        database = self.get_database()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": capfirst(self.opts.verbose_name_plural),
            "broken": True,
            "missing": missing,
            "database": database,
            "command": f"python manage.py migrate rmq_publisher --database {database}",
        }
        template = f"{TEMPLATES}/broken.html"
        return TemplateResponse(request, template, context, status=503)

    # ---- one row ----

    @_unwrapped
    @_or_broken
    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show one message."""
        return super().change_view(request, *args, **kwargs)

    @_unwrapped
    @_or_broken
    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show what people did with one message."""
        return super().history_view(request, *args, **kwargs)

    @_or_broken
    def body_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Download a body."""
        return super().body_view(request, object_id)

    @_or_broken
    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send one message again, now."""
        return self._do(request, object_id, self.has_retry_permission, self._retry)

    def _retry(self, request: HttpRequest, rows: Sequence[PublishFailure]) -> None:
        self.retry_rows(request, rows)

    @_or_broken
    def discard_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Discard one message, once the person has confirmed it."""
        return self._do(request, object_id, self.has_discard_permission, self._discard)

    def _discard(
        self, request: HttpRequest, rows: Sequence[PublishFailure]
    ) -> HttpResponseBase | None:
        if not confirmed(request):
            back = self.address("change", rows[0].pk)
            return self.ask_before_discarding(request, rows, back)
        self.discard_rows(request, rows)
        return None

    def _do(
        self, request: HttpRequest, object_id: str, allowed: Any, action: Any
    ) -> HttpResponseBase:
        if not allowed(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_failure(request, object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        asked: HttpResponseBase | None = action(request, [row])
        return asked or HttpResponseRedirect(self.address("change", row.pk))

    # ---- all that match ----

    @_or_broken
    def retry_all_view(self, request: HttpRequest) -> HttpResponseBase:
        """Say how many messages match the list's filters; on POST have a relay send them again."""
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
        if request.method == "POST":
            self._make_all_due(request, matching, f" ({query})" if filters else "")
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": _("Send all that match again"),
            "count": matching.filter(NOT_DUE).count(),
            "left_alone": matching.exclude(NOT_DUE).count(),
            "filters": [(capfirst(title), formatting.name(value)) for title, value in filters],
            "most": DUE_MAX,
            "relay_missing": relay_missing(self.get_database()),
            "back": back,
        }
        return TemplateResponse(request, f"{TEMPLATES}/retry_all.html", context)

    def _make_all_due(
        self, request: HttpRequest, matching: QuerySet[PublishFailure], which: str
    ) -> None:
        database = self.get_database()
        found = matching.filter(NOT_DUE).order_by("pk").values_list("pk", flat=True)
        ids = list(found[: DUE_MAX + 1])
        done = 0
        for start in range(0, min(len(ids), DUE_MAX), DUE_AT_ONCE):
            some = ids[start : min(start + DUE_AT_ONCE, DUE_MAX)]
            done += transitions.make_due(self.rows().filter(pk__in=some))
        if done:
            notifier.notify(database)
            self.log_all(request, f"{done} publish failures{which}", f"Made {done} due.")
            text = ngettext(
                "%d message is due: a relay sends it now.",
                "%d messages are due: a relay sends them now.",
                done,
            )
            told, level = text % done, messages.SUCCESS
        else:
            told = _(
                "Nothing was left to make due: what matches is due already, or not open any more."
            )
            level = messages.WARNING
        if len(ids) > DUE_MAX:
            more = _("More of them match: do it once more.")
            told, level = f"{told} {more}", messages.WARNING
        if missing := relay_missing(database):
            told, level = f"{told} {missing}", messages.WARNING
        self.message_user(request, told, level)
