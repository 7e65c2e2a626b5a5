"""The database's clock, in the terms in which Django keeps times there."""

from datetime import timedelta

import pytest
from django.db import connections as databases
from django.utils import timezone

from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.outbox import transitions


@pytest.fixture(params=["UTC", "Asia/Kathmandu"])
def local_times(request, settings):
    """A project without time zones, somewhere."""
    settings.USE_TZ = False
    settings.TIME_ZONE = request.param


def test_now_is_now(store):
    assert abs(database_now(databases[store]) - timezone.now()) < timedelta(minutes=1)


def test_now_is_now_without_time_zones(store, local_times):
    if databases[store].vendor == "mysql":
        databases[store].close()  # the server's own zone is that of the machine
    assert abs(database_now(databases[store]) - timezone.now()) < timedelta(hours=14)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_on_sqlite_it_is_local_time_then(store, local_times):
    assert abs(database_now(databases[store]) - timezone.now()) < timedelta(minutes=1)


@pytest.mark.parametrize("seconds", [-3600.0, 0.5, 86400.0])
def test_seconds_are_added(store, seconds):
    found = transitions.messages(store).create(
        message_id="m", using="default", header=b"", body=b"", size=0,
        created_at=DatabaseNow(), available_at=DatabaseNow(seconds),
    )  # fmt: skip
    row = transitions.messages(store).get(pk=found.pk)
    difference = (row.available_at - row.created_at).total_seconds()
    assert difference == pytest.approx(seconds, abs=0.002)
