"""What the admin's pages have in common: rows of one database, which change through actions only."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from rmq_publisher.db.clock import DatabaseNow

# The mixins go in front of any ModelAdmin, such as a theme's.
if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object

TEMPLATES = "admin/rmq_publisher"  # of all pages
TOLD_MAX = 20  # rows that a message to the user names one by one


class PageBase(Base):
    """The database, its rows, the page's addresses, and who may look.

    Attributes:
        heavy: columns that the list does not load.
        unread: columns that no page loads.
    """

    heavy: ClassVar[tuple[str, ...]] = ()
    unread: ClassVar[tuple[str, ...]] = ()

    def get_database(self) -> str:
        """Return the alias of the database whose table is shown; override it to show another.

        By default it is the one that is written to, so that the effect of an action is seen at once.
        """
        return router.db_for_write(self.model)

    def rows(self) -> QuerySet[Any]:
        """Return the rows, unordered and without annotations."""
        rows: QuerySet[Any] = self.model._default_manager.using(self.get_database())
        return rows

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows in the list's order, with the database's time and without large columns."""
        ordered: Any = self.rows().order_by(*(self.get_ordering(request) or ()))
        listed: QuerySet[Any] = ordered.defer(*self.heavy, *self.unread).annotate(
            now=DatabaseNow()
        )
        return listed

    def get_row(self, object_id: str) -> Any:
        """Return one row with its large columns; None if there is none with this id."""
        rows = self.rows().defer(*self.unread).annotate(now=DatabaseNow())
        try:
            return rows.filter(pk=self.model._meta.pk.to_python(unquote(object_id))).first()
        except (ValueError, ValidationError, OverflowError):
            return None  # not an id, or a number larger than the database's integers

    def name_of(self, row: Any) -> str:
        """Return what the user knows a row by."""
        return str(row.message_id)

    # ---- addresses ----

    def url_name(self, what: str) -> str:
        """Return the name of one of this admin's URL patterns."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{what}"

    def address(self, what: str, *args: object) -> str:
        """Return the address of one of this admin's pages, on the same admin site."""
        name = f"admin:{self.url_name(what)}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def address_of(
        self, request: HttpRequest, model: type[Model], what: str, *args: object
    ) -> str:
        """Return the address of another model's page; empty if the user may not view it.

        It is empty as well if the model is not registered on this site.
        """
        label, name = model._meta.app_label, model._meta.model_name
        if not request.user.has_perm(f"{label}.view_{name}"):
            return ""
        try:
            return reverse(
                f"admin:{label}_{name}_{what}", args=args, current_app=self.admin_site.name
            )
        except NoReverseMatch:
            return ""

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

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may see bodies and headers."""
        return self.may(request, "view_payload")

    def may(self, request: HttpRequest, permission: str) -> bool:
        """Return whether the user may view the page and has a permission of its app as well."""
        return self.has_view_permission(request) and request.user.has_perm(
            f"{self.opts.app_label}.{permission}"
        )
