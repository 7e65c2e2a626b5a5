"""Tasks with their results, and the workers that run them."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from rmq_publisher.indexes import IndexWhere

ID_MAX = 64  # as Django's task framework says
NAME_MAX = 255


class TaskRecord(models.Model):
    """A task that was enqueued, and its result.

    Every change of ``status`` is made by `records`, under the row's lock: do not save objects of this
    model. What is JSON is kept as text: a JSON column would refuse some strings, and change numbers.
    All times are the database's.
    """

    class Status(models.TextChoices):
        """The statuses of Django's task framework."""

        READY = "READY", pgettext_lazy("status of a task", "ready")
        RUNNING = "RUNNING", pgettext_lazy("status of a task", "running")
        FAILED = "FAILED", pgettext_lazy("status of a task", "failed")
        SUCCESSFUL = "SUCCESSFUL", pgettext_lazy("status of a task", "successful")

    id = models.CharField(_("id"), max_length=ID_MAX, primary_key=True)
    backend = models.CharField(_("backend"), max_length=NAME_MAX)
    task_path = models.CharField(_("task"), max_length=NAME_MAX)
    queue_name = models.CharField(_("queue"), max_length=NAME_MAX)
    priority = models.SmallIntegerField(_("priority"), default=0)
    run_after = models.DateTimeField(_("run after"), null=True)
    args = models.TextField(_("positional arguments"), default="[]")
    kwargs = models.TextField(_("keyword arguments"), default="{}")

    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.READY)
    enqueued_at = models.DateTimeField(_("enqueued at"))
    started_at = models.DateTimeField(_("started at"), null=True)
    last_attempted_at = models.DateTimeField(_("last attempted at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    # A task that is ready again after a failed run does not run before this.
    retry_at = models.DateTimeField(_("next attempt at"), null=True)
    # The number of runs; worker_ids has the worker of each. Only the latest run may write its
    # outcome.
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    worker_ids = models.TextField(_("workers"), default="[]")
    failures = models.PositiveIntegerField(_("failed runs"), default=0)
    deaths = models.PositiveIntegerField(_("runs whose worker died"), default=0)
    # [{"exception_class_path": ..., "traceback": ...}], the oldest first.
    errors = models.TextField(_("errors"), default="[]")
    return_value = models.TextField(_("return value"), default="null")

    class Meta:
        """Its indexes serve the admin's list, and the deletion of what is old."""

        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("retry_taskrecord", "Can run tasks again"),
            ("cancel_taskrecord", "Can cancel tasks"),
            ("delete_taskrecord", "Can delete finished tasks"),
            ("view_payload", "Can view arguments and results of tasks"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "-enqueued_at", "-id"], name="rmq_task_status"),
            models.Index(fields=["-enqueued_at", "-id"], name="rmq_task_enqueued"),
            models.Index(fields=["task_path", "-enqueued_at", "-id"], name="rmq_task_path"),
            IndexWhere(
                fields=["finished_at"],
                name="rmq_task_finished",
                where=models.Q(finished_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_path} {self.id}"


class TaskWorker(models.Model):
    """A process that runs tasks, and updates its row every few seconds."""

    id = models.CharField(_("worker"), max_length=ID_MAX, primary_key=True)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("last seen at"))
    # The broker that it is connected to, such as "RabbitMQ 4.3.6": the priority levels depend on it.
    product = models.CharField(_("broker"), max_length=NAME_MAX, blank=True)

    class Meta:
        """One row for each process; old ones are deleted."""

        verbose_name = _("task worker")
        verbose_name_plural = _("task workers")
        default_permissions = ()

    def __str__(self) -> str:
        return self.id
