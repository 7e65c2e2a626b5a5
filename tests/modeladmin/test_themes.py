"""The mixin in a theme's ModelAdmin, and the page on another admin site."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest
from django.contrib import admin
from django.urls import path

from rmq_publisher.admin import PublishFailureAdminMixin
from rmq_publisher.models import PublishFailure
from tests import urls
from tests.support.admin_rows import failure, fresh_broker, operator, text, url

pytestmark = pytest.mark.django_db


class Themed(admin.ModelAdmin):
    """What a theme exports."""

    class Media:
        css: ClassVar = {"all": ["theme.css"]}
        js: ClassVar = ["theme.js"]


class Plain(PublishFailureAdminMixin, Themed):
    """As our how-to says."""


class WithItsOwn(PublishFailureAdminMixin, Themed):
    """A project adds something to look at."""

    class Media:
        css: ClassVar = {"all": ["own.css"]}
        js: ClassVar = ["own.js"]


class WithAProperty(PublishFailureAdminMixin, Themed):
    """The same by Django's other way."""

    @property
    def media(self):
        return super().media


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


@pytest.mark.parametrize("kind", [Plain, WithItsOwn, WithAProperty])
def test_the_pages_look_and_script_stay(kind):
    media = str(kind(PublishFailure, admin.site).media)
    for ours in ("rmq_publisher/admin.css", "rmq_publisher/admin.js"):
        assert media.count(ours) == 1
    assert "theme.css" in media
    assert "theme.js" in media
    assert "admin/js/core.js" in media
    assert ("own.css" in media and "own.js" in media) is (kind is WithItsOwn)


def test_each_page_has_the_look_and_the_script():
    row = failure()
    browser = operator()
    for address in (url("changelist"), url("change", row.pk), url("retry_all")):
        page = text(browser.get(address))
        assert '<script src="/static/rmq_publisher/admin.js"' in page
        assert 'href="/static/rmq_publisher/admin.css"' in page


# -- another site -------------------------------------------------------------------------------

other = admin.AdminSite(name="other")
other.register(PublishFailure, Plain)


class Urls:
    urlpatterns: ClassVar = [*urls.urlpatterns, path("elsewhere/", other.urls)]


@pytest.fixture
def elsewhere(settings):
    settings.ROOT_URLCONF = Urls
    return url("changelist").replace("/admin/", "/elsewhere/")


@pytest.mark.parametrize("what", ["", "{}/change/", "retry-all/"])
def test_a_page_leads_to_its_own_site(elsewhere, what):
    address = elsewhere + what.format(failure().pk)
    page = operator().get(address)
    assert page.status_code == 200
    addresses = re.findall(r'(?:href|action|data-url)="(/[^"]*)"', text(page))
    ours = [each for each in addresses if each != "/" and not each.startswith("/static/")]
    assert len(ours) > 5
    assert all(each.startswith("/elsewhere/") for each in ours), ours
