"""What is promised where servers, terminals, several databases or several things come together."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

HOOK = "publisher/commit_hook.py"
ON_COMMIT = "publisher/on_commit.py"
RELAY_COMMAND = "management/commands/rmq_relay.py"
NODES = "transport/rabbitmq/node_selection.py"
DISPATCH = "transport/rabbitmq/dispatcher.py"
PIPELINE = "publisher/test_on_commit_pipeline.py"
RELAY_TESTS = "management/test_relay.py"
NODE_TESTS = "transport/rabbitmq/test_node_selection.py"

MUTANTS = (
    Mutant(
        "one relay fails and the others go on",
        "`rmq_relay` for several databases ends when one of them fails.",
        RELAY_COMMAND,
        "            self.on_failure()\n",
        "            pass\n",
        (f"{RELAY_TESTS}::test_one_that_fails_ends_them_all_and_is_named",),
    ),
    Mutant(
        "one relay fails without a word",
        "`rmq_relay` for several databases says which of them failed.",
        RELAY_COMMAND,
        "        complaints = [complaint for run in runs for complaint in run.complaints()]\n",
        "        complaints = [complaint for run in runs[1:] for complaint in run.complaints()]\n",
        (f"{RELAY_TESTS}::test_one_that_fails_ends_them_all_and_is_named",),
    ),
    Mutant(
        "an alarm is no reason to complain",
        "`rmq_relay --once` exits with 1 where an alarm blocks and rows stay.",
        "outbox/broker_watch.py",
        'if status.state != "open" or status.blocked]',
        'if status.state != "open"]',
        (f"{RELAY_TESTS}::test_once_complains_of_a_broker_that_blocks",),
    ),
    Mutant(
        "rows are claimed for a broker that blocks",
        "Rows are claimed only for aliases whose broker takes messages.",
        "outbox/broker_watch.py",
        '            if status.state == "open" and not status.blocked:\n',
        '            if status.state == "open":\n',
        (f"{RELAY_TESTS}::test_once_complains_of_a_broker_that_blocks",),
    ),
    Mutant(
        "declarations wait for a broker that is down",
        "`rmq_declare` at a broker that is down ends at once, with the reason.",
        "transport/rabbitmq/io_thread.py",
        "        while self._requests and self.dispatcher.refusal:\n",
        "        while False:\n",
        ("management/test_declare_and_check.py::test_a_broker_that_is_down",),
    ),
    Mutant(
        "dead nodes take the time of the declaration",
        "`rmq_declare` waits long enough for the living node behind dead ones.",
        "topology/declare.py",
        " + settings.connect_timeout * len(settings.nodes)\n",
        "\n",
        ("management/test_declare_and_check.py::test_dead_nodes_before_the_living_one",),
    ),
    Mutant(
        "the first timeout counts",
        "The hooks of one commit have the longest of their timeouts.",
        ON_COMMIT,
        "    timeout = max(hook.timeout for hook in hooks)\n",
        "    timeout = hooks[0].timeout\n",
        (PIPELINE,),
    ),
    Mutant(
        "the shortest timeout counts",
        "The hooks of one commit have the longest of their timeouts, in any order.",
        ON_COMMIT,
        "    timeout = max(hook.timeout for hook in hooks)\n",
        "    timeout = min(hook.timeout for hook in hooks)\n",
        (PIPELINE,),
    ),
    Mutant(
        "one by one the first timeout counts",
        "Hooks that send one by one have the longest of their timeouts, all together.",
        HOOK,
        "        self.left = left + max(0.0, timeout - self._longest)\n",
        "        self.left = left or timeout - self._longest\n",
        (PIPELINE,),
    ),
    Mutant(
        "progress counts only without plain publishes",
        "The timeout of publish_many limits the time without progress, even during a plain publish.",
        ON_COMMIT,
        "    extend = any(hook.many for hook in hooks)\n",
        "    extend = all(hook.many for hook in hooks)\n",
        (PIPELINE,),
    ),
    Mutant(
        "the lost node comes first",
        "After a loss the next node comes first, not the one that was lost.",
        NODES,
        "            self._backoff.reset()\n"
        "        self._index = (self._index + 1) % len(self._nodes)\n",
        "            self._backoff.reset()\n",
        (NODE_TESTS,),
    ),
    Mutant(
        "a round begins where the last one ended",
        "A round after a loss tries each node once.",
        NODES,
        "        self._tries = 0\n        self._opened_at = now\n",
        "        self._opened_at = now\n",
        (NODE_TESTS,),
    ),
    Mutant(
        "an alarm outlives its connection",
        "After an alarm and a loss the first reconnection is waited for.",
        DISPATCH,
        '        self.refusal = ""  # the first reconnection is waited for\n',
        "        # the first reconnection is not waited for\n",
        ("transport/rabbitmq/test_robust_connection.py",),
    ),
    Mutant(
        "OpenSSL asks on the terminal",
        "OpenSSL never asks for a key's passphrase on the terminal.",
        "transport/rabbitmq/tls.py",
        "settings.key_file, password=passphrase)",
        "settings.key_file, password=settings.key_password and passphrase)",
        ("transport/rabbitmq/test_tls.py::test_on_a_terminal_nobody_is_asked_for_a_passphrase",),
    ),
    Mutant(
        "autocommit is on until it is looked at",
        "With AUTOCOMMIT off and not yet connected nothing is sent before the commit.",
        ON_COMMIT,
        '        return bool(connection.settings_dict["AUTOCOMMIT"])\n',
        "        return True\n",
        ("publisher/test_on_commit.py",),
    ),
    Mutant(
        "pruning at every turn",
        "An idle relay prunes once an hour, and not at every turn.",
        "outbox/maintenance.py",
        "        self.due_at = monotonic() + PRUNE_SECONDS\n        publish_counts",
        "        publish_counts",
        ("outbox/test_relay.py::test_an_idle_relay_prunes_once_an_hour",),
    ),
    Mutant(
        "an idle relay never prunes",
        "A relay that is never restarted prunes, too.",
        "outbox/relay.py",
        "        if monotonic() >= self._pruner.due_at:\n",
        "        if False:\n",
        ("outbox/test_relay.py::test_an_idle_relay_prunes_once_an_hour",),
    ),
)
