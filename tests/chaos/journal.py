"""What a worker leaves behind when it is killed: a journal of lines, and a gauge of numbers.

Both are files that outlive the process: each line is one write, and the gauge is mapped memory.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

THREADS = 64
STOP, ORDER, CONNECTS, TOKEN = range(4)
_HEAD = 8
_SIZE = (_HEAD + 2 * THREADS) * 8

# Outcomes in a letter.
CONFIRMED = "+"
LETTERS = {
    "NoneType": CONFIRMED,
    "ConfirmTimeout": "T",
    "BrokerUnavailable": "U",
    "Nacked": "N",
    "Rejected": "R",
    "Unroutable": "X",
}
OTHER = "?"  # nothing that a call should end with


class Gauge:
    """Numbers that a worker and the harness share: what is under way, and what is to be done."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        if make:
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._cells = memoryview(self._map).cast("q")

    def close(self) -> None:
        """Give the memory back."""
        self._cells.release()
        self._map.close()

    # The harness

    def stop(self) -> None:
        """Have the worker finish what it is doing and end."""
        self._cells[STOP] = 1

    def order(self, number: int) -> None:
        """Have the worker do something out of the ordinary, once."""
        self._cells[ORDER] = number

    @property
    def ordered(self) -> bool:
        """Whether an order was not taken yet."""
        return self._cells[ORDER] != 0

    @property
    def connects(self) -> int:
        """Connections that the worker has made to the broker, and channels that it lost."""
        return self._cells[CONNECTS]

    @property
    def token(self) -> int:
        """That of the rows that the worker has written."""
        return self._cells[TOKEN]

    @property
    def under_way(self) -> int:
        """Messages whose calls have not returned."""
        return sum(self._cells[_HEAD : _HEAD + THREADS])

    @property
    def done(self) -> int:
        """What was done of the quota."""
        return sum(self._cells[_HEAD + THREADS : _HEAD + 2 * THREADS])

    # The worker

    @property
    def stopping(self) -> bool:
        """Whether it is time to end."""
        return bool(self._cells[STOP])

    def take_order(self) -> int:
        """Return the order, 0 for none, and forget it."""
        number = self._cells[ORDER]
        if number:
            self._cells[ORDER] = 0
        return number

    def own(self, token: int) -> None:
        """Tell by what token rows are this process's."""
        self._cells[TOKEN] = token

    def connected(self, times: int) -> None:
        """Tell how many connections were made; who has closed all of them has made none."""
        self._cells[CONNECTS] = max(times, self._cells[CONNECTS])

    def begin(self, thread: int, count: int) -> None:
        """So many messages are under way."""
        self._cells[_HEAD + thread] = count

    def end(self, thread: int, done: int) -> None:
        """None is, and so much of the quota is done."""
        self._cells[_HEAD + thread] = 0
        self._cells[_HEAD + THREADS + thread] += done


class Journal:
    """Lines that are written as they happen; several threads may write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        """Write a line, in one piece: a kill leaves whole lines only."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


@dataclass
class Story:
    """What one process said, from its start to its end.

    Attributes:
        attempted: ids, as far as they were written down; direct calls write a range.
        told: outcome of each id, for calls that returned.
        untold: ids of calls that never returned.
        notes: other lines.
    """

    name: str
    killed: bool = False
    attempted: set[str] = field(default_factory=set)
    told: dict[str, str] = field(default_factory=dict)
    untold: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def outcomes(self) -> Counter[str]:
        """How often each outcome occurred."""
        return Counter(self.told.values())


def lines(path: Path) -> Iterator[list[str]]:
    """The words of each line; none where there is no journal."""
    if path.exists():
        with path.open() as file:
            yield from (line.split() for line in file)


def read_direct(name: str, path: Path, *, killed: bool) -> Story:
    """The story of a process that publishes now: "B first count", then "E first outcomes"."""
    story = Story(name, killed)
    for word, *rest in lines(path):
        if word == "B":
            prefix, first, count = rest
            ids = {f"{prefix}{number}" for number in range(int(first), int(first) + int(count))}
            story.attempted |= ids
            story.untold |= ids
        elif word == "E":
            prefix, first, outcomes = rest
            for number, letter in enumerate(outcomes, int(first)):
                story.told[f"{prefix}{number}"] = letter
                story.untold.discard(f"{prefix}{number}")
        else:
            story.notes.append(" ".join([word, *rest]))
    return story


def read_stored(name: str, path: Path, *, killed: bool) -> Story:
    """The story of a process with transactions: "B id..." then "C id...", "R id..." or "D id...".

    C: committed, R: rolled back on purpose, D: the database said something else.
    """
    story = Story(name, killed)
    for word, *rest in lines(path):
        if word == "B":
            story.attempted.update(rest)
            story.untold.update(rest)
        elif word in ("C", "R", "D"):
            story.told.update(dict.fromkeys(rest, word))
            story.untold.difference_update(rest)
        else:
            story.notes.append(" ".join([word, *rest]))
    return story
