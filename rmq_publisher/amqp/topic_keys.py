"""How topic exchanges compare a binding's key with a message's.

Keys are words between dots; the empty key has no word at all, so that ``*`` does not match it and
``#`` does.
"""


def topic_matches(pattern: str, key: str) -> bool:
    """Return whether a topic binding key matches: ``*`` is one word, ``#`` any number, even none."""
    words = _words(key)
    reached = {0}  # how many words the pattern so far can stand for
    for part in _words(pattern):
        if part == "#":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(words) and part in ("*", words[n])}
        if not reached:
            return False
    return len(words) in reached


def _words(key: str) -> list[str]:
    return key.split(".") if key else []
