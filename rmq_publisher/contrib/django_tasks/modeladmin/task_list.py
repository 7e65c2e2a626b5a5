"""The list of tasks: its filters, columns and search."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from rmq_publisher.contrib.django_tasks import records
from rmq_publisher.contrib.django_tasks.modeladmin import columns
from rmq_publisher.contrib.django_tasks.modeladmin.base import TaskPageBase
from rmq_publisher.contrib.django_tasks.modeladmin.dashboard import STATUS, dashboard
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.bounded_list import BoundedListMixin
from rmq_publisher.modeladmin.choice_filter import ChoiceFilter, Choices, filters_only

RECENT = 1000  # tasks whose paths are offered; finding all of them would scan the table
NAME_SHOWN = 60  # characters of a name in a cell

Rows = QuerySet[TaskRecord]


class StatusFilter(ChoiceFilter):
    """The task's status."""

    title = gettext_lazy("status")
    parameter_name = STATUS

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the statuses of Django's task framework."""
        del request, model_admin
        return list(TaskRecord.Status.choices)

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the tasks with this status."""
        return queryset.filter(status=value)


class PathFilter(ChoiceFilter):
    """The task's dotted path."""

    title = gettext_lazy("task")
    parameter_name = "path"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the paths of recent tasks and the chosen one."""
        if filters_only(request):
            return []
        rows = model_admin.rows().order_by("-enqueued_at", "-id")
        found = set(rows.values_list("task_path", flat=True)[:RECENT])
        found.update(request.GET.getlist(self.parameter_name)[-1:])
        return [(path, formatting.visible(path)) for path in sorted(found)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the tasks of this path."""
        return queryset.filter(task_path=value)


class TaskListMixin(BoundedListMixin, TaskPageBase):
    """Columns, filters and search."""

    list_display = (
        "task", "status_shown", "enqueued_shown", "took_shown", "attempts_shown", "queue_shown",
        "worker_shown",
    )  # fmt: skip
    list_filter = (StatusFilter, PathFilter)
    ordering = ("-enqueued_at", "-id")
    sortable_by = ()
    search_fields = ("id", "task_path")
    search_help_text = gettext_lazy("Task id, or part of a task's path")

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the numbers above the list and the chart below it."""
        return {
            "strip": dashboard(self, request),
            "nothing_yet": self._nothing_yet,  # the template asks only if the list is empty
        }

    def _nothing_yet(self) -> bool:
        return not self.rows().order_by(*self.ordering).values_list("pk")[:1]

    def get_search_results(
        self, request: HttpRequest, queryset: Rows, search_term: str
    ) -> tuple[Rows, bool]:
        """Search for an id or a whole path by their indexes; only if there is none, search all rows."""
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        for condition in ({"pk": term}, {"task_path": term}):
            found = queryset.filter(**condition)
            if found.exists():
                return found, False
        return queryset.filter(task_path__icontains=term), False

    # ---- columns ----

    @admin.display(description=gettext_lazy("task"))
    def task(self, row: Any) -> SafeString:
        """The task's path, with its id below."""
        return formatting.two_lines(
            formatting.name(row.task_path, NAME_SHOWN), formatting.name(row.pk, NAME_SHOWN)
        )

    @admin.display(description=gettext_lazy("status"))
    def status_shown(self, row: Any) -> SafeString:
        """The status."""
        return columns.status(row)

    @admin.display(description=gettext_lazy("enqueued"))
    def enqueued_shown(self, row: Any) -> SafeString | str:
        """When it was enqueued."""
        return formatting.moment(row.enqueued_at, row.now)

    @admin.display(description=gettext_lazy("duration"))
    def took_shown(self, row: Any) -> str:
        """How long its last run took, or takes already."""
        return columns.duration(row)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, row: Any) -> str:
        """The number of its runs."""
        return str(row.attempts)

    @admin.display(description=gettext_lazy("queue, backend"))
    def queue_shown(self, row: Any) -> SafeString:
        """The queue, with the backend's alias below."""
        return formatting.two_lines(
            formatting.name(row.queue_name, NAME_SHOWN), formatting.name(row.backend, NAME_SHOWN)
        )

    @admin.display(description=gettext_lazy("worker"))
    def worker_shown(self, row: Any) -> SafeString | str:
        """The worker of its last run."""
        known = records.worker_ids(row)
        return formatting.name(known[-1], NAME_SHOWN) if known else "-"
