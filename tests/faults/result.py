"""What a scenario found: its faults, its figures, and which promises held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .ledger import Ledger, Reading


class Promise(NamedTuple):
    """Of what, the sentence, what was measured, and whether that keeps it."""

    what: str
    text: str
    measured: str
    held: bool


class Strike(NamedTuple):
    """A fault, and how many messages were in flight when it struck."""

    what: str
    in_flight: int


@dataclass
class Result:
    """One scenario's part of the report."""

    title: str
    head: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)

    def promise(self, what: str, text: str, held: bool, measured: object) -> None:
        """Note whether a promise held."""
        self.promises.append(Promise(what, text, str(measured), held))

    def struck(self, what: str, in_flight: int) -> None:
        """Note a fault."""
        self.strikes.append(Strike(what, in_flight))

    def must_hit(self, what: str, wanted: int = 1) -> None:
        """A fault that hit nothing counts as no fault."""
        hits = [strike.in_flight for strike in self.strikes if strike.what == what]
        count = sum(in_flight > 0 for in_flight in hits)
        self.promise(what, "hit something in flight", count >= wanted, f"{count} of {len(hits)}")

    def one_outcome_each(self, what: str, ledger: Ledger, came_back: bool) -> None:
        """Every call came back, with the one outcome that its one signal tells too."""
        silent = sum(not attempt.ended for attempt in ledger.attempts)
        wrong = ledger.contradictions()
        told = f"{len(ledger.attempts):,} calls, {silent} without an outcome, {wrong} contradicted"
        self.promise(what, "one outcome each", came_back and not silent and not wrong, told)

    def read_back(self, what: str, reading: Reading, most: int | None = None) -> None:
        """The queue agrees with what was told."""
        self.promise(
            what,
            "all that was confirmed is there",
            not reading.missing,
            f"{reading.missing} missing",
        )
        untrue = reading.lies + reading.strangers
        self.promise(
            what,
            "nothing else is there, each under its own id",
            not untrue,
            f"{reading.lies} reported as not sent, {reading.strangers} strangers",
        )
        if most is not None:
            self.promise(
                what,
                f"at most {most:,} duplicates",
                reading.duplicates <= most,
                reading.duplicates,
            )

    @property
    def kept(self) -> bool:
        """Whether all promises held."""
        return bool(self.promises) and all(promise.held for promise in self.promises)
