"""Every type that an argument of a task may have."""

import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

VALUES = [
    None,
    True,
    -7,
    2**70,
    2.5,
    "text, ü, \U0001f407, \x00",
    [1, [2, {"a": None}]],
    {"a": {"b": [True, 1.5]}},
    datetime(2026, 11, 30, 1, 2, 3, 4, tzinfo=UTC),
    datetime(2026, 11, 30, 1, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2026, 11, 30, 1, 2, 3),  # noqa: DTZ001
    date(2026, 11, 30),
    time(1, 2, 3),
    Decimal("1.10"),
    uuid.UUID(int=7),
    b"plain",
    b"\xff\x00",
]
