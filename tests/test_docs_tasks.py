"""The tutorial of Django's tasks, run as it is printed."""

import re

import pytest

from tests.support.pages import blocks
from tests.test_docs_run import Project, as_pattern, for_this_django, project

__all__ = ["project"]

PAGE = "docs/tutorial-tasks.md"


@pytest.mark.thorough
def test_tutorial(project: Project, broker) -> None:
    files = blocks(PAGE, "python")
    for block in sorted((*files, *blocks(PAGE, "console")), key=lambda block: block.line):
        if block.file:
            project.write(for_this_django(block), {}, broker.url)
            continue
        output = ""
        for line in block.text.splitlines():
            if line.startswith("$ "):
                output = project.command(line.removeprefix("$ "))
                continue
            found = re.search(as_pattern(line), output)
            assert found, f"{PAGE}, line {block.line}: {line!r} is not in {output!r}"
            output = output[found.end() :]
