"""The thread that writes a worker's heartbeats, and deletes old rows."""

import logging
import threading
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.contrib.django_tasks import records, workers
from rmq_publisher.contrib.django_tasks.options import BackendOptions
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher.tasks")

PRUNE_SECONDS = 3600.0
PRUNED_AT_ONCE = 1_000  # results; the next heartbeat continues


class Beats(threading.Thread):
    """Writes heartbeats until it is stopped.

    Args:
        backend: alias in ``TASKS``.
        options: of the backend.
        worker_id: of the process.
        product: returns the broker's name and version.
        judging: called with ``may_judge=``: whether the heartbeats of others can be relied on.
    """

    def __init__(
        self,
        backend: str,
        options: BackendOptions,
        worker_id: str,
        product: Callable[[], str],
        judging: Callable[..., None],
    ) -> None:
        super().__init__(name=f"rmq_worker beats {worker_id}", daemon=True)
        self._backend = backend
        self._options = options
        self._worker_id = worker_id
        self._product = product
        self._judging = judging
        self._stopping = threading.Event()
        self._failed_at: float | None = None
        self._prune_at = monotonic() + workers.ALIVE_SECONDS * 4

    def beat(self) -> None:
        """Write a heartbeat in the calling thread, before the first task is received.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        workers.beat(self._options.database, self._worker_id, self._product())

    def run(self) -> None:
        """Write a heartbeat every few seconds."""
        connection = databases[self._options.database]
        try:
            while not self._stopping.wait(workers.BEAT_SECONDS):
                try:
                    self.beat()
                    self._prune()
                    self._judge()
                except (DatabaseError, InterfaceError) as error:
                    self._failed_at = monotonic()
                    self._judging(may_judge=False)
                    kind = type(error).__name__
                    logger.warning(
                        "worker %s: the heartbeat cannot be written: %s", self._worker_id, kind
                    )
                    connection.close()
        finally:
            connection.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self.ident is not None:
            self.join(workers.BEAT_SECONDS)

    def forget(self) -> None:
        """Delete the worker's row, in the calling thread."""
        try:
            workers.forget(self._options.database, self._worker_id)
        except (DatabaseError, InterfaceError) as error:
            logger.warning(
                "worker %s: its heartbeat cannot be deleted: %s",
                self._worker_id,
                type(error).__name__,
            )

    def _judge(self) -> None:
        """Rely on the heartbeats of others once they have had time to write new ones."""
        if self._failed_at and monotonic() - self._failed_at > workers.ALIVE_SECONDS:
            self._failed_at = None
            self._judging(may_judge=True)

    def _prune(self) -> None:
        if monotonic() < self._prune_at:
            return
        database, options = self._options.database, self._options
        workers.prune(database)
        pruned = records.prune(
            database, [self._backend], options.result_retention_days, most=PRUNED_AT_ONCE
        )
        if pruned:
            logger.info("backend %r: deleted %d results", self._backend, pruned)
        if pruned < PRUNED_AT_ONCE:
            self._prune_at = monotonic() + PRUNE_SECONDS
