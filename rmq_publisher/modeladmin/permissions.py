"""Who may do what with failures, and what of their bodies and headers is hidden."""

from typing import Any, ClassVar

from django.http import HttpRequest

from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.models import OutboxMessage


class MessagePageBase(PageBase):
    """A page of stored messages, whose bodies and headers a project may redact."""

    heavy: ClassVar[tuple[str, ...]] = ("body", "header", "topology", "history")
    unread: ClassVar[tuple[str, ...]] = ("topology",)

    def redact_body(self, request: HttpRequest, message: OutboxMessage, body: bytes) -> bytes:
        """Return what pages, downloads and exports show of a body; override it to hide parts.

        Args:
            request: of the user, who has the permission ``view_payload``.
            message: the row.
            body: as it is sent.
        """
        del request, message
        return body

    def redact_headers(
        self, request: HttpRequest, message: OutboxMessage, headers: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what pages and exports show of a message's headers, as `redact_body` does."""
        del request, message
        return headers


class FailureAdminBase(MessagePageBase):
    """The page of publish failures."""

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry messages."""
        return self.may(request, "retry_publishfailure")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may discard messages."""
        return self.may(request, "discard_publishfailure")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may export messages."""
        return self.may(request, "export_publishfailure")
