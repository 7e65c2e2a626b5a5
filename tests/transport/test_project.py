"""What the project declares is collected on a thread of its own, and nothing that happens there hurts."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from rmq_publisher import Binding, ExchangeConfig, QueueConfig
from rmq_publisher.amqp.entities import Bare, Bound, Entity
from rmq_publisher.amqp.routes import Config
from rmq_publisher.topology.registry import declaration_order
from rmq_publisher.transport import project
from tests.support.calls import PATIENCE

BINDING = Binding("x")
QUEUE = QueueConfig("q", bindings=[BINDING])
EXCHANGE = ExchangeConfig("x")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    project.found_by(declaration_order)


def found() -> tuple[tuple[Config, ...], threading.Thread]:
    answers: list[tuple[tuple[Config, ...], threading.Thread]] = []
    is_there = threading.Event()

    def take(configs: tuple[Config, ...]) -> None:
        answers.append((configs, threading.current_thread()))
        is_there.set()

    project.find("default", take)
    assert is_there.wait(PATIENCE), "it was not called"
    return answers[0]


def test_configs_in_their_order_and_on_another_thread() -> None:
    project.found_by(lambda alias: (Bare(EXCHANGE), Bare(QUEUE), Bound(QUEUE, BINDING)))
    configs, thread = found()
    assert configs == (EXCHANGE, QUEUE)
    assert thread is not threading.current_thread()


@pytest.mark.parametrize("kind", [ImportError, SystemExit])
def test_a_project_that_cannot_be_imported_declares_nothing(kind: type[BaseException]) -> None:
    def fails(_: str) -> Sequence[Entity]:
        raise kind("of the project's own module")

    project.found_by(fails)
    assert found()[0] == ()


def test_where_no_thread_can_be_started_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    project.found_by(lambda _: (Bare(QUEUE),))
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert found() == ((), threading.current_thread())
