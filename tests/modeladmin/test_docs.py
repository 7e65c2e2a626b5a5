"""docs/how-to/admin.md does what it says; the page's numbers are the code's."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.template.loader import get_template

from rmq_publisher.modeladmin import bounded_list, operations, tiles
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox import manual_retry
from tests.support.admin_rows import failure, text
from tests.support.pages import ROOT, blocks, rows

PAGE = "docs/how-to/admin.md"


@pytest.fixture
def _registry_as_before():
    before = admin.site._registry[PublishFailure]
    yield
    admin.site._registry[PublishFailure] = before


@pytest.mark.django_db
@pytest.mark.usefixtures("_registry_as_before")
def test_redaction(rf):
    [block] = [block for block in blocks(PAGE, "python") if block.runs]
    exec(block.code(), {"__name__": "shop.admin"})
    row = failure(
        body=b'{"card": "4111", "id": 1}',
        properties={"headers": {"authorization": "bearer", "other": "shown"}},
    )
    request = rf.get("/")
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    page = admin.site._registry[PublishFailure]
    assert page.body_view(request, str(row.pk)).content == b'{"card": "***", "id": 1}'
    shown = text(page.change_view(request, str(row.pk)).render())
    assert "shown" in shown
    assert "bearer" not in shown


def test_the_numbers_are_those_of_the_code():
    said = (ROOT / PAGE).read_text("utf-8")
    assert f"at most {operations.SENT_MAX} messages and {manual_retry.SECONDS:g} s" in said
    assert f"at most {operations.DUE_MAX:,} at a time" in said
    assert (bounded_list.LISTED_MAX, tiles.COUNTED_MAX) == (5000, 3000)
    assert "The first five thousand rows" in said
    assert "at most three thousand" in said


def test_the_permissions_are_those_of_the_model():
    said = {cell.strip("`") for row in rows(ROOT / PAGE) for cell in row[2:3]} - {"Permission"}
    known = {name for name, _ in PublishFailure._meta.permissions}
    assert said == known - {"view_payload"}


def test_every_reason_to_stand_still_is_told():
    template = get_template("admin/rmq_publisher/list.html")
    notes = re.findall(r"Paused (.*?)\.", template.template.source)
    assert len(notes) == 5
    told = " ".join(reason for reason, *_ in rows(ROOT / PAGE))
    for note in notes:
        expected = note if note.startswith("while") else "when you press *Pause refreshing*"
        assert expected in told
