"""Decorators of the admin's views: no surrounding transaction, and a page for a missing database."""

from functools import wraps
from typing import Any

from django.db import InterfaceError, OperationalError, ProgrammingError, transaction
from django.db import connections as databases
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.text import capfirst

from rmq_publisher.modeladmin.base import TEMPLATES, PageBase

# What Django raises where a table is missing or the database cannot be reached.
UNAVAILABLE = (OperationalError, ProgrammingError, InterfaceError)


def outside_transactions(view: Any) -> Any:
    """Exempt a view from ATOMIC_REQUESTS, on every database.

    A rollback must not undo the record of a message that has been sent. And after a database error
    inside a transaction the cause could no longer be looked up.
    """
    for database in databases:
        view = transaction.non_atomic_requests(using=database)(view)
    return view


def or_unavailable(view: Any) -> Any:
    """Have a view explain what to do where a table is missing or the database is unavailable."""

    @wraps(view)
    def answered(
        self: PageBase, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        try:
            response: HttpResponseBase = view(self, request, *args, **kwargs)
        except UNAVAILABLE:
            missing = _missing_table(self)
            if missing is None:
                raise
            response = _unavailable(self, request, missing=missing)
        return response

    return answered


def _missing_table(page: PageBase) -> bool | None:
    """Return True if a table is missing, False if the database is unavailable, else None."""
    connection = databases[page.get_database()]
    try:
        tables = connection.introspection.table_names()
    except (OperationalError, InterfaceError):
        return False
    names = {model._meta.db_table for model in page.opts.app_config.get_models()}
    return None if names <= set(tables) else True


def _unavailable(page: PageBase, request: HttpRequest, *, missing: bool) -> TemplateResponse:
    database = page.get_database()
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "media": page.media,
        "title": capfirst(page.opts.verbose_name_plural),
        "broken": True,
        "missing": missing,
        "database": database,
        "command": f"python manage.py migrate {page.opts.app_label} --database {database}",
    }
    return TemplateResponse(request, f"{TEMPLATES}/broken.html", context, status=503)
