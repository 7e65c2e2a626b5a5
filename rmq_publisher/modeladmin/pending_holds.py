"""What each pending message waits for, in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from rmq_publisher.conf import loader
from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.models import PendingMessage, PublishFailure
from rmq_publisher.monitoring import broker_status
from rmq_publisher.outbox import heartbeats, ordering_keys
from rmq_publisher.outbox.claims import being_sent

ID_SHOWN = 20


class Holds:
    """Says of rows what keeps each from being sent; its queries do not grow with the table.

    Args:
        page: the admin.
        request: the user's, who sees links to what he may view.
        rows: with the database's ``now``.
    """

    def __init__(self, page: PageBase, request: HttpRequest, rows: Iterable[Any]) -> None:
        database = page.get_database()
        seen = heartbeats.last_seen(database)
        self._page, self._request = page, request
        self._no_relay = seen is None or seen > heartbeats.ALIVE_SECONDS
        self._usable = {one.alias for one in loader.usable()}
        self._brokers = {status.alias: status.state for status in broker_status.statuses()}
        keys = sorted({row.ordering_key for row in rows if row.ordering_key})
        self._first: Mapping[str, Any] = ordering_keys.first_of(database, keys) if keys else {}

    def of(self, row: Any) -> SafeString | str:
        """Return what a row waits for."""
        if being_sent(row):
            return _("the process that has taken it")
        if row.available_at > row.now:
            return _("its time")
        first, message_id, state = self._first.get(row.ordering_key, (row.pk, "", ""))
        if first < row.pk:
            return self._behind(first, message_id, state)
        return self._sender(row.using)

    def behind(self, row: Any) -> str:
        """Return which message must be sent before a row; empty if none."""
        first, message_id, _state = self._first.get(row.ordering_key, (row.pk, "", ""))
        if first >= row.pk:
            return ""
        text = _("Message %s must be sent first: it has the same ordering key.")
        return text % formatting.visible(message_id)

    def _behind(self, id_: int, message_id: str, state: str) -> SafeString:
        text = {
            "dead": _("dead message {} with the same key, which needs a decision"),
            "failed": _("failed message {} with the same key"),
        }.get(state, _("message {} with the same key"))
        model = PendingMessage if state == "pending" else PublishFailure
        shown = formatting.name(message_id, ID_SHOWN)
        if url := self._page.address_of(self._request, model, "change", id_):
            shown = format_html('<a href="{}">{}</a>', url, shown)
        return format_html(text, shown)

    def _sender(self, using: str) -> str:
        if using not in self._usable:
            return _("its RabbitMQ connection, which is not configured on this server")
        state = self._brokers.get(using)
        if state == broker_status.DOWN:
            return _("RabbitMQ, which is down")
        if state == broker_status.BLOCKED:
            return _("RabbitMQ, which blocks publishing")
        if self._no_relay:
            return _("a relay: none is running")
        return _("a relay, which sends it next")
