"""What the parts of the admin's page share."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest

from rmq_publisher.db.clock import After
from rmq_publisher.models import PublishFailure

# The parts are mixed into whatever ModelAdmin a theme has.
if TYPE_CHECKING:
    Base = admin.ModelAdmin[PublishFailure]
else:
    Base = object

HEAVY = ("body", "header", "topology", "history")  # columns that a list leaves alone


class FailuresBase(Base):
    """Whose rows these are, and who may do what with them."""

    def get_database(self) -> str:
        """Return the alias of the database whose table is shown; overridden where there are several.

        It is the one that is written to: what an action has changed must be seen at once.
        """
        return router.db_for_write(PublishFailure)

    def rows(self) -> QuerySet[PublishFailure]:
        """Return the failures, without anything that only shows."""
        return PublishFailure.objects.using(self.get_database())

    def get_queryset(self, request: HttpRequest) -> QuerySet[PublishFailure]:
        """Return the failures as the pages show them: with the database's time, without their bytes."""
        ordered = self.rows().order_by(*(self.get_ordering(request) or ()))
        return ordered.defer(*HEAVY).annotate(now=After())

    # ---- permissions: rows are changed by what is done with the message, never by hand ----

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
        """Return whether the person may send messages again."""
        return self._may(request, "retry_publishfailure")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may discard messages."""
        return self._may(request, "discard_publishfailure")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may export messages."""
        return self._may(request, "export_publishfailure")

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may see bodies and headers."""
        return self._may(request, "view_payload")

    def _may(self, request: HttpRequest, permission: str) -> bool:
        # Of what cannot be seen nothing can be done either.
        return self.has_view_permission(request) and request.user.has_perm(
            f"{self.opts.app_label}.{permission}"
        )
