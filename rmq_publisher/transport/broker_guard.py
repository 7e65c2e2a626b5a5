"""Keeps a project's tests from using a real broker by accident."""

from collections.abc import Iterable

from rmq_publisher.conf.loader import ConnectionSettings, Node

ADVICE = (
    "To see what is published, use rmq_publisher.testing.capture() or the pytest fixture rmq_published; "
    'to route it as well, capture(route=True), the fixture rmq_broker, or RMQ_URL = "memory://". If '
    "the test is meant for a RabbitMQ, {how}."
)


class RealBrokerInTestError(BaseException):
    """A test would have used a real broker by accident.

    Not an Exception: whoever handles a failed publish must not hide it, and neither must a commit hook.
    """


_forbidden: set[Node] = set()  # nodes that tests must not use; empty outside of tests


def forbid(nodes: Iterable[Node]) -> None:
    """Have `check_allowed` refuse connections to any of these nodes, and to no others."""
    _forbidden.clear()
    _forbidden.update(nodes)


def check_allowed(settings: ConnectionSettings) -> None:
    """Raise where a test must not use this connection.

    Raises:
        RealBrokerInTestError: the text names the helpers to use.
    """
    is_accident = not _forbidden.isdisjoint(settings.nodes)
    if settings.memory or (settings.allow_broker and not is_accident):
        return
    how = (
        "mark it with @pytest.mark.rmq_real_broker, or point RMQ_URL at a broker for tests"
        if settings.allow_broker
        else "set RMQ_ALLOW_BROKER = True for it (override_settings)"
    )
    nodes = ", ".join(map(str, settings.nodes))
    raise RealBrokerInTestError(
        f"This test would use RabbitMQ at {nodes} (connection {settings.alias!r}). "
        + ADVICE.format(how=how)
    )
