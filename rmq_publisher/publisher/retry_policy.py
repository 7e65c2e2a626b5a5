"""kombu's ``retry`` and ``retry_policy`` as a call gives them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.timing import NO_RETRY, RetryPolicy

_NAMES = tuple(field.name for field in fields(RetryPolicy))


def read_policy(retry: object, given: Mapping[str, Any] | None) -> RetryPolicy:
    """Return when a call is to be tried again.

    Args:
        retry: whether at all.
        given: ``max_retries``, ``interval_start``, ``interval_step``, ``interval_max``.

    Raises:
        InvalidMessage: what was given cannot be a policy.
    """
    if not isinstance(retry, bool):
        raise InvalidMessage(f"retry must be True or False, not {type(retry).__name__}")
    if given is not None and not isinstance(given, Mapping):
        raise InvalidMessage(f"retry_policy must be a mapping, not {type(given).__name__}")
    policy = dict(given or {})
    for name, value in policy.items():
        _check(name, value)
    return RetryPolicy(**policy) if retry else NO_RETRY


def _check(name: str, value: object) -> None:
    if name not in _NAMES:
        raise InvalidMessage(f"retry_policy knows no {name!r}; it takes {', '.join(_NAMES)}")
    if name == "max_retries" and value is None:
        return
    whole = name == "max_retries"
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):  # type: ignore[operator]
        what = "a whole number" if whole else "seconds"
        raise InvalidMessage(f"retry_policy[{name!r}] must be {what}, 0 or more")
