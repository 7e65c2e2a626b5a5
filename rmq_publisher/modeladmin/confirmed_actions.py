"""Actions that a user has to confirm, for one row and for the selected rows of a list."""

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse

from rmq_publisher.modeladmin import confirmation
from rmq_publisher.modeladmin.row_selection import RowSelectionMixin, confirmed, is_across
from rmq_publisher.modeladmin.row_views import RowViewsMixin

Rows = Sequence[Any]
Operation = Callable[[HttpRequest, Rows], None]


class ConfirmedActionsMixin(RowViewsMixin, RowSelectionMixin):
    """Runs operations on rows, some of them only after a page that asks first."""

    def ask(
        self, request: HttpRequest, rows: Rows, back: str, form: confirmation.Form = ()
    ) -> TemplateResponse | None:
        """Return the page that asks; None, with a message, if none of the rows qualifies."""
        raise NotImplementedError

    def do_confirmed(
        self,
        request: HttpRequest,
        object_id: str,
        allowed: Callable[[HttpRequest], bool],
        operation: Operation,
    ) -> HttpResponseBase:
        """Answer a button of one row's page, once the user has confirmed it."""

        def action(rows: Rows) -> HttpResponseBase | None:
            if not confirmed(request):
                back = self.with_filters(request, self.address("change", rows[0].pk))
                return self.ask(request, rows, back)
            operation(request, rows)
            return None

        return self.do(request, object_id, allowed, action)

    def act_confirmed(
        self, request: HttpRequest, queryset: QuerySet[Any], operation: Operation
    ) -> TemplateResponse | None:
        """Run an action of the list, once the user has confirmed it."""
        rows = self.selected(request, queryset)
        if rows and (is_across(request) or not confirmed(request)):
            form = confirmation.repeated(request)
            return self.ask(request, rows, request.get_full_path(), form)
        if rows:
            operation(request, rows)
        return None
