"""What consumers remember: messages handled once, handlers that started, and dead letters."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from rmq_publisher.db.schema import ERROR_MAX, NAME_MAX
from rmq_publisher.indexes import IndexWhere


class InboxMessage(models.Model):
    """A message that a handler with ``once=True`` has handled, committed together with its work."""

    id = models.UUIDField(primary_key=True, editable=False)  # key_of(name, message_id)
    name = models.CharField(_("handler"), max_length=NAME_MAX)
    message_id = models.CharField(_("message id"), max_length=NAME_MAX)
    # SHA-256 of the body, in hexadecimal.
    digest = models.CharField(_("digest of the body"), max_length=64)
    handled_at = models.DateTimeField(_("handled at"))

    class Meta:
        """Deleted by age."""

        verbose_name = _("handled message")
        verbose_name_plural = _("handled messages")
        default_permissions = ("view",)
        indexes: ClassVar = [models.Index(fields=["handled_at"], name="rmq_inbox_handled")]

    def __str__(self) -> str:
        return _printable(self.message_id)


class HandlerStart(models.Model):
    """How often a handler started on a redelivered message and has not ended.

    Written before the handler starts and deleted at its end: what is left was running when its process
    died.
    """

    id = models.UUIDField(primary_key=True, editable=False)  # key_of(name, id or digest)
    name = models.CharField(_("handler"), max_length=NAME_MAX)
    message_id = models.CharField(_("message id"), max_length=NAME_MAX, blank=True)
    starts = models.PositiveIntegerField(_("starts"), default=1)
    started_at = models.DateTimeField(_("last started at"))

    class Meta:
        """Deleted by age where nobody came back for the message."""

        verbose_name = _("started handler")
        verbose_name_plural = _("started handlers")
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["started_at"], name="rmq_start_started")]

    def __str__(self) -> str:
        return _printable(self.message_id)


class RetryQueue(models.Model):
    """A retry queue that was declared: one that no handler needs any more may still hold messages."""

    id = models.UUIDField(primary_key=True, editable=False)  # key_of(using, name)
    using = models.CharField(max_length=NAME_MAX)
    name = models.CharField(max_length=NAME_MAX)

    class Meta:
        """Few rows; those whose queue is gone are deleted by rmq_declare."""

        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class DeadLetter(models.Model):
    """A message that was taken from a dead-letter queue, or whose attempts ended in a worker."""

    class State(models.TextChoices):
        """What was decided about it."""

        WAITING = "waiting", pgettext_lazy("state of a dead letter", "waiting")
        SENT_BACK = "sent_back", pgettext_lazy("state of a dead letter", "sent back")
        DISCARDED = "discarded", pgettext_lazy("state of a dead letter", "discarded")

    id = models.BigAutoField(primary_key=True)
    # key_of() of the message and its last death: a message that is delivered again is stored once.
    digest = models.UUIDField(unique=True, editable=False)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.WAITING)
    message_id = models.CharField(_("message id"), max_length=NAME_MAX, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=NAME_MAX, blank=True)
    using = models.CharField(_("connection"), max_length=NAME_MAX)
    # Where it died, and where it is sent back to; empty if unknown.
    queue = models.CharField(_("queue"), max_length=NAME_MAX, blank=True)
    # Empty if a worker stored it at the end of its attempts.
    dead_letter_queue = models.CharField(_("dead-letter queue"), max_length=NAME_MAX, blank=True)
    # Where it had been published to when it died.
    exchange = models.CharField(_("exchange"), max_length=NAME_MAX, blank=True)
    routing_key = models.CharField(_("routing key"), max_length=NAME_MAX, blank=True)
    handler = models.CharField(_("handler"), max_length=NAME_MAX, blank=True)
    # The broker's (rejected, expired, maxlen, delivery_limit) or a worker's (failed, crashed, rejected).
    reason = models.CharField(_("reason"), max_length=50, blank=True)
    error = models.CharField(_("error"), max_length=ERROR_MAX, blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    # The last death first: [{"queue", "reason", "exchange", "routing_keys", "count", "time"}]
    deaths = models.JSONField(_("deaths"), default=list, blank=True)
    # AMQP's own bytes: JSON would lose dates, decimals and bytes.
    header = models.BinaryField(_("properties and headers"))
    body = models.BinaryField(_("body"))
    size = models.PositiveIntegerField(_("size in bytes"))
    died_at = models.DateTimeField(_("died at"))
    stored_at = models.DateTimeField(_("stored at"))
    finished_at = models.DateTimeField(_("finished at"), null=True)

    class Meta:
        """Nobody adds or changes one by hand; its indexes serve the admin's list and pruning."""

        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("send_back_deadletter", "Can send dead letters back"),
            ("discard_deadletter", "Can discard dead letters"),
            ("export_deadletter", "Can export dead letters"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["state", "-id"], name="rmq_dead_state"),
            models.Index(fields=["queue", "-id"], name="rmq_dead_queue"),
            models.Index(fields=["message_id"], name="rmq_dead_message"),
            IndexWhere(
                fields=["finished_at"],
                name="rmq_dead_finished",
                where=models.Q(finished_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{_printable(self.message_id)} ({self.state})"


def _printable(text: str) -> str:
    """Return a text, or its escapes if it holds what reverses a line or cannot be seen."""
    return text if text.isprintable() else ascii(text)
