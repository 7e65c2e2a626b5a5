"""Django's settings of a run, from the environment."""

import os

SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "rmq_publisher"]
if os.environ["RUN_BACKEND"] == "django-db":
    INSTALLED_APPS.append("django_celery_results")
RMQ_URL = os.environ["RUN_BROKER"]
RMQ_OUTBOX_GRACE = float(os.environ.get("RUN_GRACE", "30"))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["RUN_DATABASE"],
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
