"""Handlers and their worker: what a run means, the inbox, stops and pauses."""

from __future__ import annotations

from .mutant import Mutant

WORK = "consumer/handler_work.py"
CALL = "consumer/handler_call.py"
INBOX = "consumer/inbox.py"
BATCH = "consumer/once_batch.py"
LANE = "consumer/lane.py"
WORKER = "consumer/worker.py"
DATABASES = "consumer/databases.py"
MODE = "publisher/delivery_mode.py"
HANDLING = ("integration/test_handling.py",)
ONCE = ("integration/test_inbox.py",)
RUNNING = ("integration/test_worker.py",)
CHECKED = ("consumer/test_handler_problems.py",)
COMMAND = ("management/test_consume_options.py",)

MUTANTS = (
    Mutant(
        "a handler settles its message",
        "A handler may not settle its message itself.",
        WORK,
        "        message.guarded = True\n",
        "        message.guarded = False\n",
        HANDLING,
    ),
    Mutant(
        "a missing broker is an attempt",
        "BrokerUnavailable is no attempt.",
        CALL,
        "                return Outcome(Ended.NOT_AN_ATTEMPT, error)\n",
        "                return Outcome(Ended.FAILED, error)\n",
        HANDLING,
    ),
    Mutant(
        "a lost database is an attempt",
        "A failure with a database that cannot be used afterwards is no attempt.",
        CALL,
        "        if database := unusable_database():\n",
        "        if database := None:\n",
        HANDLING,
    ),
    Mutant(
        "SystemExit ends a worker",
        "Whatever a handler raises, the worker goes on.",
        CALL,
        "        except BaseException as error:  # noqa: BLE001 (whatever",
        "        except Exception as error:  # noqa: BLE001 (whatever",
        HANDLING,
    ),
    Mutant(
        "a context for all messages",
        "What a handler sets in its context is not for the next message.",
        CALL,
        "            contextvars.copy_context().run(self._options.function, body, message)\n",
        "            self._options.function(body, message)\n",
        HANDLING,
    ),
    Mutant(
        "a database connection for each message",
        "A connection to the database is not closed after each message.",
        DATABASES,
        "            connection.close_at = None\n",
        "            connection.close()\n",
        HANDLING,
    ),
    Mutant(
        "a duplicate runs",
        "A duplicate is acknowledged without calling the handler.",
        CALL,
        "        if is_new:\n",
        "        if True:\n",
        ONCE,
    ),
    Mutant(
        "another body under the same id",
        "The same id with another body goes to the dead letters.",
        INBOX,
        "        if found is not None and found[0] != digest:\n",
        "        if False:\n",
        ONCE,
    ),
    Mutant(
        "work that was undone is acknowledged",
        "A handler that returns with a transaction that can only be rolled back has failed.",
        INBOX,
        "        if connection.needs_rollback or getattr(info,",
        "        if False and getattr(info,",
        ONCE,
    ),
    Mutant(
        "on_commit from a handler with once",
        "In a handler with once=True a message is stored in its transaction.",
        INBOX,
        "            with transaction.atomic(using=self.database), only_outbox():\n",
        "            with transaction.atomic(using=self.database):\n",
        ONCE,
    ),
    Mutant(
        "a batch without savepoints",
        "In a batch, a failure rolls back the work of its own message only.",
        BATCH,
        "                with transaction.atomic(using=inbox.database):\n",
        "                if True:\n",
        ONCE,
    ),
    Mutant(
        "a stop leaves the threads at work",
        "After a stop, running handlers finish and no new ones start.",
        LANE,
        "            while not self.stopping and self._cycle(run):\n",
        "            while self._cycle(run):\n",
        RUNNING,
    ),
    Mutant(
        "a pause keeps the messages",
        "While nothing can be handled, messages are returned to their queue.",
        LANE,
        "            self._consumer.give_back()\n",
        "            pass\n",
        RUNNING,
    ),
    Mutant(
        "a pause that ends at once",
        "A queue pauses until the outage is over.",
        LANE,
        "            if not self.stopping and self.work.is_possible(outcome):\n",
        "            if not self.stopping:\n",
        RUNNING,
    ),
    Mutant(
        "a hung handler is never reported",
        "A handler that runs longer than its timeout is logged.",
        WORKER,
        "            if run.messages and not run.is_reported and now - run.since > timeout:\n",
        "            if False:\n",
        RUNNING,
    ),
    Mutant(
        "a limit of each thread",
        "--limit bounds the messages of all handlers together.",
        "consumer/budget.py",
        "            taken = min(most, self._left)\n",
        "            taken = most\n",
        COMMAND,
    ),
    Mutant(
        "two handlers of one queue are fine",
        "Two handlers on one queue are an Error.",
        "consumer/handler_problems.py",
        "        if first is not handler:\n",
        "        if False:\n",
        CHECKED,
    ),
)
