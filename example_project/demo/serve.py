"""The example shop on this machine, with a broker, until Ctrl-C."""

import io
import os
import socket
import sys

from .running import LOOKING, MEMORY, DemoError, Site, broker, end_on_sigterm, relay, shop
from .terminal import complain, note, say

USUAL_PORT = 8000


def main() -> int:
    end_on_sigterm()
    try:
        return serve()
    except DemoError as failure:
        complain(str(failure))
        return 1
    except KeyboardInterrupt:
        note("\nThe shop and its broker have been shut down.")
        return 0


def serve() -> int:
    where = port()
    note(LOOKING)
    with broker() as found, shop(found, where) as site:
        say("shop", site.address)
        say("admin", f"{site.address}admin/   login: {login()}")
        if found.url == MEMORY:
            say("broker", "the memory broker: its messages exist only in this process,")
            say("", "and no other consumer can see them")
        else:
            say("broker", str(found))
        if found.rung in ("docker", "local"):  # one of our own, on the loopback address: no secret
            say("", f"{found.url}   queue: shop.orders")
        if site.in_memory:  # it exists in this process only, and so do the messages
            return _wait(site)
        with relay():
            say("relay", "sends what is stored, such as messages from while the broker was down")
            return _wait(site)


def _wait(site: Site) -> int:
    note("Press Ctrl-C to stop everything.")
    return site.server.wait()


def port() -> int | None:
    """PORT, else the usual one where it is free, else any."""
    told = os.environ.get("PORT")
    if not told:
        return USUAL_PORT if is_free(USUAL_PORT) else None
    if not told.isdecimal() or not 0 < int(told) < 65536:
        raise DemoError(f"PORT must be a port number, not {told!r}.")
    if not is_free(int(told)):
        raise DemoError(f"Port {told} is in use; leave PORT unset to use a free one.")
    return int(told)


def is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def login() -> str:
    """Make the admin's login, with a new password each time."""
    from django.core.management import call_command  # noqa: PLC0415  # after Django's setup

    said = io.StringIO()
    call_command("shop_admin", stdout=said)
    return said.getvalue().strip()


if __name__ == "__main__":
    sys.exit(main())
