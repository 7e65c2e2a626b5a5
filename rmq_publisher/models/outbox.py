"""One table of messages that are committed and not yet confirmed; failures are a view of it."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from rmq_publisher.db.schema import ERROR_MAX, NAME_MAX
from rmq_publisher.indexes import IndexWhere


class OutboxMessage(models.Model):
    """A message that is committed and not yet confirmed, or the history of one that had failed.

    Every change of ``state`` is made by `rmq_publisher.outbox`, by means of ``token``: do not save
    objects of this model.

    One column, ``available_at``, is the end of a new row's grace, of a lease and of a backoff; it is
    null where nobody is to send the row any more. While ``token`` is not 0, the row belongs until then
    to the process that knows the token.
    """

    class State(models.TextChoices):
        """What is to become of a row."""

        PENDING = "pending", pgettext_lazy("state of a message", "pending")
        FAILED = "failed", pgettext_lazy("state of a message", "failed")
        DEAD = "dead", pgettext_lazy("state of a message", "dead")
        DELIVERED = "delivered", pgettext_lazy("state of a message", "delivered")
        DISCARDED = "discarded", pgettext_lazy("state of a message", "discarded")

    id = models.BigAutoField(primary_key=True)
    message_id = models.CharField(_("message id"), max_length=NAME_MAX)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PENDING)
    using = models.CharField(_("connection"), max_length=NAME_MAX)
    exchange = models.CharField(_("exchange"), max_length=NAME_MAX, blank=True)
    routing_key = models.CharField(_("routing key"), max_length=NAME_MAX, blank=True)
    ordering_key = models.CharField(_("ordering key"), max_length=NAME_MAX, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=NAME_MAX, blank=True)
    # AMQP's own bytes: JSON would lose dates, decimals and bytes.
    header = models.BinaryField(_("properties and headers"))
    body = models.BinaryField(_("body"))
    size = models.PositiveIntegerField(_("size in bytes"))
    topology = models.BinaryField(_("declarations"), default=b"")

    available_at = models.DateTimeField(_("available at"), null=True)
    # The time that was asked for, by countdown or eta; leases overwrite available_at.
    scheduled_at = models.DateTimeField(_("scheduled for"), null=True)
    token = models.BigIntegerField(_("token"), default=0)

    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    unanswered = models.PositiveIntegerField(_("attempts without an answer"), default=0)
    created_at = models.DateTimeField(_("created at"))
    failed_at = models.DateTimeField(_("first failed at"), null=True)
    last_failed_at = models.DateTimeField(_("last failed at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    first_error_type = models.CharField(_("first error"), max_length=50, blank=True)
    first_error_code = models.PositiveSmallIntegerField(_("first reply code"), null=True)
    first_error_text = models.CharField(_("first error's text"), max_length=ERROR_MAX, blank=True)
    last_error_type = models.CharField(_("last error"), max_length=50, blank=True)
    last_error_code = models.PositiveSmallIntegerField(_("last reply code"), null=True)
    last_error_text = models.CharField(_("last error's text"), max_length=ERROR_MAX, blank=True)
    # The latest failures, the oldest first: [{"at": ..., "type": ..., "code": ..., "text": ...}]
    history = models.JSONField(_("failed attempts"), default=list, blank=True)

    class Meta:
        """Its indexes serve the relay's claims and the admin's list."""

        verbose_name = _("message not yet delivered")
        verbose_name_plural = _("messages not yet delivered")
        indexes: ClassVar = [
            IndexWhere(
                fields=["ordering_key", "available_at", "id"],
                name="rmq_outbox_available",
                where=models.Q(available_at__isnull=False),
            ),
            IndexWhere(
                fields=["ordering_key", "id"],
                name="rmq_outbox_key",
                where=models.Q(state__in=["pending", "failed", "dead"])
                & ~models.Q(ordering_key=""),
            ),
            IndexWhere(
                fields=["state", "-last_failed_at", "-id"],
                name="rmq_outbox_state",
                where=models.Q(failed_at__isnull=False),
            ),
            IndexWhere(
                fields=["-last_failed_at", "-id"],
                name="rmq_outbox_failed",
                where=models.Q(failed_at__isnull=False),
            ),
            IndexWhere(
                fields=["message_id"],
                name="rmq_outbox_message",
                where=models.Q(failed_at__isnull=False),
            ),
            IndexWhere(
                fields=["message_id"],
                name="rmq_outbox_cancel",
                where=models.Q(state="pending", token=0),
            ),
        ]

    def __str__(self) -> str:
        # Of an id that turns lines around, or holds what cannot be seen, the escapes.
        name = self.message_id if self.message_id.isprintable() else ascii(self.message_id)
        return f"{name} ({self.state})"


class PublishFailureManager(models.Manager["PublishFailure"]):
    """Those that have failed at least once."""

    def get_queryset(self) -> models.QuerySet["PublishFailure"]:
        """Return them, without those that never failed."""
        return super().get_queryset().filter(failed_at__isnull=False)


class PublishFailure(OutboxMessage):
    """A message that has failed at least once, whatever has become of it since."""

    objects: ClassVar = PublishFailureManager()

    class Meta:
        """Nobody adds or changes one by hand."""

        proxy = True
        verbose_name = _("publish failure")
        verbose_name_plural = _("publish failures")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("retry_publishfailure", "Can send publish failures again"),
            ("discard_publishfailure", "Can discard publish failures"),
            ("export_publishfailure", "Can export publish failures"),
            ("view_payload", "Can view bodies and headers of messages"),
        ]


class PendingMessageManager(models.Manager["PendingMessage"]):
    """Those that have never failed and are still to be sent."""

    def get_queryset(self) -> models.QuerySet["PendingMessage"]:
        """Return them, with the conditions of the index that leads to them."""
        return super().get_queryset().filter(state="pending", available_at__isnull=False)


class PendingMessage(OutboxMessage):
    """A message that has never failed and is still to be sent: now, or at its scheduled time."""

    objects: ClassVar = PendingMessageManager()

    class Meta:
        """Nobody adds or changes one by hand."""

        proxy = True
        verbose_name = _("pending message")
        verbose_name_plural = _("pending and scheduled messages")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("send_pendingmessage", "Can send pending messages now"),
            ("cancel_pendingmessage", "Can cancel pending messages"),
        ]


class PublishCount(models.Model):
    """How many messages one process published, and failed to, in one minute.

    Each process has rows of its own, so that nobody waits for another one's lock.
    """

    id = models.BigAutoField(primary_key=True)
    minute = models.DateTimeField(_("minute"))
    using = models.CharField(_("connection"), max_length=NAME_MAX)
    published = models.PositiveIntegerField(_("published"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)

    class Meta:
        """Read by time."""

        verbose_name = _("publish count")
        verbose_name_plural = _("publish counts")
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["minute"], name="rmq_count_minute")]

    def __str__(self) -> str:
        return f"{self.minute}: {self.published} published, {self.failed} failed"


class RelaySeen(models.Model):
    """When a relay was last at work on this database."""

    name = models.CharField(_("relay"), max_length=NAME_MAX, primary_key=True)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("last seen at"))

    class Meta:
        """One row a relay; those that are long gone are pruned."""

        verbose_name = _("relay")
        verbose_name_plural = _("relays")
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
