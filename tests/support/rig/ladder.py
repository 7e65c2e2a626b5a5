"""Finds a broker for the suite: a URL, else Docker, else a local server; never none in silence.

`RMQ_TEST_URL` names a broker, `RMQ_TEST_IMAGE` the Docker image, and `RMQ_TEST_RUNG` (url, docker
or local) allows one rung only.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from . import wire
from .node import NodeError, PrivateNode, server_program

DEFAULT_IMAGE = "rabbitmq:4"
# Set by the process that found the broker, for xdist's workers.
_SHARED = "_RMQ_TEST_SHARED_BROKER"


class NoBrokerError(Exception):
    """No rung holds; the text says what to install."""


class _RungError(Exception):
    """Go on to the next rung."""


@dataclass
class Broker:
    """The broker that the suite runs against."""

    url: str
    rung: str
    description: str  # product and version
    _stop: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "localhost"

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (5671 if parts.scheme == "amqps" else 5672)

    @property
    def version(self) -> tuple[int, ...]:
        """For what differs between versions: (4, 3, 6)."""
        return tuple(int(part) for part in re.findall(r"\d+", self.description)[:3])

    def __str__(self) -> str:
        return f"{self.description} ({self.rung}, {self.host}:{self.port})"

    def share(self) -> None:
        """Let the processes that we start use this one."""
        told = {"url": self.url, "rung": self.rung, "description": self.description}
        os.environ[_SHARED] = json.dumps(told)

    def stop(self) -> None:
        if os.environ.get(_SHARED) and self._stop is not _nothing:
            del os.environ[_SHARED]
        self._stop()


def find_broker() -> Broker:
    """Climb down the ladder; raises `NoBrokerError`."""
    if told := os.environ.get(_SHARED):
        return Broker(**json.loads(told), _stop=_nothing)
    rungs = {"url": _from_url, "docker": _from_docker, "local": _from_local_server}
    wanted = os.environ.get("RMQ_TEST_RUNG", "")
    if wanted and wanted not in rungs:
        raise NoBrokerError(f"RMQ_TEST_RUNG={wanted}: must be one of {', '.join(rungs)}")
    tried = []
    for name in [wanted] if wanted else rungs:
        with warnings.catch_warnings():
            # docker-py leaves a socket open where no engine answers; later it would fail a test.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                return rungs[name]()
            except _RungError as error:
                tried.append(f"  {name}: {error}")
            gc.collect()
    raise NoBrokerError(_advice(tried))


def _advice(tried: list[str]) -> str:
    consequence = (
        "CI must run the suite against a real broker, so it fails here."
        if os.environ.get("CI")
        else "Do one of these: set RMQ_TEST_URL=amqp://..., start a Docker engine, or install "
        "RabbitMQ (on Debian and Ubuntu: apt-get install rabbitmq-server; the service need "
        "not run)."
    )
    return "\n".join(["The tests need a RabbitMQ broker and found none.", *tried, consequence])


def _nothing() -> None:
    """The broker is somebody else's to stop."""


def _from_url() -> Broker:
    url = os.environ.get("RMQ_TEST_URL")
    if not url:
        raise _RungError("RMQ_TEST_URL is not set")
    try:
        return Broker(url, "url", wire.product(url), _nothing)
    except wire.NotAnsweringError as error:
        # It was asked for by name: another broker in its place would be a surprise.
        where = f"{urlsplit(url).hostname}:{urlsplit(url).port}"
        raise NoBrokerError(f"RMQ_TEST_URL: no broker answers at {where} ({error})") from error


def _from_docker() -> Broker:
    image = os.environ.get("RMQ_TEST_IMAGE", DEFAULT_IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # testcontainers warns of itself when imported
        try:
            from docker.errors import DockerException  # type: ignore[import-untyped] # noqa: PLC0415
            from testcontainers.community.rabbitmq import RabbitMqContainer  # noqa: PLC0415
        except ImportError as error:
            raise _RungError(f"testcontainers is not installed ({error})") from error
        try:
            container = RabbitMqContainer(image)
        except DockerException as error:
            raise _RungError(f"no Docker engine answers ({error})") from error
        try:
            container.start()
            url = (
                f"amqp://{container.username}:{container.password}"
                f"@{container.get_container_host_ip()}"
                f":{container.get_exposed_port(container.port)}/%2F"
            )
            return Broker(url, "docker", wire.product(url), container.stop)
        except (DockerException, TimeoutError, wire.NotAnsweringError) as error:
            with contextlib.suppress(Exception):
                container.stop()
            raise _RungError(f"the image {image} did not start ({error})") from error


def _from_local_server() -> Broker:
    if server_program() is None:
        raise _RungError("no rabbitmq-server is installed")
    node = PrivateNode()
    try:
        node.start()
        return Broker(node.url(), "local", wire.product(node.url()), node.discard)
    except NodeError as error:
        node.discard()
        raise _RungError(str(error)) from error
