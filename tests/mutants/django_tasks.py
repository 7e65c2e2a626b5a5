"""Breakages of tasks of Django's framework: the backend, and what a delivery means."""

from __future__ import annotations

from .mutant import Mutant

CLAIMS = ("contrib/django_tasks/test_claims.py",)
BACKEND = ("contrib/django_tasks/test_backend.py",)
EXECUTION = ("contrib/django_tasks/test_execution.py",)
WORKER = ("contrib/django_tasks/test_worker.py",)

MUTANTS = (
    Mutant(
        "a duplicate of a running task is put back",
        "A first delivery for a task that is RUNNING is a duplicate.",
        "contrib/django_tasks/claims.py",
        "    if not redelivered:\n",
        "    if False:\n",
        CLAIMS,
    ),
    Mutant(
        "a lost connection is taken for a death",
        "A delivery that comes again waits while the worker of its task is alive.",
        "contrib/django_tasks/claims.py",
        "    if not who.may_judge or workers.is_alive(who.database, last):\n",
        "    if not who.may_judge:\n",
        CLAIMS,
    ),
    Mutant(
        "a task takes every worker along",
        "After max_deaths workers a task has failed.",
        "contrib/django_tasks/claims.py",
        "    if row.deaths < max(1, max_deaths):\n",
        "    if True:\n",
        CLAIMS,
    ),
    Mutant(
        "an earlier run writes its outcome",
        "A run writes its outcome only while it is the row's last.",
        "contrib/django_tasks/records.py",
        "    return row.status == RUNNING and row.attempts == attempt\n",
        "    return row.status == RUNNING\n",
        CLAIMS,
    ),
    Mutant(
        "a retry does not wait",
        "A failed task does not run again before its time, though its message is there.",
        "contrib/django_tasks/claims.py",
        "        if left > EARLY_SECONDS:\n",
        "        if False:\n",
        CLAIMS,
    ),
    Mutant(
        "a copy is taken for a duplicate",
        "A copy of a message that was put back is no duplicate.",
        "contrib/django_tasks/work.py",
        "        redelivered = message.redelivered or bool(message.headers.get(PUT_BACK))\n",
        "        redelivered = message.redelivered\n",
        WORKER,
    ),
    Mutant(
        "the result of a database's absence is lost",
        "An outcome is written as soon as the database is there again.",
        "contrib/django_tasks/persistence.py",
        "            if self._stopping.wait(backoff.delay()):\n",
        "            if True:\n",
        WORKER,
    ),
    Mutant(
        "the task is not in its own transaction",
        "Without a transaction a task and its message are committed together.",
        "contrib/django_tasks/backend.py",
        "        return transaction.atomic(using=database)\n",
        "        return nullcontext()\n",
        BACKEND,
    ),
    Mutant(
        "results of other backends are found",
        "A backend finds only the results of its own alias.",
        "contrib/django_tasks/records.py",
        "    return rows(database).filter(id=id, backend=backend).first()\n",
        "    return rows(database).filter(id=id).first()\n",
        BACKEND,
    ),
    Mutant(
        "any function is a task",
        "Only functions that are decorated as tasks are run.",
        "contrib/django_tasks/results.py",
        "    if not isinstance(found, Task):\n",
        "    if found is None:\n",
        EXECUTION,
    ),
    Mutant(
        "Celery sees the arguments",
        "The headers for Celery's tools hold no arguments of a task.",
        "contrib/django_tasks/celery_format.py",
        "task.id, (), {}",
        "task.id, (task.args,), {}",
        ("contrib/django_tasks/test_celery_format.py",),
    ),
    Mutant(
        "a Celery worker drops a retry",
        "A task that is to run again waits in the table before its message is acknowledged.",
        "contrib/celery/django_task_runs.py",
        "claim is not None and claim.meaning is Meaning.WAIT",
        "claim is None",
        ("contrib/django_tasks/test_celery_format.py",),
    ),
    Mutant(
        "a Celery worker acknowledges at once",
        "A Celery worker acknowledges a task after its run.",
        "contrib/celery/django_tasks.py",
        "acks_late=True",
        "acks_late=False",
        ("contrib/django_tasks/test_celery_format.py",),
    ),
    Mutant(
        "Celery's queues have other arguments",
        "Celery workers declare the queues as rmq_declare does.",
        "contrib/celery/django_task_runs.py",
        "dict(queue.x_arguments)",
        "{}",
        ("contrib/django_tasks/test_celery_format.py",),
    ),
    Mutant(
        "Celery's messages get levels",
        "Tasks in Celery's form need no queues to wait in.",
        "contrib/django_tasks/topology.py",
        'if options.format == "celery":',
        "if False:",
        ("contrib/django_tasks/test_celery_format.py",),
    ),
    Mutant(
        "a task is sent before its commit",
        "A task in a transaction is sent after the commit, or not at all.",
        "contrib/django_tasks/backend.py",
        "delivery=delivery or options.delivery,",
        'delivery="now",',
        ("contrib/django_tasks/test_transactions.py::test_exactly_the_committed_ones_run",),
    ),
)
