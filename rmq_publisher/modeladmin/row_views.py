"""A page's own addresses, and the buttons that do something with one row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path

from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.modeladmin.guards import or_unavailable, outside_transactions

# Does something with rows; returns a page that asks first, or None to show the row again.
Action = Callable[[Sequence[Any]], HttpResponseBase | None]


class RowViewsMixin(PageBase):
    """Views at addresses of our own.

    Attributes:
        paths: where each is; the view of "name" is the method ``name_view``.
    """

    paths: ClassVar[Mapping[str, str]] = {}

    def get_urls(self) -> list[URLPattern]:
        """Return our own URLs before those of every admin page."""
        return [*(self._path(name) for name in self.paths), *super().get_urls()]

    def _path(self, name: str) -> URLPattern:
        view: Any = outside_transactions(self.admin_site.admin_view(getattr(self, f"{name}_view")))
        pattern: URLPattern = path(self.paths[name], view, name=self.url_name(name))
        return pattern

    @outside_transactions
    @or_unavailable
    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show what users did with one row."""
        return super().history_view(request, *args, **kwargs)

    def do(
        self,
        request: HttpRequest,
        object_id: str,
        allowed: Callable[[HttpRequest], bool],
        action: Action,
    ) -> HttpResponseBase:
        """Answer a button of one row's page: on POST, do what it says and show the row again.

        If the row is gone, the list is shown.
        """
        if not allowed(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_row(object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        if (answer := action([row])) is not None:
            return answer
        remains = self.rows().filter(pk=row.pk).exists()
        address = self.address("change", row.pk) if remains else self.address("changelist")
        return HttpResponseRedirect(self.with_filters(request, address))
