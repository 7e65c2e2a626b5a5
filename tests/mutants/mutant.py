"""One deliberate breakage: a text of the code, and what is put in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "rmq_publisher"

# Test files that many breakages name together: subjects that take more than one file.
DISPATCHER = (
    "transport/rabbitmq/test_dispatcher.py",
    "transport/rabbitmq/test_dispatcher_failures.py",
    "transport/rabbitmq/test_dispatcher_states.py",
)
PUBLISH = (
    "publisher/test_publish.py",
    "publisher/test_publish_arguments.py",
    "publisher/test_publish_outcomes.py",
)
ON_COMMIT = (
    "publisher/test_on_commit.py",
    "publisher/test_on_commit_pipeline.py",
    "publisher/test_on_commit_trees.py",
)


class StaleMutantError(Exception):
    """A mutant that does not apply any more: the code that it breaks has changed."""


@dataclass(frozen=True)
class Mutant:
    """A breakage as data.

    Attributes:
        name: short, for `--only` and the table.
        promise: what it breaks, in one sentence.
        path: of the file, inside the package.
        old: text that occurs there exactly once.
        new: what takes its place.
        tests: what should notice, for pytest, inside `tests/`.
    """

    name: str
    promise: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def broken(self, root: Path) -> str:
        """The file's text with the breakage.

        Raises:
            StaleMutantError: the old text does not occur exactly once, or the new one is no Python.
        """
        text = (root / PACKAGE / self.path).read_text("utf-8")
        count = text.count(self.old)
        if count != 1:
            raise StaleMutantError(
                f"mutant {self.name!r}: its old text occurs {count} times in {PACKAGE}/{self.path}, "
                "not once. The code has changed: write the breakage anew for it (tests/mutants/)."
            )
        changed = text.replace(self.old, self.new)
        try:
            compile(changed, self.path, "exec")
        except SyntaxError as error:
            raise StaleMutantError(
                f"mutant {self.name!r}: {PACKAGE}/{self.path} is no Python with it: {error}"
            ) from error
        return changed

    def apply(self, root: Path) -> None:
        """Break the copy at `root`."""
        changed = self.broken(root)
        path = root / PACKAGE / self.path
        path.write_text(changed, "utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
