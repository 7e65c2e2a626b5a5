"""The shop on the memory broker: served from this process, which alone has the messages."""

import threading
from typing import Any, Self

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class ServerHere:
    """Django's own web server in a thread; to be made once Django is set up.

    Args:
        port: where it listens; any free one when None.
        log: whether it tells each request at the terminal.
    """

    def __init__(self, port: int | None, *, log: bool) -> None:
        handler = WSGIRequestHandler if log else _Silent
        self._server = ThreadedWSGIServer(("127.0.0.1", port or 0), handler)
        self._server.set_app(StaticFilesHandler(get_wsgi_application()))
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> int:
        """Wait for its end."""
        self._thread.join()
        return 0

    def last_words(self) -> str:
        return "It ran in this process: its errors are shown above."


def consume(queue: str) -> list[dict[str, Any]]:
    """Take all messages out of a queue, in the words of consumer.py."""
    from rmq_publisher.testing import memory_broker  # noqa: PLC0415  # after Django's setup

    return [
        {
            "exchange": message.exchange,
            "routing_key": message.routing_key,
            "redelivered": message.redelivered,
            "properties": {key: value for key, value in vars(message.properties).items() if value},
            "body": message.json(),
        }
        for message in memory_broker().drain(queue)
    ]
