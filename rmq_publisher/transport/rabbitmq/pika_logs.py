"""pika's log lines about our connections, which repeat at length what ours say in one."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ours = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop pika's warnings and errors in the calling thread, unless its logger is set to DEBUG."""
    _ours.quiet = True
    try:
        yield
    finally:
        _ours.quiet = False


def _is_shown(record: logging.LogRecord) -> bool:
    if record.levelno < logging.WARNING or not getattr(_ours, "quiet", False):
        return True
    return logging.getLogger("pika").isEnabledFor(logging.DEBUG)


# Each by itself: a logger's filter does not see what its children log. All are made by now, since the
# modules that use this one import pika.
for _name in list(logging.root.manager.loggerDict):
    if _name.partition(".")[0] == "pika":
        logging.getLogger(_name).addFilter(_is_shown)
