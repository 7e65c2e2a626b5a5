"""Django for the suite: SQLite, two databases, the library, the example's shop."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import django

_DIRECTORY_VARIABLE = "_RMQ_TEST_DATABASES"


def _directory() -> Path:
    """A place of this run's own; processes that the tests start find the same one."""
    if told := os.environ.get(_DIRECTORY_VARIABLE):
        return Path(told)
    made = tempfile.mkdtemp(prefix="rmq-publisher-db-")
    os.environ[_DIRECTORY_VARIABLE] = made
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked child's exit must not take the parent's files
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)
    return Path(made)


def _sqlite(alias: str) -> dict[str, object]:
    # Files, not memory: threads and other processes must see what a test has committed.
    # Each process of a parallel run has its own; what a test starts has that of its test.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    path = str(_directory() / f"{alias}{worker}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            # Else a transaction that turns from reading to writing may be refused at once.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
        },
        "TEST": {"NAME": path},
    }


SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": _sqlite("default"), "other": _sqlite("other")}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rmq_publisher",
    "rmq_publisher.contrib.django_tasks",
    "example_project.shop",
]

if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")  # Django has its tasks from 6.0 on

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
# The real hashers take a fifth of a second each, by design.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Nobody answers there: a test that wants a broker asks the rig's fixtures for one.
RMQ_URL = "amqp://guest:guest@127.0.0.1:9/"
