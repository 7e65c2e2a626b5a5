"""Rounds in which peers take turns, and the ratios of their rounds."""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .broker import Queue
from .peers import PEERS, PeerInfo
from .runners import Native, PeerError, Runner, Worker, compile_native

Measured = dict[str, Any]


@dataclass
class Entry:
    """One row: a peer and what it is told to do in each round.

    Attributes:
        peer: its name in `PEERS`.
        task: a method of the peer with its arguments.
        way: what the label says besides the peer's own note.
        options: how the peer is made.
        rounds: what was measured.
        error: why nothing was.
    """

    peer: str
    task: Measured
    way: str = ""
    options: Measured = field(default_factory=dict)
    rounds: list[Measured] = field(default_factory=list)
    error: str = ""

    @property
    def info(self) -> PeerInfo:
        return PEERS[self.peer]

    @property
    def ours(self) -> bool:
        return self.peer == "ours"

    @property
    def window(self) -> int | None:
        """How many it may have on their way, where it was told."""
        return self.task.get("window") or self.options.get("window")

    @property
    def label(self) -> str:
        notes = ", ".join(note for note in (self.way, self.info.note) if note)
        return f"{self.info.title} ({notes})" if notes else self.info.title

    def median(self, what: str) -> float:
        return statistics.median(measured[what] for measured in self.rounds)

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share of all rounds' messages was done."""
        chained = itertools.chain.from_iterable(m["latencies"] for m in self.rounds)
        ordered = sorted(chained)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000

    @property
    def cpu_per_message(self) -> float:
        """Microseconds of the client's processor time, all threads together."""
        return statistics.median(m["cpu"] / m["messages"] * 1e6 for m in self.rounds)


def rate(measured: Measured) -> float:
    """Messages a second."""
    return float(measured["messages"] / measured["seconds"])


@dataclass
class Contest:
    """Entries that take turns on one queue.

    Attributes:
        key: what ``--only`` calls it.
        title: of its table.
        entries: the first is ours, to which the others are compared.
        rounds: how many.
    """

    key: str
    title: str
    entries: list[Entry]
    rounds: int

    @property
    def first(self) -> Entry:
        return self.entries[0]

    def scored(self, entry: Entry) -> float:
        return statistics.median(map(rate, entry.rounds))

    def ratios(self, other: Entry, ours: Entry | None = None) -> list[float]:
        """Ours over another's, round by round, in ascending order; empty where one is missing."""
        pairs = zip((ours or self.first).rounds, other.rounds, strict=False)
        return sorted(rate(mine) / rate(theirs) for mine, theirs in pairs)

    def ours(self, window: int | None) -> Entry | None:
        """Our entry with that window; the first one without."""
        wanted = (entry for entry in self.entries if entry.ours and entry.window == window)
        return next(wanted, None)

    def fastest(self, names: Iterable[str] = (), window: int | None = None) -> Entry | None:
        """The fastest of some by name; without names, the fastest confirmed peer.

        Of those with a window only those with this one, where it is given.
        """
        names = set(names)
        measured = [
            entry
            for entry in self.entries
            if (window is None or entry.window in (None, window))
            and entry.rounds
            and (entry.peer in names if names else entry.info.confirmed_peer)
        ]
        return max(measured, key=self.scored, default=None)

    @property
    def failed(self) -> bool:
        """Whether ours could not be measured, or a message of it is missing."""
        return any(entry.ours and entry.error for entry in self.entries)


class Stage:
    """Where contests take place: a queue, and a directory for the program in C."""

    def __init__(self, queue: Queue, directory: Path, library: str | None = None) -> None:
        self.queue = queue
        self._directory = directory
        self._library = library
        self._program: Path | PeerError | None = None

    def hold(self, contest: Contest) -> Contest:
        """Run all rounds of a contest."""
        runners = self._open(contest.entries)
        try:
            say(f"{contest.title}: {contest.rounds} rounds")
            for number in range(contest.rounds + 1):
                # Each time another one begins, so that none always comes after the same one.
                order = list(runners)
                start = number % len(order) if order else 0
                for index in order[start:] + order[:start]:
                    self._round(contest.entries[index], runners[index], counted=number > 0)
        finally:
            for runner in runners.values():
                runner.close()
        return contest

    def profile(self, entry: Entry, rounds: int) -> list[Measured]:
        """Where the time of an entry's messages goes, round by round."""
        runner = self.open(entry)
        assert isinstance(runner, Worker)
        try:
            runner.ready()
            return [self._profiled(entry, runner) for _ in range(rounds + 1)][1:]
        finally:
            runner.close()

    def _profiled(self, entry: Entry, runner: Worker) -> Measured:
        self.queue.purge(runner.queue)
        return runner.run(do="profile", task=dict(entry.task))

    def _round(self, entry: Entry, runner: Runner, *, counted: bool) -> None:
        if entry.error:
            return
        self.queue.purge(runner.queue)
        task = dict(entry.task)
        if not counted and "messages" in task:
            task["messages"] = max(1, task["messages"] // 10)
        try:
            measured = runner.run(**task)
        except PeerError as error:
            entry.error = str(error)
            return
        arrived = self.queue.count(runner.queue)
        if arrived != measured["messages"]:
            entry.error = f"{measured['messages']} confirmed, {arrived} arrived"
        elif entry.ours:
            self.queue.look()
        if counted and not entry.error:
            entry.rounds.append(measured)

    def _open(self, entries: list[Entry]) -> dict[int, Runner]:
        """Start all peers that are installed; they import what they need side by side."""
        runners: dict[int, Runner] = {}
        for index, entry in enumerate(entries):
            if entry.info.missing:
                entry.error = f"not installed: {', '.join(entry.info.missing)}"
                continue
            try:
                runners[index] = self.open(entry)
            except PeerError as error:
                entry.error = str(error)
        for index, runner in list(runners.items()):
            try:
                if isinstance(runner, Worker):
                    runner.ready()
            except PeerError as error:
                entries[index].error = str(error)
                runners.pop(index).close()
        return runners

    def open(self, entry: Entry) -> Runner:
        """Start a peer."""
        if entry.peer != "native":
            library = self._library if entry.peer == "beside" else None
            return Worker(entry.peer, self.queue, entry.options, library)
        if self._program is None:
            try:
                self._program = compile_native(self._directory)
            except PeerError as error:
                self._program = error
        if isinstance(self._program, PeerError):
            raise self._program
        return Native(self.queue, self._program)


def say(text: str) -> None:
    """Tell a person who waits what goes on."""
    print(text, file=sys.stderr, flush=True)
