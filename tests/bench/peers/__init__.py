"""Who is measured. Each peer's module is imported in a process of its own only."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

OURS = "rmq_publisher"


def _is_installed(module: str) -> bool:
    # Some (kombu) put an object without a spec in their module's place once they are imported.
    return module in sys.modules or importlib.util.find_spec(module) is not None


@dataclass(frozen=True)
class PeerInfo:
    """A peer as the tables name it.

    Attributes:
        name: of its module here.
        label: of its row.
        packages: what it needs besides Django, by their names on PyPI; the first gives the version.
        modules: what is imported of them.
        note: how it is used.
        confirmed_peer: whether it counts when the fastest confirmed peer is looked for.
    """

    name: str
    label: str
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    note: str = ""
    confirmed_peer: bool = True

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        pairs = zip(self.packages, self.modules, strict=True)
        return tuple(package for package, module in pairs if not _is_installed(module))

    @property
    def version(self) -> str:
        try:
            return version(self.packages[0]) if self.packages else ""
        except PackageNotFoundError:
            return ""

    @property
    def title(self) -> str:
        return " ".join(part for part in (self.label, self.version) if part)


PEERS = {
    info.name: info
    for info in (
        PeerInfo("ours", OURS, confirmed_peer=False),
        PeerInfo("beside", f"{OURS} (the other checkout)", confirmed_peer=False),
        PeerInfo("flask_rmq", "Flask-RMQ", ("Flask-RMQ",), ("flask_rmq",)),
        PeerInfo("django_rmq", "django-rmq", ("django-rmq",), ("django_rmq",)),
        PeerInfo("kombu", "kombu", ("kombu",), ("kombu",), "confirm_publish"),
        PeerInfo("aio_pika", "aio-pika", ("aio-pika",), ("aio_pika",)),
        PeerInfo(
            "aio_pika_uvloop",
            "aio-pika",
            ("aio-pika", "uvloop"),
            ("aio_pika", "uvloop"),
            "on uvloop",
        ),
        PeerInfo("dramatiq", "dramatiq", ("dramatiq",), ("dramatiq",), "confirm_delivery"),
        PeerInfo(
            "blocking",
            "pika BlockingConnection",
            note="one a thread, confirms, mandatory: Flask-RMQ's way, as its documentation has it",
        ),
        PeerInfo(
            "native", "librabbitmq", note="in C, the same message: the limit", confirmed_peer=False
        ),
    )
}
