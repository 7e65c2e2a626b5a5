"""The faults of the direct scenario: each waits until messages flow, strikes, and repairs the damage."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from tests.faults.result import Result
from tests.support.rig.amqp import Amqp
from tests.support.rig.proxy import Proxy

from .actors import Worker, seen, until
from .stage import Stage
from .work import FORK, POISON

KILL = "broker: kill -9"
_TRIES = 4


class Storm:
    """Strikes by name; each tells how many messages were under way when it did.

    Args:
        proxies: of the first workers, one each; the others are connected without.
        bound: queues that are bound to the exchange, whose binding may be taken away.
        volatile: the queue that is deleted.
    """

    def __init__(
        self,
        stage: Stage,
        result: Result,
        proxies: Sequence[Proxy],
        bound: Sequence[str],
        volatile: str,
    ) -> None:
        self.stage = stage
        self.chance = stage.chance("storm")
        self.channels_lost = 0
        self._result = result
        self._workers = stage.workers()
        self._proxies = proxies
        self._bound = bound
        self._volatile = volatile
        self.kinds: dict[str, Callable[[], int]] = {
            KILL: self._kill_broker,
            "broker: application restarted": self._restart_app,
            "broker: SIGSTOP": self._freeze_broker,
            "broker: memory alarm": self._alarm,
            "broker: closes all connections": self._close_all,
            "broker: closes a channel over a poison message": self._poison,
            "broker: binding removed": self._unbind,
            "broker: queue deleted and declared again": self._delete,
            "network: reset": lambda: self._cut(reset=True),
            "network: closed (FIN)": lambda: self._cut(reset=False),
            "network: cut before a publish": self._cut_before,
            "network: cut after a publish, its confirm lost": self._cut_after,
            "network: cut inside a body": self._cut_inside,
            "network: black hole": lambda: self._stall("both"),
            "network: silent towards the client": lambda: self._stall("client"),
            "network: silent towards the broker": lambda: self._stall("broker"),
            "network: confirms late": self._late,
            "network: drips": self._drip,
            "network: cut, new connections refused": self._refuse,
            "worker: kill -9": self._kill_worker,
            "worker: SIGSTOP": self._freeze_worker,
            "worker: fork": self._fork,
        }

    def blow(self, faults: int, kills: int) -> None:
        """Strike so many times, each kind about as often, in random order."""
        others = [kind for kind in self.kinds if kind != KILL]
        deck = [KILL] * kills
        # The one that takes longest comes less often.
        weights = [0.3 if "restarted" in kind else 1.0 for kind in others]
        deck += others[:faults] + self.chance.choices(
            others, weights, k=max(0, faults - len(others))
        )
        self.chance.shuffle(deck)
        for kind in deck:
            self.strike(kind)
            time.sleep(self.chance.uniform(0, 0.2))

    def strike(self, kind: str) -> None:
        """Until something is hit: a fault that hits nothing counts as no fault."""
        for _ in range(_TRIES):
            hit = self.kinds[kind]()
            self._result.struck(kind, hit)
            if hit:
                return

    # -- what is under way ----------------------------------------------------------------------

    def _flowing(self, workers: Sequence[Worker]) -> int:
        """Wait until messages are confirmed again and some are under way."""
        for worker in workers:
            worker.check()
        before = sum(worker.done for worker in workers)
        until(lambda: sum(worker.done for worker in workers) > before + 5 * len(workers))
        return seen(lambda: self._under_way(workers))

    @staticmethod
    def _under_way(workers: Sequence[Worker]) -> int:
        return sum(worker.gauge.under_way for worker in workers)

    def _all(self) -> int:
        return self._flowing(self._workers)

    def _one(self) -> Worker:
        worker = self.chance.choice(self._workers)
        self._flowing([worker])
        return worker

    def _behind(self) -> tuple[Proxy, Worker]:
        number = self.chance.randrange(len(self._proxies))
        self._flowing([self._workers[number]])
        return self._proxies[number], self._workers[number]

    # -- the broker -----------------------------------------------------------------------------

    def _kill_broker(self) -> int:
        hit = self._all()
        self.stage.kill_broker()
        # What was declared an instant before may be forgotten, unlike what was confirmed.
        self._declare()
        for queue in self._bound:
            self.stage.bind(queue, queue)
        return hit

    def _restart_app(self) -> int:
        hit = self._all()
        self.stage.node.eval("rabbit:stop(), rabbit:start()", timeout=60)
        self.stage.node.wait_ready()
        return hit

    def _freeze_broker(self) -> int:
        hit = self._all()
        self.stage.node.freeze()
        time.sleep(self.chance.uniform(0.1, 2))
        self.stage.node.thaw()
        return hit

    def _alarm(self) -> int:
        hit = self._all()
        self.stage.node.block()
        time.sleep(self.chance.uniform(0.1, 1.5))
        self.stage.node.unblock()
        return hit

    def _close_all(self) -> int:
        hit = self._all()
        return hit if self.stage.node.close_all_connections() else 0

    def _poison(self) -> int:
        worker = self._one()
        self.channels_lost += 1
        return self._order(worker, POISON)

    def _order(self, worker: Worker, number: int) -> int:
        worker.gauge.order(number)
        until(lambda: not worker.gauge.ordered, 10, every=0.001)
        return seen(lambda: self._under_way([worker]))

    def _unbind(self) -> int:
        queue = self.chance.choice(self._bound)
        hit = self._all()
        self.stage.bind(queue, queue, away=True)
        time.sleep(self.chance.uniform(0.05, 0.3))
        self.stage.bind(queue, queue)
        return hit

    def _delete(self) -> int:
        hit = self._all()
        self.stage.node.delete_queue(self._volatile)
        time.sleep(self.chance.uniform(0.05, 0.3))
        self._declare()
        return hit

    def _declare(self) -> None:
        amqp = Amqp(self.stage.node.url())
        amqp.channel.queue_declare(self._volatile, durable=True)
        amqp.close()

    # -- the network ----------------------------------------------------------------------------

    def _cut(self, *, reset: bool) -> int:
        proxy, worker = self._behind()
        hit = self._under_way([worker])
        return hit if proxy.cut(reset) else 0

    def _armed(self, arm: Callable[[Proxy, random.Random], object]) -> int:
        """A fault that strikes by itself, at a message: so there is one."""
        proxy, worker = self._behind()
        made = proxy.connections_made
        arm(proxy, self.chance)
        until(lambda: proxy.connections_made > made, 10)
        return max(1, self._under_way([worker])) if proxy.connections_made > made else 0

    def _cut_before(self) -> int:
        return self._armed(lambda proxy, chance: proxy.cut_before_publish(chance.randrange(1, 90)))

    def _cut_after(self) -> int:
        return self._armed(lambda proxy, chance: proxy.cut_after_publish(chance.randrange(1, 90)))

    def _cut_inside(self) -> int:
        return self._armed(lambda proxy, chance: proxy.reset_in_body(chance.randrange(1, 90)))

    def _stall(self, towards: str) -> int:
        proxy, worker = self._behind()
        proxy.stall(towards)
        hit = self._under_way([worker])
        # Some last longer than the silence after which the connection is given up.
        time.sleep(self.chance.choice((0.2, 0.5, 1, 5)))
        proxy.resume()
        return hit

    def _late(self) -> int:
        proxy, worker = self._behind()
        fault = proxy.delay_acks(self.chance.uniform(0.02, 0.5))
        time.sleep(0.5)
        fault.disarm()
        return self._under_way([worker])

    def _drip(self) -> int:
        proxy, worker = self._behind()
        hit = self._under_way([worker])
        for _ in range(15):
            proxy.stall()
            time.sleep(0.05)
            proxy.resume()
            time.sleep(0.005)
        return hit

    def _refuse(self) -> int:
        proxy, worker = self._behind()
        hit = self._under_way([worker])
        proxy.refuse()
        proxy.cut()
        time.sleep(self.chance.uniform(0.1, 0.6))
        proxy.accept()
        return hit

    # -- the workers ----------------------------------------------------------------------------

    def _kill_worker(self) -> int:
        worker = self._one()
        worker.kill()
        hit = self._under_way([worker])
        worker.start()
        return hit

    def _freeze_worker(self) -> int:
        worker = self._one()
        worker.freeze()
        hit = self._under_way([worker])
        time.sleep(self.chance.uniform(0.1, 1.5))
        worker.thaw()
        return hit

    def _fork(self) -> int:
        return self._order(self._one(), FORK)
