"""The page of one message: what is known about it, its properties, headers and body."""

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from rmq_publisher.modeladmin import formatting, payload
from rmq_publisher.modeladmin.base import TEMPLATES
from rmq_publisher.modeladmin.guards import or_unavailable, outside_transactions
from rmq_publisher.modeladmin.permissions import MessagePageBase


class MessageViewMixin(MessagePageBase):
    """One message's page, and its body as a download.

    Attributes:
        detail_template: extends `message.html`.
    """

    detail_template = f"{TEMPLATES}/message.html"

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what is shown of a message besides its content: title, state, facts and buttons."""
        raise NotImplementedError

    @outside_transactions
    @or_unavailable
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a message. Nobody changes one by hand: there is no form."""
        del form_url
        if not self.has_view_permission(request) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        row = self.get_row(object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "row": row,
            "message_id": formatting.name(row.message_id),
            "list_url": self.with_filters(request, self.address("changelist")),
            **self.detail_context(request, row),
            **self._payload(request, row),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.detail_template, context)

    def button(
        self,
        request: HttpRequest,
        row: Any,
        what: str,
        label: str,
        reason: str,
        *,
        final: bool = False,
    ) -> dict[str, Any]:
        """Return a button of a message's page.

        Args:
            request: the user's.
            row: the message.
            what: name of the view that it calls.
            label: what it says.
            reason: why it cannot be pressed; empty if it can.
            final: whether what it does cannot be undone.
        """
        url = self.with_filters(request, self.address(what, row.pk))
        return {"what": what, "label": label, "reason": reason, "url": url, "final": final}

    @or_unavailable
    def body_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Download a body as bytes, in a type that no browser renders."""
        if not self.has_payload_permission(request) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        row = self.get_row(object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        filename = re.sub(r"[^A-Za-z0-9_-]", "_", row.message_id)[:100]
        return HttpResponse(
            self.redact_body(request, row, bytes(row.body)),
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": f'attachment; filename="{filename}.bin"',
                "X-Content-Type-Options": "nosniff",
            },
        )

    def _payload(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return properties, headers and body, as far as the user may see them."""
        read = payload.properties(bytes(row.header))
        properties, headers = read or ({}, {})
        found: dict[str, Any] = {
            "readable": read is not None,
            "properties": [
                (name, payload.property_value(name, item)) for name, item in properties.items()
            ],
            "may_see": self.has_payload_permission(request),
            "header_count": len(headers),
            "size": formatting.size(row.size),
        }
        if found["may_see"]:
            headers = self.redact_headers(request, row, headers)
            found["headers"] = [
                (formatting.visible(str(name)), payload.value(item))
                for name, item in headers.items()
            ]
            found["body"] = payload.shown(self.redact_body(request, row, bytes(row.body)))
        return found
