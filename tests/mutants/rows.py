"""Rows on their way: claims, order within a key, leases, the settler and the relay."""

from __future__ import annotations

from .mutant import Mutant

CLAIMS = "outbox/claims.py"
KEYS = "outbox/ordering_keys.py"
FLIGHT = "outbox/in_flight.py"
SETTLING = "outbox/completer.py"
RELAY = "outbox/relay.py"
DIALECT = "outbox/sql_dialect.py"

MUTANTS = (
    Mutant(
        "a relay takes what is leased",
        "The relay claims by lease; what somebody holds is left alone.",
        DIALECT,
        '        text = f"available_at <= {self.now} AND state',
        '        text = f"(available_at <= {self.now} OR available_at IS NOT NULL) AND state',
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "claims wait for each other",
        "What somebody is about to take is skipped and not waited for.",
        CLAIMS,
        "LIMIT {limit:d} FOR UPDATE SKIP LOCKED\n",
        "LIMIT {limit:d} FOR UPDATE\n",
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "a dead one lets its key go",
        "A dead message holds its key until a person decides.",
        KEYS,
        "_KEYED = \"state IN ('pending', 'failed', 'dead') AND",
        "_KEYED = \"state IN ('pending', 'failed') AND",
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "a run goes on over another alias",
        "Rows of one key are sent one after the other, whichever aliases they go to.",
        KEYS,
        "            if not is_due or row_using != using:\n",
        "            if not is_due:\n",
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "somebody else's row is no reason to wait",
        "The writer sends a keyed row only when nothing of its key is before it.",
        KEYS,
        "id_ for (id_,) in rows if id_ not in besides)",
        "id_ for (id_,) in rows[:1] if id_ not in besides)",
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "PostgreSQL plans as it likes",
        "A claim is as quick whatever the planner believes of the table.",
        DIALECT,
        '            self.run(f"SELECT {off}", [])\n',
        "            pass\n",
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "claims look for their rows among all that is due",
        "Rows whose ids are known are found by them.",
        DIALECT,
        'AND CASE WHEN {condition} THEN 1 ELSE 0 END = 1"\n',
        'AND {condition}"\n',
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "MariaDB steps as the others do",
        "The cost of a search among keys is that of the keys looked at.",
        KEYS,
        '    if dialect.connection.vendor == "mysql":\n        return _scan_in_steps',
        '    if dialect.connection.vendor == "none":\n        return _scan_in_steps',
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "a row that cannot be read lets its key go",
        "A dead message holds its key until a person decides.",
        CLAIMS,
        "                held.setdefault(row.ordering_key, [])\n",
        "                pass\n",
        ("outbox/test_claims.py",),
    ),
    Mutant(
        "keys of what cannot be seen",
        "A key that a database takes for none is refused.",
        "outbox/row.py",
        '_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")',
        '_UNSEEN = ("Cs",)',
        ("outbox/test_row.py",),
    ),
    Mutant(
        "two of a key in flight",
        "A message is never in flight with an earlier one of its key.",
        FLIGHT,
        "            if not row.ordering_key:\n                self._ready.append(row)\n",
        "            if True:\n                self._ready.append(row)\n",
        ("outbox/test_in_flight.py",),
    ),
    Mutant(
        "sent past the lease",
        "A row whose lease is over is not sent any more.",
        FLIGHT,
        "            if row.own_until > now:\n",
        "            if True:\n",
        ("outbox/test_in_flight.py",),
    ),
    Mutant(
        "all that is in hand is sent at once",
        "At most a batch is sent and not settled.",
        "outbox/row_sender.py",
        "        room = self.limit - len(self.outcomes)",
        "        room = 10**9 - len(self.outcomes)",
        ("outbox/test_after_commit.py",),
    ),
    Mutant(
        "a turn takes in what comes meanwhile",
        "However fast rows come, their outcomes are settled.",
        "outbox/background_sender.py",
        "        self._take_in()\n",
        "        while self._inbox:\n            self._take_in()\n",
        ("outbox/test_after_commit.py",),
    ),
    Mutant(
        "new rows in the order of their hooks",
        "Rows of a key are sent in the order of their ids.",
        "outbox/background_sender.py",
        'sorted(some, key=attrgetter("id"))',
        "some",
        ("outbox/test_after_commit.py",),
    ),
    Mutant(
        "what cannot be settled is sent on",
        "A settling that fails costs at most a batch of duplicates.",
        "outbox/background_sender.py",
        "                hand.close()  # else",
        "                pass  # else",
        ("outbox/test_after_commit.py",),
    ),
    Mutant(
        "a silent broker takes all the room",
        "A broker that does not answer leaves room for the others' rows.",
        RELAY,
        "            if rows <= self._batch and size",
        "            if len(self._hand) <= self._batch and size",
        (
            "outbox/test_relay.py",
            "management/test_relay.py",
        ),
    ),
    Mutant(
        "the rest of a run goes on",
        "Where one of a key fails, those behind it are not sent.",
        FLIGHT,
        "            if sending.error is None and run:\n",
        "            if run:\n",
        ("outbox/test_in_flight.py",),
    ),
    Mutant(
        "what failed is marked as sent",
        "A row is deleted only when it was confirmed.",
        SETTLING,
        "            if outcome is None:\n",
        "            if outcome is not NOT_SENT:\n",
        ("outbox/test_after_commit.py", "outbox/test_relay.py", "management/test_relay.py"),
    ),
    Mutant(
        "what was not sent is kept",
        "Rows that were not sent are given back at once.",
        SETTLING,
        "            transitions.release(self.database, self.unsent)\n",
        "            pass\n",
        ("outbox/test_after_commit.py", "outbox/test_relay.py", "management/test_relay.py"),
    ),
    Mutant(
        "the relay claims for a broker that is away",
        "Rows are claimed only for aliases whose broker is up.",
        RELAY,
        '            if status.state == "open" and not status.blocked:\n',
        "            if True:\n",
        (
            "outbox/test_relay.py",
            "management/test_relay.py",
        ),
    ),
    Mutant(
        "the outbox counts silence as an attempt",
        "Only an answer about the message counts as an attempt.",
        "outbox/transitions.py",
        "    if type(error).__name__ in ANSWERS:\n",
        "    if True:\n",
        ("outbox/test_transitions.py",),
    ),
)
