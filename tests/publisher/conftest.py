"""Fixtures of several tests of publishing."""

import pytest

from rmq_publisher import signals


@pytest.fixture
def failed():
    """The errors that publish_failed told."""
    errors = []

    def receive(error, **_):
        errors.append(error)

    signals.publish_failed.connect(receive)
    yield errors
    signals.publish_failed.disconnect(receive)
