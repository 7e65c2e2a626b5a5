"""A copy of the checkout, and pytest in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .mutant import PACKAGE, Mutant

TEST_SECONDS = 40  # of one test; the slowest of the unbroken ones takes a few
RUN_SECONDS = 300  # of a whole selection
_FOUND = re.compile(r"^(?:FAILED|ERROR) (\S+)(.*)$", re.MULTILINE)
# The rig's own: each run has databases of its own, and the broker that it is told.
_NOT_HANDED_DOWN = ("_RMQ_TEST_DATABASES", "_RMQ_TEST_SHARED_BROKER", "PYTEST_ADDOPTS")


class TrialError(Exception):
    """Nothing can be said of a mutant: the tests did not run as they should."""


@dataclass(frozen=True)
class Outcome:
    """What a run of tests said.

    Attributes:
        passed: whether all did.
        test: the first that did not; empty where the run itself hung.
        how: ``failed`` or ``hung``.
        seconds: of the run.
        output: pytest's.
    """

    passed: bool
    test: str
    how: str
    seconds: float
    output: str


def copy_checkout(source: Path, target: Path) -> None:
    """Copy the files that git knows, and those that it would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file():  # else it was deleted and git was not told yet
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def run_tests(root: Path, tests: Sequence[str], *, broker: str = "") -> Outcome:
    """Run tests of a copy until the first that fails.

    Args:
        root: of the copy.
        tests: files and nodes inside `tests/`.
        broker: URL of the one that all runs share.

    Raises:
        TrialError: pytest could not collect or run them.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=short"),
            *("-p", "no:cacheprovider", "-m", "not disturbs", f"--timeout={TEST_SECONDS}"),
            *("--hypothesis-seed=0", *(f"tests/{test}" for test in tests)),
        ],
        cwd=root,
        env=_environment(root, broker),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        _end(process)
        return Outcome(False, "", "hung", time.monotonic() - began, "")
    except BaseException:
        _end(process)
        raise
    return _outcome(process.returncode, output, time.monotonic() - began)


def _end(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _environment(root: Path, broker: str) -> dict[str, str]:
    told = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_DOWN}
    told["PYTHONPATH"] = str(root)  # before any other copy of the package that is installed
    told["TMPDIR"] = str(root / ".tmp")  # what a run that is killed leaves goes with the copy
    Path(told["TMPDIR"]).mkdir(exist_ok=True)
    if broker:
        told |= {"RMQ_TEST_URL": broker, "RMQ_TEST_RUNG": "url"}
    return told


def _outcome(code: int, output: str, seconds: float) -> Outcome:
    if code == 0:
        return Outcome(True, "", "", seconds, output)
    found = _FOUND.search(output)
    if code != 1 or found is None or "::" not in found[1]:
        raise TrialError(f"pytest ended with {code} and names no test that failed:\n{output}")
    how = "hung" if "Timeout" in found[2] else "failed"
    return Outcome(False, found[1].removeprefix("tests/"), how, seconds, output)


def check_place(root: Path) -> None:
    """Make sure that the copy's tests import the copy's package.

    Raises:
        TrialError: they import another one.
    """
    found = subprocess.run(
        [sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"],
        cwd=root, env=_environment(root, ""), check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    if not Path(found).resolve().is_relative_to(root.resolve()):
        raise TrialError(f"the tests of {root} would import {found}")


def selections(mutants: Iterable[Mutant]) -> list[list[str]]:
    """What all of them select, by file: the file, or nodes of it where nobody wants it whole."""
    by_file: dict[str, set[str]] = {}
    for mutant in mutants:
        for test in mutant.tests:
            by_file.setdefault(test.partition("::")[0], set()).add(test)
    return [[file] if file in tests else sorted(tests) for file, tests in by_file.items()]


def try_mutant(base: Path, place: Path, mutant: Mutant, *, broker: str = "") -> Outcome:
    """Run a mutant's tests against it, in a copy of the copy at `base`.

    Raises:
        StaleMutantError: it does not apply.
        TrialError: nothing can be said of it.
    """
    shutil.copytree(base, place)
    try:
        mutant.apply(place)
        return run_tests(place, mutant.tests, broker=broker)
    finally:
        shutil.rmtree(place, ignore_errors=True)
