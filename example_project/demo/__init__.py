"""The example, run for real: `python -m example_project.demo`, and `.serve` to look at it."""
