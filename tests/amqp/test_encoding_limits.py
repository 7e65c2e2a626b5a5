"""Headers that are too large are refused as soon as that is known."""

from collections.abc import Iterator, Mapping

import pytest

from rmq_publisher.amqp.encoding import TABLE_MAX, FieldError, table


class Counting(Mapping[str, str]):
    """A megabyte of headers; counts how many of them are looked at."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 1000

    def __iter__(self) -> Iterator[str]:
        return (f"k{number}" for number in range(len(self)))

    def __getitem__(self, key: str) -> str:
        self.read += 1
        return "x" * 1000


def test_no_more_is_read_than_it_takes_to_know() -> None:
    headers = Counting()
    with pytest.raises(FieldError, match=f"more than {TABLE_MAX} bytes"):
        table("headers", headers)
    assert headers.read <= TABLE_MAX // 1000 + 1
