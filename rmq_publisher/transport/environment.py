"""Whether an I/O thread can live in this process: patched libraries, servers without threads."""

import sys

_GEVENT = (
    "gevent has patched only a part of what is needed: call gevent.monkey.patch_all() before anything "
    "else is imported"
)
_EVENTLET = (
    "eventlet has patched this process, and takes poll() away: use threads (gunicorn's gthread workers) "
    "or gevent"
)
_UWSGI = (
    "uWSGI runs without threads here, so that a connection dies between two requests: set "
    "enable-threads = true"
)


def obstacle() -> str:
    """Return what keeps an I/O thread from its work here, and what to set; empty when nothing does.

    Nothing is imported: what is not loaded is not in the way.
    """
    gevent = sys.modules.get("gevent.monkey")
    threads, polls = (
        gevent is not None and bool(gevent.is_module_patched(name))
        for name in ("threading", "select")
    )
    # A greenlet in a poll() of the system's stops the whole process; a thread in gevent's poll() is
    # not woken.
    if threads != polls:
        return _GEVENT
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and any(map(eventlet.is_monkey_patched, ("thread", "select"))):
        return _EVENTLET
    # uWSGI's own module: 2.0.26 says 0 without enable-threads, 2.0.30 has threads always.
    if not threads and not getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return _UWSGI
    return ""
