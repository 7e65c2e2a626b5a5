from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("rmq_publisher", "0003_consuming")]

    operations = [
        migrations.CreateModel(
            name="PendingMessage",
            fields=[],
            options={
                "verbose_name": "pending message",
                "verbose_name_plural": "pending and scheduled messages",
                "permissions": [
                    ("send_pendingmessage", "Can send pending messages now"),
                    ("cancel_pendingmessage", "Can cancel pending messages"),
                ],
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("rmq_publisher.outboxmessage",),
        ),
    ]
