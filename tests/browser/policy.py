"""The content security policy that the pages are tested under, on every Django."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

POLICY = "default-src 'self'"


class SelfOnly:
    """What Django's own middleware does with the same policy; Django 5.2 has none."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        self._answer = answer

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response
