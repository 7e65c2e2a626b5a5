from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rmq_publisher", "0004_pending_message")]

    operations = [
        migrations.CreateModel(
            name="RetryQueue",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("using", models.CharField(max_length=255)),
                ("name", models.CharField(max_length=255)),
            ],
            options={"default_permissions": ()},
        ),
    ]
