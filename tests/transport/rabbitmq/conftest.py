"""Fixtures of several tests of the dispatcher."""

import pytest

from tests.support.fake_channel import Channel


@pytest.fixture
def channel() -> Channel:
    return Channel().open()
