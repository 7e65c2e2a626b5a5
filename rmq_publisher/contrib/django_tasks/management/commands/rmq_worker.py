"""``manage.py rmq_worker``: runs tasks of Django's framework."""

import threading
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from rmq_publisher.conf import loader
from rmq_publisher.consumer.worker import Worker
from rmq_publisher.contrib.django_tasks import operations
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend, backends
from rmq_publisher.contrib.django_tasks.models import ID_MAX
from rmq_publisher.contrib.django_tasks.options import rabbitmq_alias
from rmq_publisher.contrib.django_tasks.process import TaskProcess
from rmq_publisher.db.errors import is_table_missing
from rmq_publisher.exceptions import PublishError
from rmq_publisher.management.worker_command import WorkerCommand

ID_SPACE = 12  # of a worker's id: the number of a process may follow what was given


class Command(WorkerCommand):
    """Runs tasks in threads, and with ``--processes`` in several processes."""

    help = (
        "Run the tasks of a backend of TASKS, until SIGTERM or SIGINT. Running tasks then finish; other "
        "messages return to their queues."
    )
    command = "rmq_worker"

    def add_arguments(self, parser: CommandParser) -> None:
        """Add options for which tasks run, and when the command ends."""
        parser.add_argument(
            "--backend", default="default", metavar="A", help="Alias in TASKS. Default: default."
        )
        parser.add_argument(
            "--queue-name",
            action="append",
            metavar="Q",
            help="Only tasks of this queue; may be repeated or list several with commas. Default: all.",
        )
        parser.add_argument(
            "--exclude-queues",
            action="append",
            metavar="Q",
            help="No tasks of this queue; may be repeated or list several with commas.",
        )
        parser.add_argument(
            "--max-tasks",
            "--limit",
            dest="limit",
            type=_positive,
            metavar="N",
            help="Stop after this many tasks.",
        )
        parser.add_argument(
            "--once",
            action="store_true",
            help="Stop when the queues have been empty for a second.",
        )
        parser.add_argument(
            "--worker-id", type=_worker_id, default="", metavar="ID", help="Shown with its tasks."
        )
        parser.add_argument(
            "--with-server",
            nargs="?",
            const="",
            metavar="ADDRPORT",
            help="Run Django's development server in the same process, which memory:// needs.",
        )
        parser.add_argument(
            "--orphans",
            action="store_true",
            help="Only list tasks that were lost, as far as can be known: nothing will run them.",
        )
        parser.add_argument(
            "--send-again", action="store_true", help="With --orphans: send them again."
        )
        super().add_arguments(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Run until a signal arrives, or there is nothing more to do.

        Raises:
            CommandError: an option is wrong, or the broker or the database refused.
        """
        backend = self._backend(options)
        if options["orphans"] or options["send_again"]:
            self._orphans(backend, options)
            return
        is_child = options["child"] is not None
        is_memory = loader.connection(rabbitmq_alias(backend.configured)).memory
        if is_memory and options["processes"]:
            raise CommandError(
                "RMQ_URL is memory://, whose queues no other process sees: leave out --processes."
            )
        if options["with_server"] is not None:
            self._with_server(options)
            return
        if is_memory and not options["once"]:
            raise CommandError(
                "RMQ_URL is memory://, whose queues no other process sees: run the development server "
                "together with the worker (rmq_worker --with-server), or set the URL of a broker."
            )
        if not options["processes"] and not is_child and not options["autoreload"]:
            # A task that runs for too long can only be ended together with its process.
            options["processes"] = 1 if _has_timeouts(backend) and not is_memory else None
        super().handle(**options)

    def check_options(self, options: dict[str, Any]) -> None:
        """Check the backend and its queues."""
        self._queue_names(self._backend(options), options)

    def fill(self, worker: Worker, options: dict[str, Any]) -> None:
        """Have a worker run the backend's tasks."""
        backend = self._backend(options)
        is_child = options["child"] is not None
        self._worker = worker
        self._process = TaskProcess(
            backend,
            self._queue_names(backend, options),
            threads=options["threads"] or 1,
            worker_id=options["worker_id"],
            shares_id=is_child,
            replaceable=is_child,
        )
        try:
            self._process.fill(worker)
        except (DatabaseError, InterfaceError) as error:
            database = backend.configured.database
            if is_table_missing(error):
                raise CommandError(
                    f"Database {database!r} has no table of tasks: run manage.py migrate "
                    f"--database {database}."
                ) from error
            # The driver's own text names host and port, and no row.
            raise CommandError(f"Database {database!r}: {error}") from error

    def tick(self, worker: Worker) -> None:
        """End tasks that run for too long."""
        self._process.tick(worker)

    def child_arguments(self, options: dict[str, Any]) -> list[str]:
        """Return which tasks a child runs."""
        return [
            f"--backend={options['backend']}",
            *(f"--queue-name={name}" for name in options["queue_name"] or ()),
            *(f"--exclude-queues={name}" for name in options["exclude_queues"] or ()),
            *([f"--worker-id={options['worker_id']}"] if options["worker_id"] else []),
        ]

    def _backend(self, options: dict[str, Any]) -> ConfiguredBackend:
        known = {backend.alias: backend for backend in backends()}
        alias = options["backend"]
        if alias not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise CommandError(f"TASKS has no RabbitMQBackend {alias!r}; there are: {listed}.")
        backend = known[alias]
        errors = [message for message in backend.check() if message.is_serious()]
        if errors:
            raise CommandError("\n".join(f"{error.msg} {error.hint or ''}" for error in errors))
        return backend

    def _queue_names(self, backend: ConfiguredBackend, options: dict[str, Any]) -> list[str]:
        """Return the queues of tasks to run.

        Raises:
            CommandError: there are none, or one is unknown.
        """
        asked, excluded = _names(options["queue_name"]), _names(options["exclude_queues"])
        if not backend.queues and not asked:
            raise CommandError(
                f"TASKS[{backend.alias!r}] does not list its QUEUES: choose those of this worker with "
                "--queue-name."
            )
        if backend.queues and (unknown := [name for name in asked if name not in backend.queues]):
            raise CommandError(
                f"TASKS[{backend.alias!r}] has no queue {', '.join(map(repr, unknown))}; there are: "
                f"{', '.join(sorted(backend.queues))}."
            )
        names = [name for name in asked or sorted(backend.queues) if name not in excluded]
        if not names:
            raise CommandError("No queue is left: --exclude-queues excludes all of them.")
        return names

    def _with_server(self, options: dict[str, Any]) -> None:
        """Run tasks in a thread of Django's development server, until Ctrl-C."""
        if options["processes"] or options["autoreload"]:
            raise CommandError(
                "--with-server runs one process, without a reloader: leave out --processes and "
                "--autoreload."
            )
        failed: list[BaseException] = []

        def work() -> None:
            try:
                self._run_worker(options)
            except BaseException as error:  # noqa: BLE001 (shown by this command)
                failed.append(error)
                self.stderr.write(f"The worker has ended: {error}")

        thread = threading.Thread(target=work, name="rmq_worker")
        thread.start()
        try:
            address = [options["with_server"]] if options["with_server"] else []
            call_command("runserver", *address, use_reloader=False)
        finally:
            self._stop(thread)
        if failed:
            raise CommandError(str(failed[0])) from failed[0]

    def _stop(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            worker = getattr(self, "_worker", None)
            if worker is not None:
                worker.stop()
            thread.join(0.2)

    def _orphans(self, backend: ConfiguredBackend, options: dict[str, Any]) -> None:
        if not options["orphans"]:
            raise CommandError("--send-again needs --orphans, which finds the tasks to send.")
        count = 0
        try:
            for row in operations.orphans(backend):
                count += 1
                sent = options["send_again"] and operations.send_orphan(backend, row.id)
                self.stdout.write(
                    f"{row.id} {row.task_path} {row.status} of {row.enqueued_at:%Y-%m-%d %H:%M}"
                    + (", sent again" if sent else "")
                )
        except PublishError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} orphans")


def _has_timeouts(backend: ConfiguredBackend) -> bool:
    options = backend.configured
    return options.defaults.timeout is not None or any(
        own.get("timeout") is not None for own in options.tasks.values()
    )


def _names(given: list[str] | None) -> list[str]:
    return [name for part in given or () for name in part.split(",") if name]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _worker_id(text: str) -> str:
    if len(text) > ID_MAX - ID_SPACE or not text.isprintable():
        raise ValueError(text)
    return text
