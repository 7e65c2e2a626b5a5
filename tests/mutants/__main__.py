"""Break the code on purpose, one breakage at a time, and report which of them no test notices."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.support.rig.ladder import find_broker

from . import report
from .catalogue import MUTANTS
from .mutant import Mutant, StaleMutantError
from .trial import (
    Outcome,
    TrialError,
    check_place,
    copy_checkout,
    run_tests,
    selections,
    try_mutant,
)

ROOT = Path(__file__).resolve().parents[2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--list", action="store_true", help="tell the breakages, and run nothing")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="one breakage; may be given several times"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at a time (2)")
    parser.add_argument("--no-page", action="store_true", help=f"do not write {report.PAGE}")
    return parser.parse_args()


def _chosen(names: Sequence[str] | None) -> tuple[Mutant, ...]:
    if names is None:
        return MUTANTS
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        raise SystemExit(f"no breakage is called {' or '.join(map(repr, sorted(unknown)))}")
    return tuple(mutant for mutant in MUTANTS if mutant.name in names)


class Run:
    """All trials of one run, in a directory of its own."""

    def __init__(self, directory: Path, broker: str, jobs: int) -> None:
        self._directory = directory
        self._base = directory / "unbroken"
        self._broker = broker
        self._jobs = jobs

    def unbroken(self, mutants: Sequence[Mutant]) -> None:
        """See the selected tests pass on an unbroken copy; else no failure would mean anything."""
        copy_checkout(ROOT, self._base)
        check_place(self._base)
        for mutant in mutants:
            mutant.broken(self._base)
        with ThreadPoolExecutor(self._jobs) as pool:
            for outcome in pool.map(self._run_unbroken, selections(mutants)):
                if not outcome.passed:
                    raise TrialError(
                        f"the unbroken code: {outcome.test} {outcome.how}\n{outcome.output}"
                    )

    def _run_unbroken(self, tests: Sequence[str]) -> Outcome:
        return run_tests(self._base, tests, broker=self._broker)

    def broken(self, mutants: Sequence[Mutant]) -> dict[str, Outcome]:
        """Try each; tell it as soon as it is known."""
        outcomes: dict[str, Outcome] = {}
        with ThreadPoolExecutor(self._jobs) as pool:
            trials: dict[Future[Outcome], Mutant] = {
                pool.submit(self._try, number, mutant): mutant
                for number, mutant in enumerate(mutants)
            }
            try:
                for trial in as_completed(trials):
                    name = trials[trial].name
                    outcomes[name] = outcome = trial.result()
                    print(
                        f"{outcome.seconds:4.0f} s  {name}: {report.noticed_by(outcome)}",
                        flush=True,
                    )
            finally:
                pool.shutdown(cancel_futures=True)  # where one of them cannot be tried
        return outcomes

    def _try(self, number: int, mutant: Mutant) -> Outcome:
        place = self._directory / f"mutant{number}"
        try:
            return try_mutant(self._base, place, mutant, broker=self._broker)
        except TrialError as error:
            raise TrialError(f"mutant {mutant.name!r}: {error}") from error


def main() -> None:
    """Run what was asked for."""
    arguments = _arguments()
    mutants = _chosen(arguments.only)
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name}\n    {mutant.path}: {mutant.promise}")
        return
    began = time.monotonic()
    broker = find_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="rmq-mutants-") as directory:
            Path(directory).chmod(0o711)  # database servers may run as another user
            run = Run(Path(directory), broker.url, arguments.jobs)
            print(f"{len(mutants)} breakages; first the unbroken code, on {broker}", flush=True)
            run.unbroken(mutants)
            print(f"{time.monotonic() - began:4.0f} s  all its tests pass", flush=True)
            outcomes = run.broken(mutants)
    except (StaleMutantError, TrialError) as error:
        raise SystemExit(str(error)) from error
    finally:
        broker.stop()
    seconds = time.monotonic() - began
    if arguments.only is None and not arguments.no_page:
        report.write(ROOT / report.PAGE, report.table(outcomes, seconds, arguments.jobs))
    survivors = [mutant for mutant in mutants if outcomes[mutant.name].passed]
    print(f"\n{len(mutants)} breakages in {seconds:.0f} s; survived: {len(survivors) or 'none'}")
    for mutant in survivors:
        print(f"  {mutant.name}: {mutant.promise}\n    ({mutant.path}; {' '.join(mutant.tests)})")
    if survivors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
