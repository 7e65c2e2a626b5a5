"""Which tests of a parallel run go to the same worker, and in which order.

Files go to the workers whole, as their fixtures may be costly. Some go together, for they share a
cluster, a browser or a stage. What takes longest begins first, or it would be alone at the end.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files that share what is costly, by how their paths begin; those that take longest come first.
GROUPS = {
    "faults and cluster": ("tests/faults/", "tests/integration/test_cluster.py"),
    "liars": ("tests/chaos/test_liars.py",),
    "chaos": ("tests/chaos/",),
    "browser": ("tests/browser/",),
}
# Each alone and early, because it takes long.
LONG = (
    "tests/support/test_databases.py",
    "tests/support/test_rig.py",
    "tests/bench/",
    "tests/integration/",
    "tests/test_docs",
    "tests/test_example.py",
    "tests/testing/",
    "tests/modeladmin/test_hostile.py",
    "tests/outbox/",
)


def scope(nodeid: str) -> str:
    """The name of the group that is given to one worker."""
    path = nodeid.split("::", 1)[0]
    for name, beginnings in GROUPS.items():
        if path.startswith(beginnings):
            return name
    return path


def rank(nodeid: str) -> int:
    """The sort key: smaller groups run sooner."""
    names = [*GROUPS, *LONG]
    found = scope(nodeid)
    return next((n for n, name in enumerate(names) if found.startswith(name)), len(names))


class Scheduler(LoadScopeScheduling):
    """Hands out the groups in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores, because many tests wait; not many more, as each has its own node."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # it would put the groups with the most tests first
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))
