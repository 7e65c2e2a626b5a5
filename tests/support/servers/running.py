"""Other processes that publish: scripts, and real servers of `tests.support.servers.app`."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

from tests.support.calls import PATIENCE, eventually
from tests.support.rig.ports import free_port, release_port
from tests.support.rig.proxy import Proxy

_PRELUDE = """
import atexit, gc, json, os, signal, sys, threading, time
from django.conf import settings
url, queue, options = json.loads(sys.argv[1])
settings.configure(
    RMQ_URL=url,
    SILENCED_SYSTEM_CHECKS=["rmq_publisher.W014"],  # these scripts do without the app
    **{"RMQ_PUBLISH_TIMEOUT": 20, **options},
)
import django
django.setup()

def say(**told):
    os.write(1, (json.dumps(told) + "\\n").encode())  # one write, whole lines from all processes

def now(body=b"x"):
    from rmq_publisher import publish
    return publish(body, queue=queue, delivery="now")

def status():
    from rmq_publisher import connections
    return connections["default"].status()
"""

# What is left open is told on standard error, which must stay empty. Python 3.12 and later warn of
# every fork beside threads; forking beside them is the point.
_WARNINGS = ("-W", "default::ResourceWarning", "-W", "ignore::DeprecationWarning")


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}


class Script:
    """A process that publishes through the proxy, and what it said."""

    def __init__(
        self, text: str, proxy: Proxy, queue: str, *, before: str = "", **options: Any
    ) -> None:
        arguments = json.dumps([proxy.url, queue, options])
        self.process = subprocess.Popen(
            [sys.executable, *_WARNINGS, "-c", before + _PRELUDE + text, arguments],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> dict[str, Any]:
        """The next thing that it says."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def say(self, line: str) -> None:
        """Give it something to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self, timeout: float = PATIENCE, code: int = 0) -> list[dict[str, Any]]:
        """Let it come to its end, and return the rest of what it said."""
        out, err = self.process.communicate("go\n", timeout=timeout)
        assert (self.process.returncode, err) == (code, ""), err[-2000:]
        return [json.loads(line) for line in out.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Server:
    """A server of `tests.support.servers.app`; its port is put where its arguments say PORT."""

    def __init__(
        self,
        command: list[str],
        proxy: Proxy,
        queue: str,
        *,
        preload: bool = False,
        **options: Any,
    ) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, *(word.replace("PORT", str(self.port)) for word in command)],
            env=_environment(SERVED=json.dumps([proxy.url, queue, options, preload])),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._said.extend(self.process.stdout)

    def __enter__(self) -> Self:
        eventually(lambda: self._up() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()
        release_port(self.port)

    def _up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @property
    def said(self) -> str:
        """Its output so far."""
        return "".join(self._said)

    def get(self, path: str) -> dict[str, Any]:
        """What a view answers.

        Raises:
            OSError, http.client.HTTPException: the server is not there, or ended meanwhile.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"{answer.status} {body!r}\n{self.said}"
        return json.loads(body)  # type: ignore[no-any-return]

    def ended(self) -> int:
        """Wait for its end."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Crowd:
    """Clients that ask for one page again and again, until the server has gone or they are stopped."""

    def __init__(self, server: Server, path: str, size: int) -> None:
        self.answers: list[dict[str, Any]] = []
        self._server = server
        self._path = path
        self._stop = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop:
            try:
                self.answers.append(self._server.get(self._path))
            except (OSError, http.client.HTTPException):
                continue  # a worker that ends may leave a client without an answer

    def wait(self, holds: Callable[[list[dict[str, Any]]], Any]) -> None:
        """Wait until the answers so far are such."""
        eventually(lambda: holds(list(self.answers)))

    def stop(self) -> list[dict[str, Any]]:
        self._stop = True
        for thread in self._threads:
            thread.join(PATIENCE)
        return self.answers
