"""Compares what was committed, what calls reported and what arrived. No I/O; it has its own tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .journal import CONFIRMED, OTHER, Story
from .stores import order_of

_SHOWN = 5  # ids that are named as evidence


@dataclass(frozen=True)
class Broken:
    """A promise that did not hold.

    Attributes:
        kind: "missing", "ghost", "stranger", "duplicate", "untold", "outcome", "order", "skipped",
            "thief", "backwards", "left".
        evidence: ids, journal lines or changes of the table.
    """

    kind: str
    count: int
    evidence: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, evidence: Iterable[object]) -> list[Broken]:
        """One, or none where there is no evidence."""
        found = [str(one) for one in evidence]
        return [cls(kind, len(found), tuple(found[:_SHOWN]))] if found else []

    def __str__(self) -> str:
        return f"{self.count:,} {self.kind}: {'; '.join(self.evidence)}"


class Arrived(NamedTuple):
    """What was in the queues: ids in order, and those whose body holds another id."""

    ids: list[str]
    strangers: list[str]

    @property
    def duplicates(self) -> int:
        """Messages beyond the first of each id."""
        return len(self.ids) - len(set(self.ids))


def gone(stories: Sequence[Story], arrived: Arrived) -> set[str]:
    """Return the ids of messages that were confirmed and are in no queue."""
    outcomes = [(one, letter) for story in stories for one, letter in story.told.items()]
    return {one for one, letter in outcomes if letter == CONFIRMED} - set(arrived.ids)


def told(
    stories: Sequence[Story],
    arrived: Arrived,
    *,
    most_duplicates: int,
    lost: Collection[str] = (),
) -> list[Broken]:
    """Compare the outcomes of calls with the messages that arrived.

    Args:
        stories: of all processes.
        arrived: all that was in the queues.
        most_duplicates: how many are allowed.
        lost: ids of messages whose queue was deleted with them.
    """
    there = set(arrived.ids)
    outcomes: dict[str, str] = {}
    attempted: set[str] = set()
    for story in stories:
        outcomes |= story.told
        attempted |= story.attempted
    denied = {one for one, letter in outcomes.items() if letter in "UR"} & there
    return [
        *Broken.of("missing", sorted(gone(stories, arrived) - set(lost))),
        *Broken.of("ghost", sorted(denied)),
        *Broken.of("stranger", [*arrived.strangers, *sorted(there - attempted)]),
        *Broken.of(
            "untold",
            (
                f"{one} ({story.name})"
                for story in stories
                if not story.killed
                for one in story.untold
            ),
        ),
        *Broken.of("outcome", (one for one, letter in outcomes.items() if letter == OTHER)),
        *too_many(arrived, most_duplicates),
    ]


def too_many(arrived: Arrived, most: int) -> list[Broken]:
    """Report duplicates, where there are more than allowed."""
    if arrived.duplicates <= most:
        return []
    counts = Counter(arrived.ids)
    return Broken.of(
        "duplicate", (f"{one} {count} times" for one, count in counts.items() if count > 1)
    )


def stored(
    committed: Collection[str],
    arrived: Arrived,
    *,
    most_duplicates: int,
    left: Sequence[Any] = (),
) -> list[Broken]:
    """Compare what was committed with what arrived: the same, no more and no less.

    Args:
        committed: by the database's own word.
        arrived: all that was in the queues.
        most_duplicates: how many are allowed.
        left: rows that are not finished though nothing keeps them from it.
    """
    truth, there = set(committed), set(arrived.ids)
    return [
        *Broken.of("missing", sorted(truth - there)),
        *Broken.of("ghost", sorted(there - truth - set(arrived.strangers))),
        *Broken.of("stranger", arrived.strangers),
        *Broken.of("left", left),
        *too_many(arrived, most_duplicates),
    ]


def kept_word(stories: Sequence[Story], committed: Collection[str]) -> list[Broken]:
    """Whether the database kept what it confirmed; otherwise nothing else can be judged."""
    first = {
        one
        for story in stories
        for one, letter in story.told.items()
        if letter == "C" and one.endswith(".0")
    }
    return Broken.of("forgotten by the database", sorted(first - set(committed)))


def order(committed: Collection[str], arrived: Arrived) -> list[Broken]:
    """Look at the first arrivals of each key: all there, in the order of their transactions."""
    wrong: list[str] = []
    skipped: list[str] = []
    wanted = {key: sorted(numbers) for key, numbers in order_of(list(committed)).items()}
    found = order_of([one for one in arrived.ids if ":" in one])
    for key, numbers in wanted.items():
        there = found.get(key, [])
        skipped += [one for _, one in numbers if (_, one) not in set(there)]
        highest = 0
        for seq, one in there:
            if seq < highest:
                wrong.append(f"{one} after number {highest}")
            highest = max(highest, seq)
    return [*Broken.of("skipped", skipped), *Broken.of("order", wrong)]


# -- changes of the table --------------------------------------------------------------------------

_FINISHED = ("dead", "delivered", "discarded")


def audit(changes: Iterable[Sequence[Any]]) -> list[Broken]:
    """Look for changes by somebody who does not hold the row, and for states that go backwards.

    Args:
        changes: as `stores.Postgres.audit` returns them: row, message, I(nsert), U(pdate) or
            D(elete), who, old and new state, old and new token, whether the row's time was not over,
            whether it had failed before.
    """
    thieves: list[str] = []
    backwards: list[str] = []
    owners: dict[int, str] = {}
    for row, message_id, op, who, old, new, old_token, new_token, live, had_failed in changes:
        change = f"{message_id} (row {row}): {who}: {op} {old} -> {new}"
        if new_token:
            owners.setdefault(new_token, who)
        claimed = bool(new_token) and new_token != old_token
        if op != "I" and old_token and not claimed and owners.get(old_token) != who:
            thieves.append(f"{change}, held by {owners.get(old_token)}")
        elif op != "I" and claimed and live:
            # Of one that nobody held, the time is that of its backoff.
            holder = owners.get(old_token, "nobody")
            thieves.append(f"{change}, taken before its time from {holder}")
        elif op == "D" and not old_token:
            thieves.append(f"{change}, held by nobody")
        if old in _FINISHED or (old == "failed" and new == "pending"):
            backwards.append(change)
        elif op == "D" and had_failed:
            backwards.append(f"{change}, whose history is gone")
        elif op == "I" and new not in ("pending", "failed", "dead"):
            backwards.append(change)
    return [*Broken.of("thief", thieves), *Broken.of("backwards", backwards)]


def figures(broken: Sequence[Broken]) -> Mapping[str, int]:
    """How many of each kind."""
    return {one.kind: one.count for one in broken}
