"""By which name an operator recognises a connection."""

import os
import socket
import sys
from pathlib import Path

from rmq_publisher.conf.loader import ConnectionSettings


def connection_name(settings: ConnectionSettings) -> str:
    """Return what an operator recognises a connection by."""
    return f"{socket.gethostname()} {_program()}[{os.getpid()}] {settings.alias}"


def _program() -> str:
    """What an operator recognises this process by, besides its number."""
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return name.encode("utf-8", "backslashreplace").decode()  # argv may hold any bytes
