"""Projects whose tenants have schemas: the settings say where the tables are, the routers do not."""

import pytest

from rmq_publisher import checks
from rmq_publisher.db import support, tenants

APP = "rmq_publisher.apps.RmqPublisherConfig"


class InNoSchema:
    """What the routers of these packages say inside a tenant's request of a shared app."""

    def allow_migrate(self, db, app_label, **hints):
        return False


@pytest.fixture(autouse=True)
def _schemas(settings, monkeypatch):
    settings.DATABASE_ROUTERS = [InNoSchema()]
    settings.RMQ_URL = "memory://"
    monkeypatch.setattr(tenants, "has_schemas", lambda connection: connection.alias == "default")


def ids():
    return [
        message.id
        for message in checks.check_databases()
        if message.msg.startswith("DATABASES['default']")
    ]


@pytest.mark.parametrize(
    "lists",
    [
        {"SHARED_APPS": ["rmq_publisher"], "TENANT_APPS": ["shop"]},
        {"SHARED_APPS": (APP,)},
        {"TENANTS": {"public": {"APPS": ["rmq_publisher"]}, "default": {"APPS": ["shop"]}}},
        {"TENANT_TYPES": {"public": {"APPS": [APP]}, "shop": {"APPS": []}}},
    ],
    ids=str,
)
def test_a_shared_app_works_whatever_the_router_says_of_a_tenant(settings, lists):
    for name, value in lists.items():
        setattr(settings, name, value)
    assert support.unfit("default") == ""
    assert ids() == []


def test_an_app_in_the_tenants_schemas_is_refused_with_the_reason(settings):
    settings.SHARED_APPS = settings.TENANT_APPS = ["rmq_publisher"]
    reason = support.unfit("default")
    assert reason.startswith("rmq_publisher is in TENANT_APPS")
    assert reason.endswith("have it in SHARED_APPS only")
    assert ids() == ["rmq_publisher.E013"]


def test_an_app_in_neither_list_is_to_be_shared(settings):
    settings.SHARED_APPS = settings.TENANT_APPS = ["shop"]
    assert support.unfit("default").startswith('add "rmq_publisher" to SHARED_APPS')
