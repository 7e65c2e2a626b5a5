"""Imports go down only: a module knows its own floor and those below, and nobody goes in circles."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import rmq_publisher

ROOT = Path(rmq_publisher.__file__).parent
TABLE = Path(__file__).parent.parent / "docs" / "explanation" / "rooms.md"
# "| 4 | `a`, `b` | the job |": the rooms and their floor
FLOOR = {
    room: int(row["floor"])
    for row in re.finditer(
        r"^\| (?P<floor>\d+) \| (?P<rooms>`.*?`) \| .+ \|$", TABLE.read_text("utf-8"), re.MULTILINE
    )
    for room in re.findall(r"`(.+?)`", row["rooms"])
}
LAZY = {"pytest_plugin"}  # every run of pytest here loads it; few of them use Django
CONNECTIONS = {"pika.connection", "pika.BlockingConnection", "pika.SelectConnection"}

TREES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in ROOT.rglob("*.py")
}
INITS = {name: tree for name, tree in TREES.items() if name.split(".")[-1] == "__init__"}
ROOMS = {
    name: tree
    for name, tree in TREES.items()
    if name not in INITS and not name.startswith("migrations.")
}


def imported(tree: ast.AST) -> set[str]:
    """All that it imports, also for the type checker alone: ``package.module.name``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms_used(tree: ast.AST) -> set[str]:
    inner = (name.removeprefix("rmq_publisher.") for name in imported(tree))
    names = [name for name in inner if name in ROOMS or name.rpartition(".")[0] in ROOMS]
    return {name if name in ROOMS else name.rpartition(".")[0] for name in names}


def test_every_module_has_its_floor() -> None:
    assert set(ROOMS) - set(FLOOR) == set(), f"not in {TABLE.name}"
    assert set(FLOOR) - set(ROOMS) == set()


def test_imports_go_down_only() -> None:
    up = [(a, b) for a, tree in ROOMS.items() for b in rooms_used(tree) if FLOOR[b] >= FLOOR[a]]
    assert up == []


def test_no_circles() -> None:
    TopologicalSorter({room: rooms_used(tree) for room, tree in ROOMS.items()}).prepare()


def test_nothing_is_imported_inside_functions() -> None:
    functions = [
        (name, node.name)
        for name, tree in TREES.items()
        if name not in LAZY
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and imported(node)
    ]
    assert functions == []


def test_packages_import_nothing_and_nobody_goes_through_the_front_door() -> None:
    """The front door (PEP 562) names its rooms for the type checker only."""
    assert [name for name, tree in INITS.items() if name != "__init__" and imported(tree)] == []
    front = {f"rmq_publisher.{name}" for name in rmq_publisher.__all__}
    assert [name for name, tree in ROOMS.items() if imported(tree) & front] == []


def test_only_one_room_makes_pikas_connections() -> None:
    def touches(name: str) -> bool:
        return (name.startswith("pika.") and name.endswith("Parameters")) or any(
            name.startswith(known) for known in CONNECTIONS
        ) or ("pika.adapters." in name and "_connection" in name)  # fmt: skip

    users = {room for room, tree in ROOMS.items() if any(map(touches, imported(tree)))}
    assert users == {"transport.link"}
