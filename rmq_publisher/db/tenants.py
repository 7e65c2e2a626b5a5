"""Projects that give each tenant a schema of its own in PostgreSQL: where our tables may be.

django-tenants and django-pgschemas set a connection's search path to the tenant's schema and the public
one. A relay has no tenant and sees the public schema only, so the tables must be there and nowhere else:
every tenant's transaction finds them there. The routers of these packages answer for the schema of the
moment, and so do not say whether it does.
"""

from collections.abc import Iterable

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

_PACKAGES = {"django_tenants", "tenant_schemas", "django_pgschemas"}
_APP = ("rmq_publisher", "rmq_publisher.apps.RmqPublisherConfig")


def has_schemas(connection: BaseDatabaseWrapper) -> bool:
    """Whether a database has a schema for each tenant."""
    return any(cls.__module__.partition(".")[0] in _PACKAGES for cls in type(connection).__mro__)


def in_tenant_schemas(connection: BaseDatabaseWrapper) -> bool:
    """Whether our tables are in each tenant's schema."""
    return has_schemas(connection) and any(map(_has_app, _lists()[1].values()))


def unfit() -> str:
    """Say why a database with tenants' schemas cannot keep stored messages; empty where it can."""
    shared, others = _lists()
    for name, apps in others.items():
        if _has_app(apps):
            return (
                f"rmq_publisher is in {name}, and each tenant's schema has a table that no relay looks "
                f"into: have it in {' and '.join(shared)} only"
            )
    if not any(map(_has_app, shared.values())):
        return f'add "rmq_publisher" to {" and ".join(shared)}, whose tables all tenants share'
    return ""


def _lists() -> tuple[dict[str, Iterable[str]], dict[str, Iterable[str]]]:
    """Return the apps of the public schema, and of the others, by the settings' names."""
    # django-pgschemas, and django-tenants with several types of tenants
    for name in ("TENANTS", "TENANT_TYPES"):
        if kinds := getattr(settings, name, None):
            public = getattr(settings, "PUBLIC_SCHEMA_NAME", "public")
            lists = {
                f"{name}[{kind!r}]['APPS']": entry.get("APPS", ()) for kind, entry in kinds.items()
            }
            shared = f"{name}[{public!r}]['APPS']"
            return {shared: lists.pop(shared, ())}, lists
    shared_apps, tenant_apps = (
        getattr(settings, name, ()) for name in ("SHARED_APPS", "TENANT_APPS")
    )
    return {"SHARED_APPS": shared_apps}, {"TENANT_APPS": tenant_apps}


def _has_app(apps: Iterable[str]) -> bool:
    return any(app in _APP for app in apps)
