"""The scenarios by name."""

from __future__ import annotations

from collections.abc import Callable

from .inputs import inputs
from .nodes import nodes
from .poison import poison
from .result import Result
from .stage import Stage
from .states import never_hangs
from .stream import torn_stream
from .threads import many_threads

SCENARIOS: dict[str, Callable[[Stage], Result]] = {
    "hangs": never_hangs,
    "threads": many_threads,
    "stream": torn_stream,
    "poison": poison,
    "inputs": inputs,
    "nodes": nodes,
}
