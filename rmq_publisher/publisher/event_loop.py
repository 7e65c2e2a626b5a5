"""Calls that block are refused in a running event loop."""

import asyncio

from django.core.exceptions import SynchronousOnlyOperation


def refuse_in_event_loop(name: str) -> None:
    """Raise where a blocking call would stop a running event loop.

    Raises:
        SynchronousOnlyOperation: this thread runs an event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SynchronousOnlyOperation(
        f"{name} would block the running event loop: use `await apublish(...)`, "
        "or call it in a thread (asgiref's sync_to_async)"
    )
