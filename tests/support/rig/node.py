"""A real RabbitMQ node of our own: to kill, freeze, block and restart without hurting anybody."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from . import PATIENCE, wire
from .admin import Admin
from .certificates import Certificates
from .erlang import Epmd, clean_environment, guard, release_guard, remote_eval, without_plugins
from .ports import free_port, release_port

START_TIMEOUT = 60.0
# Light on a small machine: two schedulers, and no busy waiting next to the code under test.
_ERL_ARGS = "-noinput -start_epmd false +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
# What a queue did not take is dead-lettered again after this time; by default three minutes.
_SOON = "-rabbit dead_letter_worker_publisher_confirm_timeout 500"
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_PLACES = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
)


class NodeError(RuntimeError):
    """The node did not do what it was told."""


def server_program() -> str | None:
    """The server's own script; the one on Debian's PATH is a wrapper that changes the user."""
    places = (os.environ.get("RMQ_TEST_SERVER", ""), *_PLACES)
    found = next((place for place in places if place and os.access(place, os.X_OK)), None)
    return found or shutil.which("rabbitmq-server")


class PrivateNode(Admin):
    """One node on private ports, with all that it writes in a temporary directory."""

    plugins: ClassVar[tuple[str, ...]] = ()  # that are enabled

    def __init__(
        self,
        *,
        tls: bool = False,
        epmd: Epmd | None = None,
        cookie: str | None = None,
        config: str = "",
    ) -> None:
        self.nodename = f"rig{secrets.token_hex(4)}@localhost"
        self.port = free_port()
        self._dist_port = free_port()
        self.tls_port = free_port() if tls else None
        self.directory = Path(tempfile.mkdtemp(prefix="rmq-rig-"))
        self.certificates = Certificates(self.directory / "tls") if tls else None
        self._cookie = cookie or secrets.token_hex(16)
        self._config = config
        self._epmd = epmd or Epmd()
        self._owns_epmd = epmd is None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.frozen = False
        atexit.register(self.discard)

    # -- life ---------------------------------------------------------------------------------

    def start(self, wait: bool = True) -> Self:
        """Boot it; with `wait=False` call `wait_ready()` later."""
        program = server_program()
        if program is None:
            raise NodeError("no rabbitmq-server here; on Debian: apt-get install rabbitmq-server")
        self._write_files()
        slim = {} if self.plugins else without_plugins(program, self.directory)
        self._epmd.start()
        with (self.directory / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [program],
                env=self._environment() | slim,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is pytest's, not the node's
            )
        self._guard = guard(self._process.pid, self.directory)
        return self.wait_ready() if wait else self

    def wait_ready(self, timeout: float = START_TIMEOUT) -> Self:
        """Return once it greets a client: the listeners are the last thing it opens."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                wire.hello(self.url())
                if self.tls_port is not None:
                    wire.hello(self.tls_url())  # opened after the plain one
                return self
            except wire.NotAnsweringError as error:
                why = error
            if self._process is None or self._process.poll() is not None:
                raise NodeError(f"{self.nodename} ended while starting:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise NodeError(f"{self.nodename} not up ({why}):\n{self.log_tail()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The pid of the Erlang machine: the server's script turns into it by exec."""
        if self._process is None:
            raise NodeError(f"{self.nodename} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def epmd_port(self) -> int:
        return self._epmd.port

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no connection is closed politely."""
        self._end(signal.SIGKILL, 10)

    def restart(self, wait: bool = True) -> Self:
        """Boot again on the same ports and data, after `kill()` or out of a running state."""
        if self.running:
            self.kill()
        return self.start(wait)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    def stop(self) -> None:
        """Shut it down in order (a second or two) and leave nothing behind."""
        self._finish(signal.SIGTERM)

    def discard(self) -> None:
        """The same without ceremony, within milliseconds."""
        self._finish(signal.SIGKILL)

    def _finish(self, with_signal: signal.Signals) -> None:
        if os.getpid() != self._owner:
            return  # a forked child's exit must not take the parent's node away
        atexit.unregister(self.discard)
        self.thaw()
        self._end(with_signal, 15)
        if self._owns_epmd:
            self._epmd.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        for port in (self.port, self._dist_port, self.tls_port):
            if port is not None:
                release_port(port)

    def present(self, certificate: Path, key: Path) -> None:
        """Show this certificate to connections from now on."""
        if self.certificates is None:
            raise NodeError("this node was made without tls=True")
        self.certificates.present(certificate, key)
        self.eval("ssl:clear_pem_cache()")

    def heal(self) -> None:
        """Back to a fresh state for the next test: up, unblocked, empty, the default user."""
        if self.frozen:
            self.thaw()
        if not self.running:
            self.restart()
        self.wait_ready()
        self.unblock()
        self.clear()
        if self.certificates is not None:
            self.present(*self.certificates.server)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, *exc: object) -> None:
        self.discard()

    # -- looking at it ------------------------------------------------------------------------

    def url(self, user: str | None = None, password: str | None = None, vhost: str = "/") -> str:
        return f"amqp://{self._login(user, password)}@127.0.0.1:{self.port}/{quote(vhost, '')}"

    def tls_url(
        self,
        user: str | None = None,
        password: str | None = None,
        vhost: str = "/",
        host: str = "localhost",
    ) -> str:
        if self.tls_port is None:
            raise NodeError("this node was made without tls=True")
        login = self._login(user, password)
        return f"amqps://{login}@{host}:{self.tls_port}/{quote(vhost, '')}"

    def eval(self, expression: str, timeout: float = PATIENCE) -> str:
        """The value of an Erlang expression on the node, as Erlang prints it."""
        env = self._environment()
        return remote_eval(self.nodename, expression, env, timeout)

    def log_tail(self, lines: int = 40) -> str:
        text = [
            f"--- {path.name}\n"
            + "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
            for path in (self.directory / "console.log", *self._logs())
            if path.exists()
        ]
        return "\n".join(text) or "(nothing was logged)"

    # -- inside -------------------------------------------------------------------------------

    def _login(self, user: str | None, password: str | None) -> str:
        user = "guest" if user is None else user
        return f"{quote(user, '')}:{quote(user if password is None else password, '')}"

    def _logs(self) -> Iterator[Path]:
        yield self.directory / "log" / f"{self.nodename}.log"

    def _end(self, with_signal: signal.Signals, timeout: float) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(with_signal)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        release_guard(self._guard)
        self._guard = None
        self.frozen = False

    def _environment(self) -> dict[str, str]:
        directory = self.directory
        return clean_environment(
            HOME=str(directory / "home"),
            ERL_EPMD_PORT=str(self._epmd.port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=self.nodename,
            RABBITMQ_DIST_PORT=str(self._dist_port),
            RABBITMQ_MNESIA_BASE=str(directory / "data"),
            RABBITMQ_LOG_BASE=str(directory / "log"),
            RABBITMQ_CONFIG_FILE=str(directory / "rabbitmq"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "enabled_plugins"),
            RABBITMQ_PID_FILE=str(directory / "pid"),
            RABBITMQ_CONF_ENV_FILE="/dev/null",
            # Makes the script exec the machine, so that the pid we started is the machine's.
            RABBITMQ_ALLOW_INPUT="true",
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=f"{_ERL_ARGS} {_LOOPBACK} {_SOON}",
        )

    def _write_files(self) -> None:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self._cookie)
            cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].")
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "disk_free_limit.absolute = 1MB",  # a full disk must not raise alarms of its own
            "log.console = false",
            self._config,
        ]
        if self.certificates is not None:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self.certificates.ca_file}",
                f"ssl_options.certfile = {self.certificates.server_file}",
                f"ssl_options.keyfile = {self.certificates.server_key_file}",
                "ssl_options.verify = verify_peer",
                "ssl_options.fail_if_no_peer_cert = false",
            ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
