"""Deliberate breakages of the code, and whether the suite notices each: `python -m tests.mutants`."""
