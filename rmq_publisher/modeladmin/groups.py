"""Unresolved failures grouped by error, so that those with one cause are retried together."""

from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlencode

from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.filters import UNRESOLVED
from rmq_publisher.modeladmin.permissions import FailureAdminBase

COUNTED_MAX = (
    3000  # rows of each state; counting more would make the page slower as the table grows
)
SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Group:
    """Failures with the same error.

    Attributes:
        error: in words, with the reply code.
        count: how many, at least.
        list_url: the list with only these.
        retry_url: the page that retries all of them.
    """

    error: str
    count: int
    list_url: str
    retry_url: str


def groups(page: FailureAdminBase) -> list[Group]:
    """Return the errors of the latest failed and dead messages, the most frequent first."""
    counter: Counter[tuple[str, int | None]] = Counter()
    for state in UNRESOLVED:
        rows = page.rows().filter(state=state).order_by("-last_failed_at", "-id")
        counter.update(rows.values_list("last_error_type", "last_error_code")[:COUNTED_MAX])
    retry_all = page.address("retry_all")
    found = []
    for (kind, code), count in counter.most_common(SHOWN_MAX):
        query = urlencode({"error": f"{kind}:{code}" if code else kind})
        error = formatting.error(kind, code)
        found.append(Group(error, count, f"?{query}", f"{retry_all}?{query}"))
    return found
