"""What several tests of transactions share."""

from contextlib import contextmanager

from django.db import transaction


class Undo(Exception):
    """Rolls a block back."""


class HookError(Exception):
    """What another app's commit hook raises."""


@contextmanager
def undone(database=None):
    """A block that is rolled back by an exception at its end."""
    try:
        with transaction.atomic(using=database):
            yield
            raise Undo
    except Undo:
        pass


def rolled_back():
    """A savepoint that is rolled back: Django puts a new list of hooks in the place of the old."""
    with undone():
        pass
