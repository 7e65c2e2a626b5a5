"""A module imports from its own folder and from lower layers, and there are no cycles."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import rmq_publisher

ROOT = Path(rmq_publisher.__file__).parent
TABLE = Path(__file__).parent.parent / "docs" / "explanation" / "layout.md"
# "| 4 | `a`, `b` | the job |": rows in the order of the page; a later row may use an earlier one.
LAYER = {
    place: index
    for index, row in enumerate(
        re.finditer(
            r"^\| \d+ \| (?P<places>`.*?`) \| .+ \|$", TABLE.read_text("utf-8"), re.MULTILINE
        )
    )
    for place in re.findall(r"`(.+?)`", row["places"])
}
MOST_AT_ROOT = 10  # modules at the root besides __init__
LONGEST_CHAIN = 16
LAZY = {"pytest_plugin"}  # every run of pytest here loads it; few of them use Django
CONNECTIONS = {"pika.connection", "pika.BlockingConnection", "pika.SelectConnection"}
HANDS_ON = {
    "__init__",
    "consumer.__init__",
    "testing.__init__",
    "contrib.celery.__init__",
    "contrib.django_tasks.__init__",
    "models.__init__",
}  # their names are public


@cache
def trees() -> dict[str, ast.Module]:
    """Every module, parsed once for all tests."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
        for path in ROOT.rglob("*.py")
    }


def inits() -> dict[str, ast.Module]:
    return {name: tree for name, tree in trees().items() if name.split(".")[-1] == "__init__"}


@cache
def modules() -> dict[str, ast.Module]:
    return {
        name: tree
        for name, tree in trees().items()
        if name.split(".")[-1] != "__init__" and not name.startswith("migrations.")
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


def modules_used(tree: ast.AST) -> set[str]:
    inner = (name.removeprefix("rmq_publisher.") for name in imported(tree))
    names = [name for name in inner if name in modules() or name.rpartition(".")[0] in modules()]
    return {name if name in modules() else name.rpartition(".")[0] for name in names}


@cache
def uses() -> dict[str, set[str]]:
    return {name: modules_used(tree) for name, tree in modules().items()}


def place(name: str) -> str:
    return name.partition(".")[0]


def test_every_place_has_its_layer() -> None:
    assert {place(name) for name in trees()} == set(LAYER), TABLE.name


def test_imports_go_down_only() -> None:
    """Between places, by the order of the table; `test_no_cycles` sees to what a folder holds."""
    up = [
        (name, used)
        for name, all_used in uses().items()
        for used in all_used
        if place(used) != place(name) and LAYER[place(used)] >= LAYER[place(name)]
    ]
    assert up == []


def test_no_cycles() -> None:
    TopologicalSorter(uses()).prepare()


def test_the_longest_chain_of_imports_is_short() -> None:
    depth: dict[str, int] = {}
    for name in TopologicalSorter(uses()).static_order():
        depth[name] = 1 + max((depth[used] for used in uses()[name]), default=0)
    deepest = max(depth, key=depth.__getitem__)
    assert depth[deepest] <= LONGEST_CHAIN, deepest


def test_modules_are_few_at_the_root_and_short_everywhere() -> None:
    assert len([path for path in ROOT.glob("*.py") if path.name != "__init__.py"]) <= MOST_AT_ROOT
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    assert {str(path): length for path, length in lengths.items() if length > 300} == {}


def test_nothing_is_imported_inside_functions() -> None:
    functions = [
        (name, node.name)
        for name, tree in trees().items()
        if name not in LAZY
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and imported(node)
    ]
    assert functions == []


def test_packages_import_nothing_and_nobody_goes_through_the_front_door() -> None:
    """The front door (PEP 562) names its modules for the type checker only."""
    assert [
        name for name, tree in inits().items() if name not in HANDS_ON and imported(tree)
    ] == []
    front = {f"rmq_publisher.{name}" for name in rmq_publisher.__all__}
    assert [name for name, tree in modules().items() if imported(tree) & front] == []


def test_only_one_module_makes_pikas_connections() -> None:
    def touches(name: str) -> bool:
        return (name.startswith("pika.") and name.endswith("Parameters")) or any(
            name.startswith(known) for known in CONNECTIONS
        ) or ("pika.adapters." in name and "_connection" in name)  # fmt: skip

    users = {name for name, tree in modules().items() if any(map(touches, imported(tree)))}
    assert users == {"transport.rabbitmq.connection"}
