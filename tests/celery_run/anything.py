"""Arguments and options of tasks at random, by a seed: whatever validation lets through."""

import random
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID


class Anything:
    """Values of every type that JSON and kombu's marks carry, nested."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self, most: int = 12) -> str:
        """Any characters but halves of surrogate pairs."""
        numbers = (self._random.choice([127, 0x7FF, 0xD7FF, 0x10FFFF]) for _ in range(most))
        signs = (chr(self._random.randint(0, number)) for number in numbers)
        return "".join(sign for sign in signs if not "\ud800" <= sign <= "\udfff")

    def value(self, depth: int = 3) -> Any:
        """A value; containers hold others."""
        pick = self._random
        moment = datetime(1, 1, 1) + timedelta(  # noqa: DTZ001
            microseconds=pick.randrange(9000 * 365 * 86400 * 10**6)
        )
        offset = timezone(timedelta(minutes=pick.randint(-900, 900)))
        plain: list[Callable[[], Any]] = [
            lambda: None, lambda: pick.random() < 0.5, lambda: pick.randint(-(2**80), 2**80),
            lambda: pick.uniform(-1e300, 1e300), lambda: float("inf"), self.text,
            lambda: moment, lambda: moment.replace(tzinfo=offset), lambda: date(moment.year, 2, 3),
            lambda: time(pick.randint(0, 23), 5), lambda: Decimal(pick.randint(-9, 10**30)) / 1000,
            lambda: UUID(int=pick.getrandbits(128)), lambda: pick.randbytes(pick.randint(0, 20)),
        ]  # fmt: skip
        nested: list[Callable[[], Any]] = [
            lambda: [self.value(depth - 1) for _ in range(pick.randint(0, 4))],
            lambda: {self.text(): self.value(depth - 1) for _ in range(pick.randint(0, 4))},
        ]
        return pick.choice(plain + nested * 3 if depth else plain)()

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Arguments and keyword arguments."""
        names = (f"k{number}" for number in range(self._random.randint(0, 3)))
        return [self.value() for _ in range(self._random.randint(0, 4))], {
            name: self.value() for name in names
        }

    def options(self) -> dict[str, Any]:
        """Options that change nothing of a task's result."""
        pick = self._random
        every = {
            "priority": pick.randint(0, 255), "shadow": self.text(), "headers": {"x": self.text()},
            "expires": pick.randint(600, 10**6), "time_limit": pick.randint(60, 10**4),
            "soft_time_limit": 60.5, "reply_to": pick.choice(["", "nowhere"]),
            "countdown": pick.choice([0, -5, 0.0]), "ignore_result": False,
        }  # fmt: skip
        return {name: every[name] for name in every if pick.random() < 0.5}
