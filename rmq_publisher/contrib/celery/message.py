"""A task as a message of Celery's protocol 2, which workers of Celery 4 and later run.

https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

import os
import reprlib
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.utils import timezone

from rmq_publisher.contrib.celery.encoding import dumps
from rmq_publisher.exceptions import InvalidMessage

_REPR_MAX = 1024  # characters, as Celery's argsrepr_maxsize
_DELAY_LEVELS = 28  # of Celery's native delayed delivery: 2^28 - 1 seconds at most
DELAY_EXCHANGE = f"celery_delayed_{_DELAY_LEVELS - 1}"

_repr = reprlib.Repr()
_repr.maxlevel = 3
_repr.maxdict = _repr.maxlist = _repr.maxtuple = _repr.maxset = 20
_repr.maxstring = _repr.maxother = _repr.maxlong = 128


def check_arguments(args: object, kwargs: object) -> None:
    """Raise an error if these cannot be the arguments of a task.

    Raises:
        TypeError: ``args`` is no list or tuple, or ``kwargs`` no mapping of str keys.
    """
    if not isinstance(args, list | tuple):
        raise TypeError(f"args must be a list or tuple of arguments, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise TypeError("kwargs must be a dict whose keys are str")


def task_body(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    link: Sequence[Mapping[str, Any]] = (),
    link_error: Sequence[Mapping[str, Any]] = (),
    chain: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the body: arguments, and the signatures that the worker sends afterwards.

    Args:
        args, kwargs: what the task is called with.
        link, link_error: signatures to be called with the result, or after a failure.
        chain: the remaining signatures of a chain, the next one last.

    Raises:
        InvalidMessage: an argument cannot be carried.
    """
    __traceback_hide__ = True
    embed = {
        "callbacks": list(link) or None,
        "errbacks": list(link_error) or None,
        "chain": list(chain) or None,
        "chord": None,
    }
    return dumps({"args": list(args), "kwargs": dict(kwargs), "embed": embed})


def task_headers(
    name: str,
    task_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    eta: datetime | None = None,
    expires: datetime | None = None,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    ignore_result: bool = False,
    shadow: str | None = None,
    group: str | None = None,
    group_index: int | None = None,
) -> dict[str, Any]:
    """Return the headers; a message without ``task`` and ``id`` would crash the worker."""
    __traceback_hide__ = True
    return {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": shadow,
        "eta": eta.isoformat() if eta else None,
        "expires": expires.isoformat() if expires else None,
        "group": group,
        "group_index": group_index,
        "retries": 0,
        "timelimit": [time_limit, soft_time_limit],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": _short(tuple(args)),
        "kwargsrepr": _short(dict(kwargs)),
        "origin": f"gen{os.getpid()}@{_host()}",
        "ignore_result": ignore_result,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def _short(value: object) -> str:
    # A header cannot contain text that UTF-8 cannot encode.
    return _repr.repr(value)[:_REPR_MAX].encode(errors="backslashreplace").decode()


@cache
def _host() -> str:
    return socket.gethostname()


def moment(name: str, value: object) -> datetime | None:
    """Return a point in time: an aware datetime, or seconds or a timedelta from now.

    Raises:
        InvalidMessage: it is neither, or a naive datetime under USE_TZ.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        if timezone.is_naive(value):
            raise InvalidMessage(f"{name} must be an aware datetime: it has no time zone")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise InvalidMessage(
            f"{name} must be seconds, a timedelta or an aware datetime, not {type(value).__name__}"
        )
    try:
        delay = value if isinstance(value, timedelta) else timedelta(seconds=value)
        return timezone.now() + delay
    except (OverflowError, ValueError) as error:
        raise InvalidMessage(f"{name} is out of range") from error


def delayed_routing_key(seconds: float, routing_key: str) -> str:
    """Return the routing key by which Celery's native delayed delivery holds a message.

    One bit of the whole seconds for each level, the largest first, then the final routing key.

    Raises:
        InvalidMessage: it is longer than the levels can hold (2^28 - 1 seconds, eight years).
    """
    whole = int(seconds)
    if whole >= 1 << _DELAY_LEVELS:
        raise InvalidMessage('schedule="broker" cannot delay a task by more than 2^28 - 1 seconds')
    return ".".join([*f"{whole:0{_DELAY_LEVELS}b}", routing_key])
