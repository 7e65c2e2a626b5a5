"""A broker, a database and a web server of our own, and their end."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from tests.support.rig.erlang import guard, release_guard
from tests.support.rig.ladder import DEFAULT_IMAGE, Broker, NoBrokerError, find_broker
from tests.support.rig.node import server_program
from tests.support.rig.ports import free_port

from .terminal import note

if TYPE_CHECKING:
    from .inmemory import ServerHere

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 30.0  # seconds
LOOKING = "Looking for a broker: RMQ_URL, a Docker engine, a server on this machine ..."
MEMORY = "memory://"
ADVICE = (
    "To have one, set RMQ_URL=amqp://..., start a Docker engine, or install RabbitMQ "
    "(on Debian and Ubuntu: apt-get install rabbitmq-server; the service need not run)."
)


class DemoError(Exception):
    """Something went wrong; the text is for the person at the terminal."""


@dataclass(frozen=True)
class Site:
    """The shop, being served."""

    broker: Broker
    server: "Server | ServerHere"
    declared: str  # what rmq_declare said

    @property
    def in_memory(self) -> bool:
        return self.broker.url == MEMORY

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"


def end_on_sigterm() -> None:
    """Let an end from outside pass through the `finally`s as Ctrl-C does."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


@contextlib.contextmanager
def broker() -> Iterator[Broker]:
    """Use RMQ_URL's, or one in Docker, or a private local one that ends with us, or none."""
    url = os.environ.get("RMQ_URL", "")
    found = _in_memory() if url == MEMORY else _find(url)
    try:
        yield found
    finally:
        found.stop()


def _in_memory() -> Broker:
    return Broker(MEMORY, "memory", "memory broker")


def _find(url: str) -> Broker:
    if url:
        if not url.startswith(("amqp://", "amqps://")):
            raise DemoError("RMQ_URL must be amqp://..., amqps://... or memory://")
        os.environ.update(RMQ_TEST_URL=url, RMQ_TEST_RUNG="url")
    elif not os.environ.get("RMQ_TEST_URL") and server_program() and not _image_is_here():
        os.environ.setdefault("RMQ_TEST_RUNG", "local")  # nobody asked for a large download
    try:
        return find_broker()
    except NoBrokerError as error:
        # That code was written for the tests, and its error names their variable.
        why = str(error).replace("RMQ_TEST_URL", "RMQ_URL")
        if os.environ.get("RMQ_TEST_URL"):  # asked for by name
            raise DemoError(why) from error
    tried = [line for line in why.splitlines() if line.startswith("  ")]
    note("\n".join(["None is available:", *tried, ADVICE]))
    return _in_memory()


def _image_is_here() -> bool:
    image = os.environ.get("RMQ_TEST_IMAGE", DEFAULT_IMAGE)
    command = ["docker", "image", "inspect", image]
    try:
        return not subprocess.run(command, capture_output=True, timeout=5, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextlib.contextmanager
def shop(broker: Broker, port: int | None = None, *, log: bool = False) -> Iterator[Site]:
    """Migrate a new database, declare the topology, serve the shop.

    Args:
        broker: where it publishes to.
        port: where it listens; any free one when None.
        log: whether what the server says goes to a file and not to the terminal.
    """
    with tempfile.TemporaryDirectory(prefix="rmq-shop-") as name:
        directory = Path(name)
        _configure(broker, directory)
        _command("migrate", verbosity=0)
        declared = _command("rmq_declare")
        try:
            with _server(broker, port, directory, log=log) as server:
                yield Site(broker, server, declared)
        finally:
            _hang_up()


def _server(
    broker: Broker, port: int | None, directory: Path, *, log: bool
) -> "Server | ServerHere":
    if broker.url == MEMORY:
        from .inmemory import ServerHere  # noqa: PLC0415  # after Django's setup

        return ServerHere(port, log=not log)
    return Server(port or free_port(), directory, directory / "log" if log else None)


def _configure(broker: Broker, directory: Path) -> None:
    """Set the environment of this process and of the server that it starts."""
    os.environ.setdefault("DATABASE_URL", f"sqlite:///{directory / 'shop.sqlite3'}")
    os.environ.update(
        RMQ_URL=broker.url,
        DJANGO_SETTINGS_MODULE="example_project.settings",
        DJANGO_RUNSERVER_HIDE_WARNING="true",
    )
    import django  # noqa: PLC0415  # only now does it know its settings

    django.setup()
    # Its log lines about the connection would appear between our lines.
    logging.getLogger("rmq_publisher").setLevel(logging.ERROR)


@contextlib.contextmanager
def relay() -> Iterator[None]:
    """Run a relay for the shop's database."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "rmq_relay", "-v", "2"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # as the server
    )
    guarded = guard(process.pid)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        release_guard(guarded)


def _hang_up() -> None:
    """Close this process's connection while the broker is still there."""
    from rmq_publisher import connections  # noqa: PLC0415

    connections.close()


def _command(name: str, **options: object) -> str:
    from django.core.management import CommandError, call_command  # noqa: PLC0415

    said = StringIO()
    try:
        call_command(name, stdout=said, stderr=said, **options)
    except CommandError as error:
        raise DemoError(f"{name} failed: {error}\n{said.getvalue()}".rstrip()) from error
    return said.getvalue()


class Server:
    """Django's own web server, a process of ours."""

    def __init__(self, port: int, directory: Path, log: Path | None) -> None:
        self.port = port
        self._directory = directory
        self._log = log

    def __enter__(self) -> Self:
        command = ["manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self._log.open("wb")) if self._log else None
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the terminal is ours; we end it ourselves
            )
        # Ends it, and clears up, even when we are killed.
        self._guard = guard(self._process.pid, self._directory)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        release_guard(self._guard)

    def wait(self) -> int:
        """Wait for its end."""
        return self._process.wait()

    def last_words(self) -> str:
        if self._log is None:
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        said = f"The web server did not start on port {self.port}.\n{self.last_words()}"
        raise DemoError(said.rstrip())
