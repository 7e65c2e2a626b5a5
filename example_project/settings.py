"""Settings of the example, from the environment or a `.env` file next to manage.py.

Nothing needs to be set: it then runs on SQLite, in debug mode, with the memory broker.
"""

import os
from pathlib import Path
from typing import Any

import environ  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")


def _secret_key() -> str:
    key: str = env.str("SECRET_KEY", default="")
    if not key and not DEBUG:
        raise ImproperlyConfigured("Set SECRET_KEY: with DEBUG off there is no default.")
    return key or "insecure-and-known-to-everybody-for-development-on-this-machine-only"


def _database() -> dict[str, Any]:
    config: dict[str, Any] = env.db_url(
        "DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'shop.sqlite3'}"
    )
    if config["ENGINE"] == "django.db.backends.sqlite3":
        # IMMEDIATE: else a transaction that turns from reading to writing may be refused at once.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    return config


def _rmq_url() -> str:
    # Out of debug mode there is no default: `manage.py check --deploy` says that the broker is missing.
    url: str = env.str("RMQ_URL", default="")
    return url or ("memory://" if DEBUG else "")


DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# django-environ takes a value that begins with "$" as the name of another variable. A password may
# well begin so: RMQ_PASSWORD is read without it, unchanged.
RMQ_URL = _rmq_url()
if "RMQ_USERNAME" in os.environ:
    RMQ_USERNAME = os.environ["RMQ_USERNAME"]
if "RMQ_PASSWORD" in os.environ:
    RMQ_PASSWORD = os.environ["RMQ_PASSWORD"]
RMQ_APP_ID = env.str("RMQ_APP_ID", default="shop")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rmq_publisher",
    "example_project.shop",
]

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

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True
STATIC_URL = "static/"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"rmq_publisher": {"handlers": ["console"], "level": "INFO"}},
}
