"""Rules that the value of a setting keeps: each returns the value or raises `SettingError`.

A text never repeats a string that was given, since it may hold a password; numbers are shown.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rmq_publisher.amqp.validation import TopologyError, check_name

UNKNOWN = "rmq_publisher.E001"
WRONG_VALUE = "rmq_publisher.E002"


class SettingError(ValueError):
    """A value that a setting cannot have.

    Attributes:
        text: what is wrong; it continues a sentence that begins with the setting's name.
        hint: the mend.
        id: of the system check that reports it.
    """

    def __init__(self, text: str, hint: str, id: str = WRONG_VALUE) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint
        self.id = id


def shown(value: object) -> str:
    """Return a number itself, and of anything else its type only."""
    if isinstance(value, int | float):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return "Did you mean ...?", or all the names where none is close."""
    known = list(known)
    close = difflib.get_close_matches(str(name).upper(), known, 1)
    return f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}."


def _unlike(value: object, wanted: str, convert: str) -> SettingError:
    hint = f"Set {wanted}"
    if isinstance(value, str):
        hint += f"; what comes from the environment is a str: convert it with {convert}()"
    return SettingError(f"must be {wanted}, not {shown(value)}", f"{hint}.")


def integer(least: int, most: int) -> Callable[[object], int]:
    """Make the rule of an int from ``least`` to ``most``; a bool is none."""

    def rule(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _unlike(value, f"an int from {least} to {most}", "int")
        return value

    return rule


def seconds(*, zero: bool = False) -> Callable[[object], float]:
    """Make the rule of a finite number of seconds above zero, or from zero."""
    wanted = "zero or more seconds" if zero else "seconds above zero"

    def rule(value: object) -> float:
        # Above 2**31 a lock's or socket's timeout overflows instead of waiting.
        fits = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 <= value < 2**31  # nor NaN, which is in no range
        )
        if not fits or (value == 0 and not zero):
            raise _unlike(value, f"{wanted} (an int or a float)", "float")
        return float(value)  # type: ignore[arg-type]

    return rule


def choice(*names: str) -> Callable[[object], str]:
    """Make the rule of a str that is one of ``names``."""
    wanted = ", ".join(f'"{name}"' for name in names)

    def rule(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise SettingError(f"must be one of {wanted}", f"Set it to one of {wanted}.")
        return value

    return rule


def name(value: object) -> str:
    """Rule of a name that travels as an AMQP short string: 1 to 255 bytes."""
    try:
        return check_name("it", value)
    except TopologyError as error:
        raise SettingError(f"is no name: {error}", "Set a str of 1 to 255 bytes.") from None


def username(value: object) -> str:
    """Rule of a login name."""
    text = secret(value)
    if not text:
        raise SettingError("must not be empty", "Leave it out to take the user of the URL.")
    return text


def secret(value: object) -> str:
    """Rule of a login name or password: what SASL's PLAIN can carry."""
    if not isinstance(value, str):
        raise SettingError(f"must be a str, not {type(value).__name__}", "Set a str.")
    try:
        value.encode()
    except UnicodeEncodeError:
        # `from None`: the cause would carry the whole value.
        raise SettingError(
            "holds a surrogate that UTF-8 cannot encode", "Set valid text."
        ) from None
    if "\0" in value:
        raise SettingError("holds a NUL, which ends a field of the login", "Leave the NUL out.")
    return value


def items(value: object) -> tuple[Any, ...]:
    """Rule of a list, whose items others judge."""
    if not isinstance(value, list | tuple):
        raise SettingError(f"must be a list, not {shown(value)}", "Set a list.")
    return tuple(value)


def paths(*known: str) -> Callable[[object], Mapping[str, str]]:
    """Make the rule of a dict from some of the ``known`` keys to strings or paths."""

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
            if item is None:
                continue
            if not isinstance(item, str | os.PathLike) or not os.fspath(item):
                raise SettingError(
                    f"has a {key} that is no path", f"Set {key} to a str or a Path."
                )
            taken[key] = str(os.fspath(item))
        return taken

    return rule


def mapping(value: object) -> Mapping[Any, Any]:
    """Rule of a dict, whose items others judge."""
    if not isinstance(value, Mapping):
        raise SettingError(f"must be a dict, not {shown(value)}", "Set a dict.")
    return value
