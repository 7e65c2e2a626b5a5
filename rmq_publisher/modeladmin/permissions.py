"""The base of the admin page's mixins: which rows it shows, and who may do what with them."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import unquote
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.models import PublishFailure

# The mixins go in front of any ModelAdmin, such as a theme's.
if TYPE_CHECKING:
    Base = admin.ModelAdmin[PublishFailure]
else:
    Base = object

HEAVY = ("body", "header", "topology", "history")  # columns that the list does not load
TEMPLATES = "admin/rmq_publisher/publishfailure"


class FailureAdminBase(Base):
    """The database, its rows, the page's addresses, and the permissions."""

    def get_database(self) -> str:
        """Return the alias of the database whose table is shown; override it to show another.

        By default it is the one that is written to, so that the effect of an action is seen at once.
        """
        return router.db_for_write(PublishFailure)

    def rows(self) -> QuerySet[PublishFailure]:
        """Return the failures, unordered and without annotations."""
        return PublishFailure.objects.using(self.get_database())

    def get_queryset(self, request: HttpRequest) -> QuerySet[PublishFailure]:
        """Return the failures in the list's order, with the database's time and without large columns."""
        ordered = self.rows().order_by(*(self.get_ordering(request) or ()))
        return ordered.defer(*HEAVY).annotate(now=DatabaseNow())

    def get_failure(self, object_id: str) -> Any:
        """Return one failure with its body, headers and history; None if there is none with this id."""
        rows = self.rows().defer("topology").annotate(now=DatabaseNow())
        try:
            return rows.filter(pk=int(unquote(object_id))).first()
        except (ValueError, OverflowError):
            return None  # not a number, or larger than the database's integers

    # ---- addresses ----

    def url_name(self, what: str) -> str:
        """Return the name of one of this admin's URL patterns."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{what}"

    def address(self, what: str, *args: object) -> str:
        """Return the address of one of this admin's pages, on the same admin site."""
        name = f"admin:{self.url_name(what)}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def with_filters(self, request: HttpRequest, address: str) -> str:
        """Return an address that remembers the filters of the list from which the user came."""
        filters = self.get_preserved_filters(request)
        return add_preserved_filters({"opts": self.opts, "preserved_filters": filters}, address)

    # ---- permissions: rows change only through actions, never by a form ----

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        del request
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Return False."""
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Return False; `manage.py rmq_prune` deletes."""
        del request, obj
        return False

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry messages."""
        return self._may(request, "retry_publishfailure")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may discard messages."""
        return self._may(request, "discard_publishfailure")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may export messages."""
        return self._may(request, "export_publishfailure")

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may see bodies and headers."""
        return self._may(request, "view_payload")

    def _may(self, request: HttpRequest, permission: str) -> bool:
        # Every action requires the permission to view as well.
        return self.has_view_permission(request) and request.user.has_perm(
            f"{self.opts.app_label}.{permission}"
        )

    # ---- what may be shown ----

    def redact_body(self, request: HttpRequest, message: PublishFailure, body: bytes) -> bytes:
        """Return what pages, downloads and exports show of a body; override it to hide parts.

        Args:
            request: of the user, who has the permission ``view_payload``.
            message: the row.
            body: as it is sent.
        """
        del request, message
        return body

    def redact_headers(
        self, request: HttpRequest, message: PublishFailure, headers: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what pages and exports show of a message's headers, as `redact_body` does."""
        del request, message
        return headers
