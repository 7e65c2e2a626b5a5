"""Calls that block in a running event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from rmq_publisher import publish


@pytest.mark.django_db
@pytest.mark.parametrize("unsafe", ["", "true"])
def test_what_django_allows_by_its_variable_is_allowed_here(
    rmq_published: Any, monkeypatch: pytest.MonkeyPatch, unsafe: str
) -> None:
    """Notebooks and synchronous browser tests run inside a loop and set it for the ORM."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", unsafe)

    async def cell() -> str:
        return publish("b", queue="q", delivery="now")

    if not unsafe:
        with pytest.raises(SynchronousOnlyOperation, match="apublish"):
            asyncio.run(cell())
        return
    assert asyncio.run(cell()) == rmq_published[0].message_id
