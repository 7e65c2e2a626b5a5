"""Failures as JSON, streamed so that few bodies are in memory at once."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse

from rmq_publisher.db.batches import batches_by_size
from rmq_publisher.modeladmin import payload as payloads
from rmq_publisher.models import PublishFailure

ROWS_AT_ONCE = 100
BYTES_AT_ONCE = 8 * 2**20
FIELDS = (
    "id", "message_id", "state", "using", "exchange", "routing_key", "ordering_key", "correlation_id",
    "size", "attempts", "unanswered", "created_at", "failed_at", "last_failed_at", "finished_at",
    "first_error_type", "first_error_code", "first_error_text", "last_error_type", "last_error_code",
    "last_error_text", "history",
)  # fmt: skip


def response(
    page: Any, request: HttpRequest, ids: Sequence[tuple[int, int]], *, payload: bool
) -> StreamingHttpResponse:
    """Return rows as a download.

    Args:
        page: the ModelAdmin, for its rows and its redaction.
        request: the user's.
        ids: id and size of each row.
        payload: whether to include bodies and headers.
    """
    return StreamingHttpResponse(
        _lines(page, request, ids, payload=payload),
        content_type="application/json",
        headers={
            "Content-Disposition": 'attachment; filename="publish-failures.json"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def _lines(
    page: Any, request: HttpRequest, ids: Sequence[tuple[int, int]], *, payload: bool
) -> Iterator[str]:
    yield "["
    separator = "\n"
    for batch in batches_by_size(ids, ROWS_AT_ONCE, BYTES_AT_ONCE):
        rows = page.rows().filter(pk__in=batch).order_by("pk").defer("topology")
        for row in rows if payload else rows.defer("body", "topology"):
            yield separator + json.dumps(_plain(page, request, row, payload=payload))
            separator = ",\n"
    yield "\n]\n"


def _plain(page: Any, request: HttpRequest, row: PublishFailure, *, payload: bool) -> Any:
    found = {name: payloads.plain(getattr(row, name)) for name in FIELDS}
    read = payloads.properties(bytes(row.header))
    properties, headers = read or (None, None)
    found["properties"] = payloads.plain(properties)
    if not payload:
        return found
    if headers is not None:
        headers = page.redact_headers(request, row, headers)
    return {
        **found,
        "headers": payloads.plain(headers),
        **_body(page.redact_body(request, row, bytes(row.body))),
    }


def _body(body: bytes) -> dict[str, str]:
    """Return a body as text if it is UTF-8, else in base 64."""
    try:
        return {"body": body.decode(), "body_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "body_encoding": "base64"}
