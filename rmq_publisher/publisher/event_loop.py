"""Calls that block are refused in a running event loop."""

import asyncio
import os

from django.core.exceptions import SynchronousOnlyOperation


def refuse_in_event_loop(name: str, instead: str = "await apublish(...)") -> None:
    """Raise where a blocking call would stop a running event loop.

    Args:
        name: of the call.
        instead: what to write there.

    Raises:
        SynchronousOnlyOperation: this thread runs an event loop, and DJANGO_ALLOW_ASYNC_UNSAFE, which
            notebooks and synchronous browser tests set for Django's own calls, is not set.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        return
    raise SynchronousOnlyOperation(
        f"{name} would block the running event loop: use `{instead}`, "
        "or call it in a thread (asgiref's sync_to_async)"
    )
