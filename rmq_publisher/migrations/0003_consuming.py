from django.db import migrations, models

import rmq_publisher.indexes


class Migration(migrations.Migration):
    dependencies = [
        ("rmq_publisher", "0002_scheduled_messages"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("digest", models.UUIDField(editable=False, unique=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting"),
                            ("sent_back", "sent back"),
                            ("discarded", "discarded"),
                        ],
                        default="waiting",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "message_id",
                    models.CharField(blank=True, max_length=255, verbose_name="message id"),
                ),
                (
                    "correlation_id",
                    models.CharField(blank=True, max_length=255, verbose_name="correlation id"),
                ),
                ("using", models.CharField(max_length=255, verbose_name="connection")),
                ("queue", models.CharField(blank=True, max_length=255, verbose_name="queue")),
                (
                    "dead_letter_queue",
                    models.CharField(blank=True, max_length=255, verbose_name="dead-letter queue"),
                ),
                (
                    "exchange",
                    models.CharField(blank=True, max_length=255, verbose_name="exchange"),
                ),
                (
                    "routing_key",
                    models.CharField(blank=True, max_length=255, verbose_name="routing key"),
                ),
                ("handler", models.CharField(blank=True, max_length=255, verbose_name="handler")),
                ("reason", models.CharField(blank=True, max_length=50, verbose_name="reason")),
                ("error", models.CharField(blank=True, max_length=200, verbose_name="error")),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                ("deaths", models.JSONField(blank=True, default=list, verbose_name="deaths")),
                ("header", models.BinaryField(verbose_name="properties and headers")),
                ("body", models.BinaryField(verbose_name="body")),
                ("size", models.PositiveIntegerField(verbose_name="size in bytes")),
                ("died_at", models.DateTimeField(verbose_name="died at")),
                ("stored_at", models.DateTimeField(verbose_name="stored at")),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished at")),
            ],
            options={
                "verbose_name": "dead letter",
                "verbose_name_plural": "dead letters",
                "permissions": [
                    ("send_back_deadletter", "Can send dead letters back"),
                    ("discard_deadletter", "Can discard dead letters"),
                    ("export_deadletter", "Can export dead letters"),
                ],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["state", "-id"], name="rmq_dead_state"),
                    models.Index(fields=["queue", "-id"], name="rmq_dead_queue"),
                    models.Index(fields=["message_id"], name="rmq_dead_message"),
                    rmq_publisher.indexes.IndexWhere(
                        fields=["finished_at"],
                        name="rmq_dead_finished",
                        where=models.Q(("finished_at__isnull", False)),
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="HandlerStart",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255, verbose_name="handler")),
                (
                    "message_id",
                    models.CharField(blank=True, max_length=255, verbose_name="message id"),
                ),
                ("starts", models.PositiveIntegerField(default=1, verbose_name="starts")),
                ("started_at", models.DateTimeField(verbose_name="last started at")),
            ],
            options={
                "verbose_name": "started handler",
                "verbose_name_plural": "started handlers",
                "default_permissions": (),
                "indexes": [models.Index(fields=["started_at"], name="rmq_start_started")],
            },
        ),
        migrations.CreateModel(
            name="InboxMessage",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255, verbose_name="handler")),
                ("message_id", models.CharField(max_length=255, verbose_name="message id")),
                ("digest", models.CharField(max_length=64, verbose_name="digest of the body")),
                ("handled_at", models.DateTimeField(verbose_name="handled at")),
            ],
            options={
                "verbose_name": "handled message",
                "verbose_name_plural": "handled messages",
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["handled_at"], name="rmq_inbox_handled")],
            },
        ),
    ]
