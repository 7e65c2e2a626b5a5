"""Tasks whose messages are in Celery's form; tests/integration has a Celery worker run them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject

from rmq_publisher.contrib.celery import register_django_tasks
from rmq_publisher.contrib.celery.django_task_runs import Processes
from rmq_publisher.contrib.django_tasks import wiring
from rmq_publisher.contrib.django_tasks.celery_format import TASK_NAME
from rmq_publisher.contrib.django_tasks.framework import TaskResultStatus, task_backends
from rmq_publisher.models import OutboxMessage
from rmq_publisher.testing import memory_broker
from tests.support.some_tasks import add, fail

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
QUEUE = "tasks.default"


@pytest.fixture
def processes(configure: Any) -> Any:
    configure(format="celery", max_attempts=2, backoff=(5, 5), timeout=60)
    made = Processes()
    yield made
    made.end()


def arrived() -> Any:
    [message] = memory_broker().drain(QUEUE)
    return message


def text_of(message: Any) -> str:
    (text,), kwargs, embed = json.loads(message.body)
    assert kwargs == {}
    assert set(embed.values()) == {None}
    return str(text)


def test_the_message_is_celerys(processes: Processes) -> None:
    result = add.enqueue(1, 2)
    message = arrived()
    headers = message.properties.headers
    assert (headers["task"], headers["id"]) == (TASK_NAME, result.id)
    assert headers["shadow"] == add.module_path
    assert headers["timelimit"] == [None, 60.0]
    assert headers["argsrepr"] == "()", "Celery's tools need not see the arguments"
    assert message.properties.correlation_id == message.properties.message_id == result.id
    task = json.loads(text_of(message))
    assert (task["id"], task["task"], task["args"]) == (result.id, add.module_path, [1, 2])


def test_it_is_run_once(processes: Processes) -> None:
    result = add.enqueue(1, 2)
    text = text_of(arrived())
    processes.run(text, redelivered=False)
    processes.run(text, redelivered=False)
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (
        TaskResultStatus.SUCCESSFUL,
        3,
        1,
    )


def test_a_failed_one_waits_in_the_table(processes: Processes, store: str) -> None:
    result = fail.enqueue()
    processes.run(text_of(arrived()), redelivered=False)
    row = OutboxMessage.objects.using(store).get(message_id=result.id)
    assert row.state == "pending"
    wait = row.available_at - row.created_at
    assert 4 < wait.total_seconds() < 6


def test_no_queue_is_declared_in_which_they_would_wait(processes: Processes) -> None:
    assert [queue.name for queue in wiring.queues()] == [QUEUE]


@pytest.mark.parametrize("text", ["no JSON", "{}", 7, None, '{"version": 1}', "[" * 100_000])
def test_what_is_no_task_is_rejected(processes: Processes, text: Any) -> None:
    with pytest.raises(Reject) as caught:
        processes.run(text, redelivered=False)
    assert not caught.value.requeue


def test_one_of_a_backend_with_another_format_is_rejected(configure: Any) -> None:
    configure()
    add.enqueue(1, 2)
    with pytest.raises(Reject, match='format is not "celery"'):
        Processes().run(arrived().body.decode(), redelivered=False)


def test_its_workers_consume_the_queues_with_the_arguments_of_rmq_declare(
    processes: Processes,
) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False, fixups=[])
    task = register_django_tasks(app, queues=["other"])
    assert (task.name, task.acks_late, task.reject_on_worker_lost) == (TASK_NAME, True, True)
    app.loader.import_default_modules()
    consumed = app.amqp.queues.consume_from
    assert sorted(consumed) == ["celery", QUEUE, "tasks.other"]
    [config] = wiring.queues()
    assert consumed[QUEUE].queue_arguments == dict(config.x_arguments)
    assert consumed[QUEUE].exchange.name == ""


def test_a_format_that_is_none(configure: Any) -> None:
    configure(format="xml")
    [problem] = task_backends["default"].check()
    assert 'must be one of "json", "celery"' in f"{problem.msg} {problem.hint}"
