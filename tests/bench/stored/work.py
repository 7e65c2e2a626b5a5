"""One process of the benchmark: reads tasks from its standard input, writes what it measured.

Run as ``python -m tests.bench.stored.work PACKAGE.MODULE``, of the packages in `tests.bench`; the
first line says where broker and database are.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def configure_django(told: dict[str, Any], *apps: str, **settings: Any) -> None:
    """Django on the benchmark's database, with the tables of these apps."""
    import django  # noqa: PLC0415 (after the process knows its peer)
    from django.conf import settings as django_settings  # noqa: PLC0415

    django_settings.configure(
        INSTALLED_APPS=list(apps),
        DATABASES={"default": told["database"]},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        SECRET_KEY="only-for-the-benchmark",
        **settings,
    )
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    if told.get("migrate", True):
        for app in apps:
            call_command("migrate", app, verbosity=0)


def main() -> None:
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    peer = importlib.import_module(f"tests.bench.{sys.argv[1]}").Peer(told)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({})
    for line in sys.stdin:
        task = json.loads(line)
        answer(getattr(peer, task.pop("do"))(**task))
    os._exit(0)


if __name__ == "__main__":
    main()
