"""What the pages of tasks share: their database, their permissions, and what is hidden of a task."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest

from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend, backends
from rmq_publisher.modeladmin.base import PageBase


class TaskPageBase(PageBase):
    """The page of tasks, whose arguments, results and tracebacks a project may redact."""

    heavy = ("args", "kwargs", "errors", "return_value")

    def get_database(self) -> str:
        """Return the database of the first backend of ``TASKS`` that is ours; override it for another."""
        return next((one.usable_options.database for one in backends()), DEFAULT_DB_ALIAS)

    def backends(self) -> dict[str, ConfiguredBackend]:
        """Return the backends whose tasks are in this database, by alias."""
        database = self.get_database()
        return {one.alias: one for one in backends() if one.usable_options.database == database}

    def name_of(self, row: Any) -> str:
        """Return what the user knows a task by."""
        return str(row.pk)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run failed tasks again."""
        return self.may(request, "retry_taskrecord")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel tasks."""
        return self.may(request, "cancel_taskrecord")

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may delete finished tasks."""
        return self.may(request, "delete_taskrecord")

    # ---- what may be shown ----

    def redact_arguments(
        self, request: HttpRequest, task: Any, args: list[Any], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return what the page shows of a task's arguments; override it to hide parts.

        Args:
            request: of the user, who has the permission ``view_payload``.
            task: the row.
            args, kwargs: as they were enqueued.
        """
        del request, task
        return args, kwargs

    def redact_result(self, request: HttpRequest, task: Any, value: Any) -> Any:
        """Return what the page shows of a task's return value, as `redact_arguments` does."""
        del request, task
        return value

    def redact_traceback(self, request: HttpRequest, task: Any, traceback: str) -> str:
        """Return what the page shows of an error's traceback, as `redact_arguments` does."""
        del request, task
        return traceback
