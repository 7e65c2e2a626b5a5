"""What a relay logs about a database that it cannot use."""

import pytest
from django.db import OperationalError

from rmq_publisher.db.errors import reason


class _Statement(Exception):  # as psycopg's errors of statements
    sqlstate = "57014"


def _raised_from(cause: Exception) -> OperationalError:
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (_Statement("canceled: INSERT INTO t VALUES ('secret')"), "_Statement (code 57014)"),
        (Exception(1366, "Incorrect string value: 'secret'"), "Exception (code 1366)"),
        (
            Exception("connection to server failed:\n refused"),
            "connection to server failed: refused",
        ),
        (Exception(2003, "Can't connect"), '(2003, "Can\'t connect")'),
    ],
)
def test_only_a_failure_to_connect_is_logged_in_the_drivers_words(cause, text):
    assert reason(_raised_from(cause)) == text
