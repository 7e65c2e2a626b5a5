"""The page that asks before something is done that cannot be undone."""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest
from django.template.response import TemplateResponse

from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.base import TEMPLATES, TOLD_MAX, PageBase

REPEATED = ("action", "index")  # form fields that say which action it is

Form = Sequence[tuple[str, str]]


def repeated(request: HttpRequest) -> Form:
    """Return the form fields by which an action is called again once the user has confirmed it."""
    return [(key, each) for key in REPEATED for each in request.POST.getlist(key)]


def question(
    page: PageBase,
    request: HttpRequest,
    rows: Sequence[Any],
    *,
    template: str,
    title: str,
    skipped: int,
    back: str,
    form: Form = (),
) -> TemplateResponse:
    """Return the page that names the rows and asks.

    Args:
        page: the admin.
        request: the user's.
        rows: what it would be done to; the first of them are named.
        template: extends `confirm.html`; its path below `base.TEMPLATES`.
        title: of the page.
        skipped: how many more rows were chosen, and are left alone.
        back: where to go without doing it.
        form: names and values of the form fields that confirm it.
    """
    # The confirmation names these rows, so that it is done to none that matched only later.
    ids = ",".join(str(row.pk) for row in rows)
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "media": page.media,
        "title": title,
        "count": len(rows),
        "skipped": skipped,
        "names": [formatting.name(page.name_of(row)) for row in rows[:TOLD_MAX]],
        "more": len(rows) > TOLD_MAX,
        "form": [*form, (ACTION_CHECKBOX_NAME, ids)] if form else (),
        "back": back,
    }
    request.current_app = page.admin_site.name
    return TemplateResponse(request, f"{TEMPLATES}/{template}", context)
