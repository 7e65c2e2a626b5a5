"""How many examples Hypothesis tries: a quarter in each run of the suite, all in `make thorough`."""

import pytest


def examples(full: int) -> pytest.MarkDecorator:
    """Give a test the parameter `examples`."""
    return pytest.mark.parametrize(
        "examples", [full // 4, pytest.param(full, marks=pytest.mark.thorough)]
    )
