"""The breakages still apply, and the script tells what a run of tests said of one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from . import report
from .catalogue import MUTANTS
from .mutant import Mutant, StaleMutantError
from .trial import Outcome, TrialError, selections, try_mutant

ROOT = Path(__file__).resolve().parents[2]


def test_they_still_apply() -> None:
    stale = []
    for mutant in MUTANTS:
        try:
            mutant.broken(ROOT)
        except StaleMutantError as error:
            stale.append(f"{mutant.name}: {error}")
    assert stale == []


def test_names_are_given_once() -> None:
    assert [name for name, count in Counter(m.name for m in MUTANTS).items() if count > 1] == []


def test_the_page_is_of_all_of_them() -> None:
    page = (ROOT / "docs/explanation/mutants.md").read_text("utf-8")
    assert [m.name for m in MUTANTS if f"| {m.name} |" not in page] == [], "run make mutants"


def test_what_should_notice_is_there() -> None:
    gone = []
    for test in sorted({test for mutant in MUTANTS for test in mutant.tests}):
        file, _, function = test.partition("::")
        if f"def {function}" not in (ROOT / "tests" / file).read_text("utf-8"):
            gone.append(test)
    assert gone == []


def test_the_whole_file_where_one_wants_it_else_nodes() -> None:
    wanted = [("a.py::two", "b.py"), ("a.py::one",), ("b.py::one",)]
    mutants = [Mutant("n", "p", "f", "o", "n", tests) for tests in wanted]
    assert selections(mutants) == [["a.py::one", "a.py::two"], ["b.py"]]


CODE = "def least(numbers):\n    return min(numbers)\n"
TESTS = """
from rmq_publisher.code import least

def test_of_one():
    assert least([1]) == 1

def test_of_two():
    assert least([2, 1]) == 1
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is small enough to be broken in many ways."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")  # not this suite's
    base = tmp_path / "base"
    for name, text in {
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["disturbs: a node"]\n',
        "settings.py": "",
        "rmq_publisher/__init__.py": "",
        "rmq_publisher/pytest_plugin.py": "",  # the one that is installed is found by this name
        "rmq_publisher/code.py": CODE,
        "tests/test_code.py": TESTS,
    }.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    return base


def attempt(base: Path, old: str, new: str) -> Outcome:
    mutant = Mutant("name", "A promise.", "code.py", old, new, ("test_code.py",))
    outcome = try_mutant(base, base.parent / "copy", mutant)
    assert (base / "rmq_publisher/code.py").read_text() == CODE
    assert not (base.parent / "copy").exists()
    return outcome


def test_a_breakage_that_a_test_notices(base: Path) -> None:
    outcome = attempt(base, "min(", "max(")
    assert (outcome.passed, outcome.test, outcome.how) == (
        False,
        "test_code.py::test_of_two",
        "failed",
    )
    assert report.noticed_by(outcome) == "`test_code::test_of_two`"


def test_a_breakage_that_survives(base: Path) -> None:
    outcome = attempt(base, "min(numbers)", "sorted(numbers)[0]")
    assert outcome.passed
    assert report.noticed_by(outcome) == "**nobody**"


def test_a_hang_is_noticed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutants.trial.TEST_SECONDS", 1)
    outcome = attempt(base, "    return", "    while True: pass\n    return")
    assert report.noticed_by(outcome) == "`test_code::test_of_one` (hung)"


def test_code_that_cannot_be_imported_says_nothing_of_the_tests(base: Path) -> None:
    with pytest.raises(TrialError, match="names no test that failed"):
        attempt(base, "def least", "import nothing_of_that_name\ndef least")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("maximum", "minimum", "occurs 0 times"), ("numbers", "n", "occurs 2 times")],
)
def test_one_that_does_not_apply_is_an_error_that_says_so(
    base: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(StaleMutantError, match=rf"'name': its old text {words} in rmq_publisher/"):
        attempt(base, old, new)


def test_one_that_is_no_python_is_an_error(base: Path) -> None:
    with pytest.raises(StaleMutantError, match="is no Python with it"):
        attempt(base, "return", "retrun")


def test_the_table_tells_who_noticed(tmp_path: Path) -> None:
    seen = Outcome(False, "test_a.py::test_b[c]", "failed", 2.4, "")
    outcomes = {mutant.name: seen for mutant in MUTANTS}
    outcomes[MUTANTS[0].name] = Outcome(True, "", "", 1.0, "")
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{report.BEGIN}\n\nfirst\n{report.END}\n\nBehind.\n")
    report.write(page, report.table(outcomes, 300.0, 2))
    text = page.read_text()
    assert text.startswith(f"# Title\n\n{report.BEGIN}\n\n{len(MUTANTS)} breakages, 1 survived.")
    assert text.endswith(f"|\n\n{report.END}\n\nBehind.\n")
    assert f"| {MUTANTS[0].name} | {MUTANTS[0].promise} | **nobody** | 1 |" in text
    assert f"| {MUTANTS[1].name} | {MUTANTS[1].promise} | `test_a::test_b` | 2 |" in text


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    with pytest.raises(SystemExit, match="lacks the two marks"):
        report.write(page, "table")
    assert page.read_text() == "# Title\n"
