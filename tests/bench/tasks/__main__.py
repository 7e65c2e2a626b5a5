"""Run the benchmark of sending tasks: ``python -m tests.bench.tasks [--quick] [--output FILE]``."""

from __future__ import annotations

import sys

from tests.bench.stored.__main__ import run

from .figures import PARTS, Size

if __name__ == "__main__":
    sys.exit(run("tasks", PARTS, Size, None))
