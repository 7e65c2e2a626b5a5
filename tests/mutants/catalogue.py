"""All mutants, in the order of the table."""

from __future__ import annotations

from . import (
    answers,
    calls,
    commits,
    connection,
    consuming,
    django_tasks,
    handling,
    links,
    memory,
    operators,
    producing,
    promises,
    retrying,
    rows,
    stream,
    tasks,
    together,
    topology,
    waiting,
)
from .mutant import Mutant

GROUPS: dict[str, tuple[Mutant, ...]] = {
    "Answers and the window": answers.MUTANTS,
    "Before the wire": waiting.MUTANTS,
    "Topology that is gone": topology.MUTANTS,
    "The thread and its connection": connection.MUTANTS,
    "The loop and the bytes of a connection": stream.MUTANTS,
    "publish() and its like": calls.MUTANTS,
    "Producer and bodies": producing.MUTANTS,
    "Transactions and the table": commits.MUTANTS,
    "Rows on their way": rows.MUTANTS,
    "Where several things come together": together.MUTANTS,
    "Bounds, times, signals and settings": promises.MUTANTS,
    "A connection in trouble": links.MUTANTS,
    "Consumers": consuming.MUTANTS,
    "Retries": retrying.MUTANTS,
    "Handlers and the inbox": handling.MUTANTS,
    "Tasks for Celery workers": tasks.MUTANTS,
    "Tasks of Django's framework": django_tasks.MUTANTS,
    "The admin's page": operators.MUTANTS,
    "The memory broker, and what is never shown": memory.MUTANTS,
}
MUTANTS = tuple(mutant for group in GROUPS.values() for mutant in group)
