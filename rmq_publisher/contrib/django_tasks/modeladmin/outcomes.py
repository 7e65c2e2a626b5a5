"""What an action did to each task, in the words in which a person reads it."""

from dataclasses import dataclass

from django.utils import translation
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin.outcomes import Words


class TaskOutcome(Words):
    """What happened to one task."""

    QUEUED = ("queued", gettext_lazy("will run again"), gettext_lazy("To run again: %d."))
    CANCELLED = ("cancelled", gettext_lazy("cancelled"), gettext_lazy("Cancelled %d."))
    DELETED = ("deleted", gettext_lazy("deleted"), gettext_lazy("Deleted %d."))
    NOT_FAILED = (
        "not failed",
        gettext_lazy("it has not failed"),
        gettext_lazy("Skipped %d: they have not failed."),
    )
    NOT_READY = (
        "not ready",
        gettext_lazy("it is running or has finished"),
        gettext_lazy("Skipped %d: they are running or have finished."),
    )
    NOT_FINISHED = (
        "not finished",
        gettext_lazy("it has not finished"),
        gettext_lazy("Skipped %d: they have not finished."),
    )
    UNCONFIGURED = (
        "unconfigured",
        gettext_lazy("its backend is not configured on this server"),
        gettext_lazy("Skipped %d: backend not configured on this server."),
    )


DONE = (TaskOutcome.QUEUED, TaskOutcome.CANCELLED, TaskOutcome.DELETED)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task's outcome."""

    id: str
    outcome: TaskOutcome

    def line(self) -> str:
        """Return what the person reads about this task."""
        return str(self.outcome.line)

    def logged(self) -> str:
        """Return what the admin's log keeps, in English; empty if nothing was changed."""
        if self.outcome not in DONE:
            return ""
        with translation.override(None):  # the log is read by everybody
            return f"{self.outcome.line}.".capitalize()
