"""Rows as JSON, streamed so that few bodies are in memory at once."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse

from rmq_publisher.db.batches import batches_by_size
from rmq_publisher.modeladmin import payload as payloads
from rmq_publisher.modeladmin import reporting

ROWS_AT_ONCE = 100
BYTES_AT_ONCE = 8 * 2**20


def selected(page: Any, request: HttpRequest, rows: Sequence[Any]) -> StreamingHttpResponse | None:
    """Return selected rows as a download, and log it; None if there are none."""
    if not rows:
        return None
    reporting.log(request, rows, "Exported as JSON.")
    ids = [(row.pk, row.size) for row in rows]
    return response(page, request, ids, payload=page.has_payload_permission(request))


def response(
    page: Any, request: HttpRequest, ids: Sequence[tuple[int, int]], *, payload: bool
) -> StreamingHttpResponse:
    """Return rows as a download.

    Args:
        page: the ModelAdmin: its rows, its redaction, and what is exported.
        request: the user's.
        ids: id and size of each row.
        payload: whether to include bodies and headers.
    """
    return StreamingHttpResponse(
        _lines(page, request, ids, payload=payload),
        content_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="{page.export_name}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def _lines(
    page: Any, request: HttpRequest, ids: Sequence[tuple[int, int]], *, payload: bool
) -> Iterator[str]:
    yield "["
    separator = "\n"
    for batch in batches_by_size(ids, ROWS_AT_ONCE, BYTES_AT_ONCE):
        rows = page.rows().filter(pk__in=batch).order_by("pk").defer(*page.unread)
        for row in rows if payload else rows.defer("body", *page.unread):
            yield separator + json.dumps(_plain(page, request, row, payload=payload))
            separator = ",\n"
    yield "\n]\n"


def _plain(page: Any, request: HttpRequest, row: Any, *, payload: bool) -> Any:
    found = {name: payloads.plain(getattr(row, name)) for name in page.exported}
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
