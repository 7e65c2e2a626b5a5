"""Tasks: the page of one, and the actions to run it again, to cancel it and to delete it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.contrib.django_tasks import operations, records
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend
from rmq_publisher.contrib.django_tasks.modeladmin.base import TaskPageBase
from rmq_publisher.contrib.django_tasks.modeladmin.columns import duration, status
from rmq_publisher.contrib.django_tasks.modeladmin.outcomes import DONE, TaskOutcome, TaskResult
from rmq_publisher.contrib.django_tasks.models import ID_MAX, TaskRecord
from rmq_publisher.modeladmin import confirmation, formatting, payload, reporting
from rmq_publisher.modeladmin.confirmed_actions import ConfirmedActionsMixin
from rmq_publisher.modeladmin.guards import or_unavailable, outside_transactions

TEMPLATES = "admin/rmq_publisher_tasks/taskrecord"
READY, FAILED = TaskRecord.Status.READY, TaskRecord.Status.FAILED
FINISHED = (TaskRecord.Status.FAILED, TaskRecord.Status.SUCCESSFUL)

Rows = Sequence[Any]
Operation = Callable[[ConfiguredBackend, str], bool]


class TaskPageMixin(ConfirmedActionsMixin, TaskPageBase):
    """The list's actions, one task's page and its buttons."""

    actions = ("retry_selected", "cancel_selected", "remove_selected")
    listed_by = ("pk", "task_path", "backend", "status")
    paths: ClassVar = {
        "live": "live/",
        "retry": "<path:object_id>/retry/",
        "cancel": "<path:object_id>/cancel/",
        "remove": "<path:object_id>/remove/",
    }

    def read_id(self, text: str) -> str:
        """Return a task's id out of a form."""
        if not text or len(text) > ID_MAX or not text.isprintable():
            raise ValueError("not an id")
        return text

    # ---- one task ----

    @outside_transactions
    @or_unavailable
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a task. Nobody changes one by hand: there is no form."""
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
            "title": _("Task"),
            "row": row,
            "status": status(row),
            "task": formatting.name(row.task_path),
            "facts": _facts(row),
            "buttons": self._buttons(request, row),
            "may_see": self.has_payload_permission(request),
            "errors": self._errors(request, row),
            "list_url": self.with_filters(request, self.address("changelist")),
            **self._values(request, row),
            **(extra_context or {}),
        }
        return TemplateResponse(request, f"{TEMPLATES}/detail.html", context)

    def _buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        offered = [
            ("retry", _("Run again"), self.has_retry_permission, row.status == FAILED),
            ("cancel", _("Cancel"), self.has_cancel_permission, row.status == READY),
            ("remove", _("Delete"), self.has_remove_permission, row.status in FINISHED),
        ]
        return [
            {
                "what": what,
                "label": label,
                "url": self.with_filters(request, self.address(what, row.pk)),
                "final": what == "remove",
            }
            for what, label, allowed, possible in offered
            if possible and allowed(request)
        ]

    def _values(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return arguments and result, as far as the user may see them."""
        if not self.has_payload_permission(request):
            return {}
        args, kwargs = self.redact_arguments(
            request, row, json.loads(row.args), json.loads(row.kwargs)
        )
        found = {"args": _shown(args), "kwargs": _shown(kwargs)}
        if row.status == TaskRecord.Status.SUCCESSFUL:
            value = self.redact_result(request, row, json.loads(row.return_value))
            found["result"] = _shown(value)
        return found

    def _errors(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """Return the errors of a task's runs, the latest first."""
        may_see = self.has_payload_permission(request)
        found = []
        for each in reversed(json.loads(row.errors)):
            text = str(each.get("traceback", "")) if may_see else ""
            shown = payload.text(self.redact_traceback(request, row, text)) if text else None
            found.append(
                {
                    "kind": formatting.name(str(each.get("exception_class_path", ""))),
                    "traceback": shown,
                }
            )
        return found

    @or_unavailable
    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Run one task again."""
        return self.do(
            request, object_id, self.has_retry_permission, lambda rows: self._retry(request, rows)
        )

    @or_unavailable
    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Cancel one task; it can be run again later."""
        return self.do(
            request,
            object_id,
            self.has_cancel_permission,
            lambda rows: self._cancel(request, rows),
        )

    @or_unavailable
    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Delete one finished task, once the user has confirmed it."""
        return self.do_confirmed(request, object_id, self.has_remove_permission, self._remove)

    # ---- the list's actions ----

    @admin.action(permissions=["retry"], description=gettext_lazy("Run selected tasks again"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Have a worker run those that have failed again."""
        if rows := self.selected(request, queryset):
            self._retry(request, rows)

    @admin.action(permissions=["cancel"], description=gettext_lazy("Cancel selected tasks"))
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Cancel those that no worker has begun."""
        if rows := self.selected(request, queryset):
            self._cancel(request, rows)

    @admin.action(
        permissions=["remove"], description=gettext_lazy("Delete selected finished tasks")
    )
    def remove_selected(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> TemplateResponse | None:
        """Delete those that have finished, once the user has confirmed it."""
        return self.act_confirmed(request, queryset, self._remove)

    def _retry(self, request: HttpRequest, rows: Rows) -> None:
        outcomes = (TaskOutcome.QUEUED, TaskOutcome.NOT_FAILED)
        self._operate(request, rows, operations.retry, outcomes)

    def _cancel(self, request: HttpRequest, rows: Rows) -> None:
        outcomes = (TaskOutcome.CANCELLED, TaskOutcome.NOT_READY)
        self._operate(request, rows, operations.cancel, outcomes)

    def _remove(self, request: HttpRequest, rows: Rows) -> None:
        outcomes = (TaskOutcome.DELETED, TaskOutcome.NOT_FINISHED)
        self._operate(request, rows, operations.delete, outcomes)

    def _operate(
        self,
        request: HttpRequest,
        rows: Rows,
        operation: Operation,
        outcomes: tuple[TaskOutcome, TaskOutcome],
    ) -> None:
        """Do something to each task, log it, and tell the user the outcomes."""
        known = self.backends()
        results = []
        for row in rows:
            outcome = TaskOutcome.UNCONFIGURED
            if (backend := known.get(row.backend)) is not None:
                try:
                    outcome = outcomes[0] if operation(backend, row.pk) else outcomes[1]
                except ImproperlyConfigured:
                    pass  # the checks say what is wrong
            results.append(TaskResult(row.pk, outcome))
        done = all(result.outcome in DONE for result in results)
        level = messages.SUCCESS if done else messages.WARNING
        reporting.finish(self, request, rows, results, level)

    def ask(
        self, request: HttpRequest, rows: Rows, back: str, form: confirmation.Form = ()
    ) -> TemplateResponse | None:
        """Return the page that asks before tasks are deleted, counting those that can be."""
        finished = [row for row in rows if row.status in FINISHED]
        if not finished:
            text = _("Nothing to delete: no selected task has finished.")
            self.message_user(request, text, messages.WARNING)
            return None
        return confirmation.question(
            self,
            request,
            finished,
            template="../rmq_publisher_tasks/taskrecord/delete.html",
            title=_("Delete tasks"),
            skipped=len(rows) - len(finished),
            back=back,
            form=form,
        )


def _shown(value: Any) -> payload.Shown:
    """Return a JSON value as the page shows it."""
    return payload.shown(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _facts(row: Any) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        (_("Task id"), formatting.name(row.pk)),
        (_("Queue"), formatting.name(row.queue_name)),
        (_("Backend"), formatting.name(row.backend)),
        (_("Priority"), row.priority),
        (_("Enqueued"), formatting.moment(row.enqueued_at, row.now)),
        (_("First started"), formatting.moment(row.started_at, row.now)),
        (_("Last started"), formatting.moment(row.last_attempted_at, row.now)),
        (_("Finished"), formatting.moment(row.finished_at, row.now)),
        (_("Duration of the last run"), duration(row)),
        (_("Attempts"), _attempts(row)),
        (_("Workers"), ", ".join(map(formatting.visible, records.worker_ids(row))) or "-"),
    ]
    if row.run_after is not None:
        facts.insert(4, (_("Run after"), formatting.moment(row.run_after, row.now)))
    if row.retry_at is not None and row.status == READY:
        facts.append((_("Next attempt"), formatting.moment(row.retry_at, row.now)))
    return facts


def _attempts(row: Any) -> str:
    counted = {"failed": row.failures, "died": row.deaths}
    parts = [
        (_("failed: %d"), counted["failed"]),
        (_("ended by the death of their worker: %d"), counted["died"]),
    ]
    told = ", ".join(text % number for text, number in parts if number)
    return f"{row.attempts} ({told})" if told else str(row.attempts)
