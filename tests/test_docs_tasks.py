"""The tutorial of Django's tasks, run as it is printed."""

import dataclasses
import re

import django

from tests.support.pages import Block, blocks
from tests.test_docs_run import Project, as_pattern, project

__all__ = ["project"]

PAGE = "docs/tutorial-tasks.md"


def for_this_django(block: Block) -> Block:
    """What the page tells the readers with Django 5.2 to write."""
    if django.VERSION >= (6, 0):
        return block
    text = block.text.replace("from django.tasks", "from django_tasks")
    text = text.replace('["rmq_publisher",', '["django_tasks", "rmq_publisher",')
    return dataclasses.replace(block, text=text)


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
