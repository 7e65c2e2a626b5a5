"""The page of one failure: what it is, what happened to it, what can be done with it."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from rmq_publisher.db.clock import After
from rmq_publisher.modeladmin import formatting, payload
from rmq_publisher.modeladmin.changelist import ListPart
from rmq_publisher.models import OutboxMessage, PublishFailure
from rmq_publisher.outbox.claims import being_sent

OPEN = ("pending", "failed", "dead")


class DetailPart(ListPart):
    """One failure, and its body as a download."""

    def redact_body(self, request: HttpRequest, message: PublishFailure, body: bytes) -> bytes:
        """Return what may be shown of a body, also in downloads and exports; override it to hide more.

        Args:
            request: of the person, who has the permission ``view_payload``.
            message: the row.
            body: as it is sent.
        """
        del request, message
        return body

    def redact_headers(
        self, request: HttpRequest, message: PublishFailure, headers: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what may be shown of a message's headers; as `redact_body`."""
        del request, message
        return headers

    def get_failure(self, request: HttpRequest, object_id: str) -> Any:
        """Return a row with all that is in it, as the pages show it; None where there is none."""
        del request
        rows = self.rows().defer("topology").annotate(now=After())
        try:
            return rows.filter(pk=int(unquote(object_id))).first()
        except (ValueError, OverflowError):
            return None  # no number, or more than a database's

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a failure. Nobody changes one by hand: there is no form."""
        del form_url
        if not self.has_view_permission(request) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        row = self.get_failure(request, object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": _("Publish failure"),
            "row": row,
            "message_id": formatting.name(row.message_id),
            "state": self.state_shown(row),
            "facts": self._facts(row),
            "attempts": _attempts(row),
            "doings": self._doings(request, row),
            "command": self._command(row),
            **self._payload(request, row),
            **(extra_context or {}),
        }
        template = "admin/rmq_publisher/publishfailure/detail.html"
        return TemplateResponse(request, template, context)

    def body_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Download a body, as bytes that no browser opens."""
        if not self.has_payload_permission(request) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        row = self.get_failure(request, object_id)
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

    def _facts(self, row: Any) -> list[tuple[str, Any]]:
        facts: list[tuple[str, Any]] = [
            (_("Connection"), formatting.name(row.using)),
            (_("Exchange"), formatting.exchange(row.exchange)),
            (_("Routing key"), formatting.name(row.routing_key)),
            (_("Last error"), formatting.error(row.last_error_type, row.last_error_code)),
            (_("In its own words"), formatting.name(row.last_error_text)),
            (_("Written"), formatting.moment(row.created_at, row.now)),
            (_("First failed"), formatting.moment(row.failed_at, row.now)),
            (_("Last failed"), formatting.moment(row.last_failed_at, row.now)),
            (_("Attempts that were answered"), row.attempts),
            (_("Attempts without an answer"), row.unanswered),
            (_("Next attempt"), formatting.next_attempt(row)),
        ]
        if row.finished_at is not None:
            facts.append((_("Finished"), formatting.moment(row.finished_at, row.now)))
        if row.ordering_key:
            facts.insert(3, (_("Ordering key"), formatting.name(row.ordering_key)))
        return facts

    def _doings(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """Return what this person may do, and why not now where it cannot be."""
        doings = []
        if self.has_retry_permission(request):
            reason = closed(row) or self._before(row)
            doings.append({"what": "retry", "label": _("Send again, now"), "reason": reason})
        if self.has_discard_permission(request):
            doings.append({"what": "discard", "label": _("Discard"), "reason": closed(row)})
        return doings

    def _before(self, row: Any) -> str:
        """Say which message of its ordering key comes first; empty where it is the first."""
        if not row.ordering_key:
            return ""
        rows = OutboxMessage.objects.using(self.get_database()).order_by("pk")
        first = rows.filter(ordering_key=row.ordering_key, state__in=OPEN, pk__lt=row.pk).only(
            "message_id"
        )[:1]
        if not first:
            return ""
        text = _("Message %s of the same ordering key comes first: send or discard that one.")
        return text % formatting.visible(first[0].message_id)

    def _command(self, row: Any) -> str:
        """Return what does the same in a shell; empty where the id cannot be written in one line."""
        if formatting.visible(row.message_id) != row.message_id:
            return ""
        database = self.get_database()
        options = [] if database == DEFAULT_DB_ALIAS else ["--database", database]
        end = ["--"] if row.message_id.startswith("-") else []
        return shlex.join(["python", "manage.py", "rmq_retry", *options, *end, row.message_id])

    def _payload(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return properties, headers and body, as far as the person may see them."""
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


def closed(row: Any) -> str:
    """Say why nothing can be done with a row; empty where something can."""
    if being_sent(row):
        return _("It is being sent at this moment, by a relay or by somebody else.")
    if row.state == "delivered":
        return _("It has been delivered.")
    if row.state == "discarded":
        return _("It was discarded.")
    return ""


def _attempts(row: Any) -> list[dict[str, Any]]:
    """Return what is known of each attempt, the latest first, with what became of it in the end."""
    attempts = []
    for each in row.history:
        entry = each if isinstance(each, Mapping) else {}
        then = formatting.written(entry.get("at"), row.now)
        attempts.append(
            {
                "when": _("time unknown") if then is None else formatting.moment(then, row.now),
                "outcome": formatting.error(str(entry.get("type", "")), entry.get("code")),
                "text": formatting.name(str(entry.get("text", ""))),
            }
        )
    if row.state == "delivered":
        attempts.append(
            {"when": formatting.moment(row.finished_at, row.now), "outcome": _("Confirmed")}
        )
    return attempts[::-1]
