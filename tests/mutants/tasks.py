"""Breakages of what sends tasks to Celery workers, and of what tests say about them."""

from __future__ import annotations

from .mutant import Mutant

AMQP = ("contrib/celery/test_amqp.py",)
CHECKS = ("contrib/celery/test_checks.py",)
TASK = ("contrib/celery/test_task.py",)
ASSERTIONS = ("testing/test_tasks.py",)

MUTANTS = (
    Mutant(
        "a retry is rolled back",
        "What a Celery task sends under its own id belongs to no transaction.",
        "contrib/celery/amqp.py",
        '            return {"delivery": "now"}\n',
        '            return {"delivery": "on_commit"}\n',
        AMQP,
    ),
    Mutant(
        "a replacement is rolled back",
        "The chain or chord that replaces a Celery task belongs to no transaction.",
        "contrib/celery/amqp.py",
        "    return deeper or bool(",
        "    return bool(",
        AMQP,
    ),
    Mutant(
        "a replacing chord is never unlocked",
        "What unlocks a chord that replaces a task belongs to no transaction.",
        "contrib/celery/amqp.py",
        '        nesting, task_id = sends.get("replaced_task_nesting"), sends.get("task_id")\n',
        "        del sends\n",
        AMQP,
    ),
    Mutant(
        "the table holds what unlocks a chord",
        "The task that unlocks a chord waits in the worker.",
        "contrib/celery/amqp.py",
        " and self._name != _CHORD_UNLOCK:",
        ":",
        AMQP,
    ),
    Mutant(
        "a broadcast needs a worker",
        "Celery's broadcasts are sent whether a worker listens or not.",
        "contrib/celery/amqp.py",
        'arguments["mandatory"] = not self._fanout',
        'arguments["mandatory"] = True',
        AMQP,
    ),
    Mutant(
        "what unlocks a chord goes first",
        "A task without priority has 0, as the others: it does not overtake them on RabbitMQ 4.3.",
        "contrib/celery/amqp.py",
        'priority = options.get("priority") or 0',
        'priority = options.get("priority")',
        AMQP,
    ),
    Mutant(
        "protocol 1 has no id",
        "Messages of Celery's protocol 1 are found by the task's id, too.",
        "contrib/celery/amqp.py",
        "about = body if isinstance(body, dict) else options.get(",
        "about = options.get(",
        AMQP,
    ),
    Mutant(
        "any port is the same broker",
        "Another port is another broker, unless one of the two is for TLS.",
        "contrib/celery/broker.py",
        "own.port == other.port or own.tls != other.tls",
        "True",
        CHECKS,
    ),
    Mutant(
        "a vhost is as good as another",
        "A task is sent to the vhost of the app's broker_url, or not at all.",
        "contrib/celery/broker.py",
        'if (vhost or "/") != (own := settings.nodes[0].vhost):',
        'if (vhost or "/") != (own := settings.nodes[0].vhost) and not own:',
        CHECKS,
    ),
    Mutant(
        "a task goes to another broker",
        "A task is not sent where the app's workers would not get it.",
        "contrib/celery/amqp.py",
        "        check_same_broker(self._producer.connection, loader.connection(using))\n",
        "",
        CHECKS,
    ),
    Mutant(
        "arguments make no difference",
        "assert_task_sent compares what a task is called with.",
        "testing/tasks.py",
        "_text(_part(body, name)) == _text(made)",
        "bool(_text(made))",
        ASSERTIONS,
    ),
    Mutant(
        "a countdown is for the worker",
        "A CeleryTask with a countdown waits in the table.",
        "contrib/celery/sending.py",
        'settings.celery_schedule or "table")',
        'settings.celery_schedule or "worker")',
        TASK,
    ),
    Mutant(
        "a group in pieces",
        "The tasks of a group leave together, or none does.",
        "contrib/celery/groups.py",
        '            with transaction.atomic(options.get("database") or _database(messages)):\n',
        "            if True:\n",
        TASK,
    ),
)
