"""Run the benchmark of consuming: ``python -m tests.bench.consuming [--quick] [--output FILE]``."""

from __future__ import annotations

import sys

from tests.bench.stored.__main__ import run

from .figures import PARTS, Size

if __name__ == "__main__":
    sys.exit(run("consuming", PARTS, Size, None))
