"""Validators of settings: each returns the value or raises `SettingError`.

An error never repeats a string value, because it may contain a password; it does show numbers.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rmq_publisher.amqp.validation import TopologyError, check_name

UNKNOWN = "rmq_publisher.E001"
WRONG_VALUE = "rmq_publisher.E002"


class SettingError(ValueError):
    """A setting has an invalid value.

    Attributes:
        text: what is wrong; continues a sentence that begins with the setting's name.
        hint: the fix.
        id: id of the system check that reports it.
    """

    def __init__(self, text: str, hint: str, id: str = WRONG_VALUE) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint
        self.id = id


def shown(value: object) -> str:
    """Return a description of a value: a number itself, of anything else only the type."""
    if isinstance(value, int | float):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return "Did you mean ...?", or all names if none is similar."""
    known = list(known)
    close = difflib.get_close_matches(str(name).upper(), known, 1)
    return f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}."


def _unlike(value: object, wanted: str, convert: str) -> SettingError:
    hint = f"Set {wanted}"
    if isinstance(value, str):
        hint += f"; what comes from the environment is a str: convert it with {convert}()"
    return SettingError(f"must be {wanted}, not {shown(value)}", f"{hint}.")


def integer(least: int, most: int) -> Callable[[object], int]:
    """Return a validator for an int from ``least`` to ``most``; a bool does not count."""

    def rule(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _unlike(value, f"an int from {least} to {most}", "int")
        return value

    return rule


def seconds(*, zero: bool = False) -> Callable[[object], float]:
    """Return a validator for a finite number of seconds greater than zero, or with ``zero`` from zero."""
    wanted = "zero or more seconds" if zero else "seconds above zero"

    def rule(value: object) -> float:
        # From 2**31 on, the timeouts of locks and sockets overflow.
        fits = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 <= value < 2**31  # false for NaN too
        )
        if not fits or (value == 0 and not zero):
            raise _unlike(value, f"{wanted} (an int or a float)", "float")
        return float(value)  # type: ignore[arg-type]

    return rule


def choice(*names: str) -> Callable[[object], str]:
    """Return a validator for a str that is one of ``names``."""
    wanted = ", ".join(f'"{name}"' for name in names)

    def rule(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise SettingError(f"must be one of {wanted}", f"Set it to one of {wanted}.")
        return value

    return rule


def boolean(value: object) -> bool:
    """Validate True or False."""
    if not isinstance(value, bool):
        hint = "Set True or False; compare what comes from the environment, which is a str."
        raise SettingError(f"must be True or False, not {shown(value)}", hint)
    return value


def name(value: object) -> str:
    """Validate a name that is sent as an AMQP short string of 1 to 255 bytes."""
    try:
        return check_name("it", value)
    except TopologyError as error:
        raise SettingError(
            f"is not a valid name: {error}", "Set a str of 1 to 255 bytes."
        ) from None


def username(value: object) -> str:
    """Validate a login name."""
    text = secret(value)
    if not text:
        raise SettingError("must not be empty", "Leave it out to take the user of the URL.")
    return text


def secret(value: object) -> str:
    """Validate a login name or password, which SASL's PLAIN mechanism must be able to send."""
    if not isinstance(value, str):
        raise SettingError(f"must be a str, not {type(value).__name__}", "Set a str.")
    try:
        value.encode()
    except UnicodeEncodeError:
        # `from None`: the cause would contain the whole value.
        raise SettingError(
            "contains a surrogate, which UTF-8 cannot encode", "Set valid text."
        ) from None
    if "\0" in value:
        raise SettingError(
            "contains NUL, which would end a field of the login", "Leave the NUL out."
        )
    return value


def items(value: object) -> tuple[Any, ...]:
    """Validate a list, but not its items."""
    if not isinstance(value, list | tuple):
        raise SettingError(f"must be a list, not {shown(value)}", "Set a list.")
    return tuple(value)


def paths(*known: str, secrets: Sequence[str] = ()) -> Callable[[object], Mapping[str, str]]:
    """Return a validator for a dict that maps some of the ``known`` keys to strings or paths.

    Args:
        known: the keys.
        secrets: the keys whose values are secrets, not paths; an empty one counts as not set.
    """

    def rule(value: object) -> Mapping[str, str]:
        if not isinstance(value, Mapping):
            raise SettingError(
                f"must be a dict, not {shown(value)}", f"Set a dict of {', '.join(known)}."
            )
        taken = {}
        for key, item in value.items():
            if key not in known:
                hint = suggestion(key, known)
                raise SettingError(f"has an unknown key {str(key)!r}", hint, UNKNOWN)
            if item is None or (key in secrets and item == ""):
                continue
            if key in secrets:
                taken[key] = _secret_of(key, item)
                continue
            if not isinstance(item, str | os.PathLike) or not os.fspath(item):
                raise SettingError(
                    f"has a {key} that is not a path", f"Set {key} to a str or a Path."
                )
            taken[key] = str(os.fspath(item))
        return taken

    return rule


def _secret_of(key: str, value: object) -> str:
    try:
        return secret(value)
    except SettingError as bad:
        raise SettingError(f"has a {key} that {bad.text}", bad.hint) from None


def mapping(value: object) -> Mapping[Any, Any]:
    """Validate a dict, but not its items."""
    if not isinstance(value, Mapping):
        raise SettingError(f"must be a dict, not {shown(value)}", "Set a dict.")
    return value
