"""Retries: what waits where, what is counted, and what nothing may lose."""

from __future__ import annotations

from .mutant import Mutant

LEVELS = "consumer/retry_levels.py"
HEADERS = "consumer/retry_headers.py"
RETRIES = "consumer/retries.py"
STARTS = "consumer/starts.py"
END = "consumer/end_of_attempts.py"
UNFINISHED = "consumer/unfinished.py"
HAND_OVER = "consumer/hand_over.py"
TOPOLOGY = "consumer/retry_topology.py"
OF_LEVELS = ("consumer/test_retry_levels.py",)
OF_HEADERS = ("consumer/test_retry_headers.py",)
CONTRACT = ("integration/test_retries.py",)

MUTANTS = (
    Mutant(
        "a level forgets over a restart",
        "What waits is dead-lettered at least once.",
        LEVELS,
        '            arguments={"x-dead-letter-strategy": "at-least-once"},\n',
        "",
        OF_LEVELS,
    ),
    Mutant(
        "the delay does not double",
        "Each further attempt waits twice as long.",
        LEVELS,
        "shortest * 2 ** min(failures - 1, 64)",
        "shortest * min(failures, 64)",
        OF_LEVELS,
    ),
    Mutant(
        "a retry comes too early",
        "A countdown waits in the smallest level that is not shorter.",
        LEVELS,
        "            if delay >= wait:\n",
        "            if delay * 2 > wait:\n",
        OF_LEVELS,
    ),
    Mutant(
        "a stay is the whole wait",
        "A wait above the longest level takes several stays.",
        LEVELS,
        "return Stay(self.name(delay), delay, wait - delay)",
        "return Stay(self.name(delay), delay)",
        OF_LEVELS,
    ),
    Mutant(
        "an expiring queue has retries",
        "A queue that expires has no retries.",
        LEVELS,
        '    if "x-expires" in arguments:\n',
        "    if False:\n",
        OF_LEVELS,
    ),
    Mutant(
        "a retry is routed by CC again",
        "CC and BCC are not sent with a hand-over.",
        HEADERS,
        "name == X_DEATH or name in _ROUTING or _DEATH",
        "name == X_DEATH or _DEATH",
        OF_HEADERS,
    ),
    Mutant(
        "a retry expires in its level",
        "expiration is not sent with a hand-over.",
        HEADERS,
        '_PROPERTIES = ("expiration", "user_id")',
        '_PROPERTIES = ("user_id",)',
        OF_HEADERS,
    ),
    Mutant(
        "the routing key is the queue's",
        "The handler sees the exchange and the routing key of the publisher.",
        HEADERS,
        "        return (exchange, key) if both else self._place  # type: ignore[return-value]\n",
        "        return self._place\n",
        OF_HEADERS,
    ),
    Mutant(
        "stays are shown as deaths",
        "The handler does not see the deaths of levels.",
        HEADERS,
        'isinstance(one, Mapping) and not is_level(one.get("queue"))]',
        "isinstance(one, Mapping)]",
        OF_HEADERS,
    ),
    Mutant(
        "sent back and given up at once",
        "A message that was sent back from the dead letters starts with its first attempt.",
        HEADERS,
        'return any(death.get("queue") == self._queue for death in _deaths(self._headers))',
        "return False",
        OF_HEADERS,
    ),
    Mutant(
        "acknowledged before the confirm",
        "A hand-over is confirmed before the ack.",
        RETRIES,
        "            failure = hand_over.send(self._options.alias, envelope)\n",
        "            given.ack()\n            failure = hand_over.send(self._options.alias, envelope)\n",
        CONTRACT,
    ),
    Mutant(
        "a hand-over that failed is acknowledged",
        "A message whose hand-over failed stays unacknowledged.",
        RETRIES,
        "            if failure is not None:\n                return str(failure)\n",
        "",
        CONTRACT,
    ),
    Mutant(
        "one attempt too many",
        "There are max_attempts attempts.",
        RETRIES,
        "last = attempt >= self._options.max_attempts",
        "last = attempt > self._options.max_attempts",
        CONTRACT,
    ),
    Mutant(
        "tried past its expiration",
        "A message past its own expiration is not tried again.",
        RETRIES,
        "return deadline is not None and now + wait >= deadline",
        "return False",
        CONTRACT,
    ),
    Mutant(
        "a wait ends at the first stay",
        "A handler does not run between the stays of one wait.",
        RETRIES,
        "        if carried.rest and self._levels.delays:\n",
        "        if False:\n",
        CONTRACT,
    ),
    Mutant(
        "crashes are not counted",
        "A message that kills its workers ends as crashed.",
        RETRIES,
        "        if not self._starts.reason:\n            message.lost_starts",
        "        if False:\n            message.lost_starts",
        CONTRACT,
    ),
    Mutant(
        "a start without an end",
        "The start of a handler is deleted at its end.",
        STARTS,
        "        self._running.discard(key)\n        self._left_over.add(key)\n",
        "        self._running.discard(key)\n",
        CONTRACT,
    ),
    Mutant(
        "each delivery is a start",
        "Only a message whose handler was running counts a lost start.",
        STARTS,
        "        if is_new:\n            return 0\n",
        "        if is_new:\n            return 1\n",
        CONTRACT,
    ),
    Mutant(
        "a start that is not counted runs",
        "Where a start cannot be written, the handler does not run.",
        RETRIES,
        "            return Outcome(Ended.NOT_AN_ATTEMPT, error, database=self._database)\n",
        "            return None\n",
        CONTRACT,
    ),
    Mutant(
        "without a reason",
        "A rejected message says why in its headers.",
        END,
        "        if _readable(message) and not message.carried.error:\n",
        "        if False:\n",
        CONTRACT,
    ),
    Mutant(
        "rejected into nothing",
        "Without a dead-letter exchange the end of attempts is a row.",
        END,
        "        if self._has_exchange:\n",
        "        if True:\n",
        CONTRACT,
    ),
    Mutant(
        "dropped unasked",
        "No message is dropped unless the handler asks for it.",
        END,
        "        if self._drops:\n",
        "        if True:\n",
        CONTRACT,
    ),
    Mutant(
        "no row, no message",
        "A message whose row cannot be written is not acknowledged unless it waits in a level.",
        END,
        "                return why\n            longest",
        '                message.ack()\n                return ""\n            longest',
        CONTRACT,
    ),
    Mutant(
        "a value in a header",
        "The headers say class and place of an error, never its text.",
        END,
        '    return f"{reason}: {type(error).__name__}{place}"\n',
        '    return f"{reason}: {type(error).__name__}{place} {error}"\n',
        CONTRACT,
    ),
    Mutant(
        "its handler runs again",
        "A handler does not run again for a message whose hand-over is left.",
        UNFINISHED,
        "                if job.key == key and not job.message.is_current:\n",
        "                if False:\n",
        CONTRACT,
    ),
    Mutant(
        "never tried again",
        "A hand-over that failed is tried again.",
        UNFINISHED,
        "        for job in due:\n            if not self._closed:\n",
        "        for job in due:\n            if False:\n",
        CONTRACT,
    ),
    Mutant(
        "a worker starts without its levels",
        "A worker names the retry queues that are missing.",
        TOPOLOGY,
        "    found = list(_missing_levels(options, levels.names))\n",
        "    found: list[str] = []\n",
        ("integration/test_retry_topology.py",),
    ),
    Mutant(
        "old levels are forgotten",
        "rmq_check lists retry queues that no handler needs any more.",
        "consumer/old_levels.py",
        "        if name not in needed and (messages",
        "        if name in needed and (messages",
        ("management/test_declare_and_check.py",),
    ),
)
