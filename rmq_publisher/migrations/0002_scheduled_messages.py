from django.db import migrations, models

from rmq_publisher.indexes import IndexWhere


class Migration(migrations.Migration):
    dependencies = [("rmq_publisher", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="outboxmessage",
            name="scheduled_at",
            field=models.DateTimeField(null=True, verbose_name="scheduled for"),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=IndexWhere(
                fields=["message_id"],
                name="rmq_outbox_cancel",
                where=models.Q(state="pending", token=0),
            ),
        ),
    ]
