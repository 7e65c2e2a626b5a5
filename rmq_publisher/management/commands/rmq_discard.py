"""``manage.py rmq_discard``: decides that failed and dead messages are not to be sent."""

from typing import Any

from django.db.models import QuerySet

from rmq_publisher.management.failure_command import FailureCommand
from rmq_publisher.outbox import transitions


class Command(FailureCommand):
    """Keeps the rows, as ``discarded``, until ``rmq_prune`` or a relay deletes them."""

    help = (
        "Discard failed and dead messages, chosen by message id or by a filter: they are never sent, "
        "and stay in the table as discarded until they are pruned. Messages that are being sent right "
        "now are skipped."
    )
    done, would = "discarded", "would be discarded"
    examples = "or with a filter such as --state dead, --error Unroutable or --since 1h"

    def change(self, rows: QuerySet[Any], database: str) -> int:  # noqa: ARG002 (the base's)
        """Discard rows."""
        return transitions.discard(rows)
