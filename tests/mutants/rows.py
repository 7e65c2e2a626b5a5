"""Rows on their way: claims, order within a key, leases, the settler and the relay."""

from __future__ import annotations

from .mutant import Mutant

CLAIMS = "claims.py"
KEYS = "keys.py"
FLIGHT = "flight.py"
SETTLING = "settling.py"
RELAY = "relay.py"
DIALECT = "dialect.py"

MUTANTS = (
    Mutant(
        "a relay takes what is leased",
        "The relay claims by lease; what somebody holds is left alone.",
        DIALECT,
        '        text = f"available_at <= {self.now} AND state',
        '        text = f"(available_at <= {self.now} OR available_at IS NOT NULL) AND state',
        ("test_claims.py",),
    ),
    Mutant(
        "claims wait for each other",
        "What somebody is about to take is skipped and not waited for.",
        CLAIMS,
        "LIMIT {limit:d} FOR UPDATE SKIP LOCKED\n",
        "LIMIT {limit:d} FOR UPDATE\n",
        ("test_claims.py",),
    ),
    Mutant(
        "a dead one lets its key go",
        "A dead message holds its key until a person decides.",
        KEYS,
        "_KEYED = \"state IN ('pending', 'failed', 'dead') AND",
        "_KEYED = \"state IN ('pending', 'failed') AND",
        ("test_claims.py",),
    ),
    Mutant(
        "two of a key in flight",
        "A message is never in flight with an earlier one of its key.",
        FLIGHT,
        "            if not row.ordering_key:\n                ready.append(row)\n",
        "            if True:\n                ready.append(row)\n",
        ("test_flight.py",),
    ),
    Mutant(
        "sent past the lease",
        "A row whose lease is over is not sent any more.",
        FLIGHT,
        "        late = [row for row in rows if row.own_until <= now]\n",
        "        late = []\n",
        ("test_flight.py",),
    ),
    Mutant(
        "the rest of a run goes on",
        "Where one of a key fails, those behind it are not sent.",
        FLIGHT,
        "            if sending.error is None and run:\n",
        "            if run:\n",
        ("test_flight.py",),
    ),
    Mutant(
        "what failed is marked as sent",
        "A row is deleted only when it was confirmed.",
        SETTLING,
        "            if outcome is None:\n",
        "            if outcome is not NOT_SENT:\n",
        ("test_settler.py", "test_relay.py"),
    ),
    Mutant(
        "what was not sent is kept",
        "Rows that were not sent are given back at once.",
        SETTLING,
        "            outbox.release(self.database, self.unsent)\n",
        "            pass\n",
        ("test_settler.py", "test_relay.py"),
    ),
    Mutant(
        "the relay claims for a broker that is away",
        "Rows are claimed only for aliases whose broker is up.",
        RELAY,
        '            if status.state == "open" and not status.blocked:\n',
        "            if True:\n",
        ("test_relay.py",),
    ),
    Mutant(
        "the outbox counts silence as an attempt",
        "Only an answer about the message counts as an attempt.",
        "outbox.py",
        "    if type(error).__name__ in ANSWERS:\n",
        "    if True:\n",
        ("test_outbox.py",),
    ),
)
