"""Where a scenario takes place: a node, a database, a directory, and the processes on them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.support.rig import wire
from tests.support.rig.amqp import Amqp
from tests.support.rig.node import PrivateNode
from tests.support.rig.proxy import Proxy

from .actors import PATIENCE, ROOT, Actor, ActorError, Relay, Worker
from .checker import Arrived
from .drain import drain_all
from .plan import Size
from .stores import OPEN, MariaDB, Postgres, SQLite, Store

A = TypeVar("A", bound=Actor)

EXCHANGE = "chaos"


class Stage:
    """Starts what is asked for, once, and ends it all."""

    def __init__(
        self, size: Size, seed: int, keep: Path | None = None, *, node: PrivateNode | None = None
    ) -> None:
        """Without a node it starts its own, once one is needed."""
        self.size = size
        self._given = node
        self.seed = str(seed)
        self.place = Path(tempfile.mkdtemp(prefix="rmq-chaos-"))
        self._keep = keep
        self.actors: list[Actor] = []
        self._stores: dict[str, Store] = {}
        self._endings: list[Callable[[], object]] = []
        self._names = 0
        self._scenes = 0
        self.store: Store = SQLite(self.place)  # of scenarios that need none

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        for store in self._stores.values():
            store.discard()
        while self._endings:
            self._endings.pop()()
        shutil.rmtree(self.place, ignore_errors=True)

    def chance(self, scenario: str) -> random.Random:
        """What is random in a scenario, whatever else runs."""
        return random.Random(f"{self.seed} {scenario}")

    def name(self, what: str) -> str:
        """A name that nobody else uses."""
        self._names += 1
        return f"{what}{self._names}"

    # -- the broker -----------------------------------------------------------------------------

    @cached_property
    def node(self) -> PrivateNode:
        """The node that is killed."""
        if self._given is not None:
            return self._given
        node = PrivateNode()
        self._endings.append(node.discard)
        return node.start()

    @property
    def broker(self) -> str:
        """Product and version."""
        return wire.product(self.node.url())

    def proxy(self) -> Proxy:
        """A proxy in front of the node, until the end."""
        proxy = Proxy.to(self.node.url()).start()
        self._endings.append(proxy.stop)
        return proxy

    def queue(self, name: str, *keys: str) -> str:
        """A durable queue, bound to the exchange by its name or by these keys."""
        amqp = Amqp(self.node.url())
        amqp.declare_exchange(EXCHANGE, durable=True)
        amqp.declare_queue(name)
        for key in keys or (name,):
            amqp.bind(name, EXCHANGE, key)
        amqp.names.queues.clear()
        amqp.names.exchanges.clear()
        amqp.close()
        return name

    def bind(self, queue: str, key: str, *, away: bool = False) -> None:
        """Bind a queue to the exchange, or take the binding away."""
        amqp = Amqp(self.node.url())
        (amqp.channel.queue_unbind if away else amqp.channel.queue_bind)(queue, EXCHANGE, key)
        amqp.close()

    def kill_broker(self) -> None:
        """SIGKILL, and a new start."""
        self.node.kill()
        self.node.restart()

    def arrived(self, *queues: str) -> Arrived:
        """Empty these queues."""
        return drain_all(self.node.url(), queues, self.place)

    # -- the database ---------------------------------------------------------------------------

    def use(self, kind: str, keys: int = 0) -> Store:
        """Have the processes use a database of this kind, with empty tables."""
        if kind not in self._stores:
            made: Store = SQLite(self.place) if kind == "sqlite" else _SERVERS[kind]()
            self._stores[kind] = made
            self.store = made
            self._migrate()
            made.prepare()
        self.store = self._stores[kind]
        self.store.empty(keys)
        return self.store

    def _migrate(self) -> None:
        told = {"parent": os.getpid(), "rmq": {"URL": "memory://"}}
        told["database"] = self.store.settings("migrate")
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS": json.dumps(told),
        }
        command = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
        ended = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise ActorError(ended.stderr)

    def all_sent(self, patience: float = PATIENCE) -> bool:
        """Wait until nothing is left to be sent, or nothing moves any more."""
        left = self.store.count(OPEN)
        deadline = time.monotonic() + patience
        while left:
            time.sleep(0.1)
            found = self.store.count(OPEN)
            if found < left:
                left, deadline = found, time.monotonic() + patience
            elif time.monotonic() > deadline:
                return False
        return True

    # -- processes ------------------------------------------------------------------------------

    def rmq(self, url: str = "", /, **settings: Any) -> dict[str, Any]:
        """RMQ_ settings of a process."""
        return {"URL": url or self.node.url(), "CONFIRM_TIMEOUT": 4, **settings}

    def start(self, actor: A) -> A:
        """Start a process; it is ended with the scenario."""
        self.actors.append(actor)
        actor.start()
        return actor

    def workers(self) -> Sequence[Worker]:
        return [actor for actor in self.actors if isinstance(actor, Worker)]

    def relays(self) -> Sequence[Relay]:
        return [actor for actor in self.actors if isinstance(actor, Relay)]

    def stop_workers(self) -> None:
        """Have them finish what they do."""
        for worker in self.workers():
            worker.stop()
        for worker in self.workers():
            worker.await_end()

    def stop_relays(self) -> None:
        """SIGTERM: they must end cleanly."""
        for relay in self.relays():
            relay.stop()
        for relay in self.relays():
            relay.await_end()

    def clear(self) -> None:
        """The end of a scenario: nobody is there any more."""
        for actor in self.actors:
            if actor.running:
                actor.kill()
            if isinstance(actor, Worker):
                actor.discard()
        self.actors.clear()
        for pattern in ("*.journal", "*.gauge", "*.log", "drained.*"):
            for path in self.place.glob(pattern):
                if self._keep is not None and path.suffix in (".journal", ".log"):
                    self._keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, self._keep / f"{self._scenes}.{path.name}")
                path.unlink()
        self._scenes += 1


_SERVERS: dict[str, Callable[[], Store]] = {"postgres": Postgres, "mariadb": MariaDB}
