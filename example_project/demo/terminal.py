"""What the demo tells the person at the terminal."""

import sys


def say(topic: str, text: str = "") -> None:
    sys.stdout.write(f"{topic:<11} {text}".rstrip() + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")
