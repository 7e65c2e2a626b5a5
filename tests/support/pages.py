"""Reading the pages of the documentation."""

import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from rmq_publisher import ExchangeConfig, QueueConfig, connections
from rmq_publisher.conf.reading import Reading
from rmq_publisher.conf.schema import ConnectionSettings
from tests.support.rig import PATIENCE
from tests.support.rig.amqp import Amqp

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    text: str
    runs: bool

    @property
    def file(self) -> str:
        """The file whose contents it is; empty if it is not a file."""
        found = re.match(
            r"# (?:at the end of )?([\w/]+\.(?:py|ini))$", self.text.partition("\n")[0]
        )
        return found[1] if found else ""

    def code(self, names: dict[str, str] | None = None) -> types.CodeType:
        """The compiled code, with the string literals in ``names`` replaced."""
        # Empty lines in front, so that an error names the page's own line.
        text = "\n" * self.line + renamed(self.text, names or {})
        return compile(text, str(ROOT / self.page), "exec")


def renamed(text: str, names: dict[str, str]) -> str:
    for name, other in names.items():
        text = re.sub(rf"(['\"]){re.escape(name)}\1", rf"\1{other}\1", text)
    return text


def blocks(page: str, language: str) -> list[Block]:
    found, fence, info, opened, above = [], "", "", 0, ""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        mark = re.match(r"(`{3,})(.*)$", line)
        if fence and mark and mark[1] == fence and not mark[2]:
            text = "\n".join(lines[opened : number - 1]) + "\n"
            if info == language:
                runs = not above.startswith("<!-- not run: ")
                found.append(Block(page, opened, info, text, runs))
            fence = ""
        elif mark and not fence:
            fence, info, opened, above = mark[1], mark[2].strip(), number, lines[number - 2]
    assert not fence, f"{page}: a fence is not closed"
    return found


class Shop:
    """Runs the blocks of a page in a separate shop."""

    def __init__(self, names: dict[str, str], amqp: Amqp, monkeypatch) -> None:
        self.names = names
        self.amqp = amqp
        self.namespace: dict[str, object] = {"__name__": "page"}
        self._monkeypatch = monkeypatch
        package = types.ModuleType("shop")
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "shop", package)
        example = sys.modules["example_project.shop.models"]
        monkeypatch.setitem(sys.modules, "shop.models", example)
        self._modules: dict[str, types.ModuleType] = {}

    def run(self, page: str) -> None:
        """Run its blocks; what they write into shop/queues.py is declared."""
        self.amqp.declare_queue(self.names["orders"])
        self.amqp.declare_exchange(self.names["shop.events"], "topic", durable=True)
        self.amqp.bind(self.names["orders"], self.names["shop.events"], "orders.#")
        for block in blocks(page, "python"):
            if not block.runs:
                continue
            if block.file.endswith("settings.py"):
                self._read_settings(block)
            elif block.file:
                self._write_module(block)
            else:
                exec(block.code(self.names), self.namespace)

    def _read_settings(self, block: Block) -> None:
        secret = "$ecret/@:"
        for name in ("RMQ_PASSWORD", "ORDERS_RMQ_PASSWORD", "AUDIT_RMQ_PASSWORD"):
            self._monkeypatch.setenv(name, secret)
        self._monkeypatch.setenv("RMQ_URL", "amqp://shop@rabbit.example.com/shop")
        space: dict[str, object] = {"__file__": "mysite/settings.py", "INSTALLED_APPS": []}
        exec(block.code(), space)
        raw = {name: value for name, value in space.items() if name.startswith("RMQ_")}
        reading = Reading(raw)
        assert not [str(problem) for problem in reading.problems if problem.is_error]
        for settings in reading.connections.values():
            assert isinstance(settings, ConnectionSettings)
            assert settings.password == secret or "RMQ_PASSWORD" not in raw

    def _write_module(self, block: Block) -> None:
        """Add a block to its module; shop/queues.py is replaced each time."""
        name = block.file.removesuffix(".py").replace("/", ".")
        if name not in self._modules or name == "shop.queues":
            # Django finds a model's app by this name.
            self._modules[name] = types.ModuleType(f"example_project.{name}")
            self._monkeypatch.setitem(sys.modules, name, self._modules[name])
        exec(block.code(self.names), vars(self._modules[name]))
        if name == "shop.queues":
            self._declare(list(vars(self._modules[name]).values()))

    def _declare(self, values: list[object]) -> None:
        queues = [value for value in values if isinstance(value, QueueConfig)]
        exchanges = [value for value in values if isinstance(value, ExchangeConfig)]
        for queue in queues:
            self.amqp.delete_queue(queue.name)
        for alias in connections:
            mine = [config for config in (*exchanges, *queues) if config.using in (None, alias)]
            connections[alias].declare(tuple(mine), timeout=PATIENCE)

    def bodies(self, name: str = "orders", expected: int = 0) -> list[str]:
        """Take the messages out of a queue."""
        received = self.amqp.drain(self.names[name], expected)
        return [message.body.decode(errors="replace") for message in received]


def rows(page: Path) -> list[list[str]]:
    """The cells of all tables of a page, without their heads' underlines."""
    found = []
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found
