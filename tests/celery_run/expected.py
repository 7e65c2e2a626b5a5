"""What a client expects of each task that it has sent, for the process that compares."""

import json
import sys
from datetime import datetime


class Expected:
    """Results by task id."""

    def __init__(self) -> None:
        self.results: dict[str, list[object]] = {}

    def equals(self, task_id: str, value: object) -> None:
        self.results[task_id] = ["equals", value]

    def not_before(self, moment: datetime, task_id: str) -> None:
        """It returns the time at which it runs, which is not earlier than this."""
        self.results[task_id] = ["not before", moment.timestamp()]

    def nothing(self, task_id: str) -> None:
        self.results[task_id] = ["nothing"]

    def tell(self) -> None:
        json.dump(self.results, sys.stdout)


def described(value: object) -> object:
    """As the task `run.echo` describes it."""
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    return [type(value).__name__, value.hex() if isinstance(value, bytes) else str(value)]
