"""The embedded broker, and what is never shown: bodies, headers, passwords."""

from __future__ import annotations

from tests.mutants.mutant import PUBLISH, Mutant

MEMORY = "transport/memory/transport.py"
QUEUE = "transport/memory/queue.py"
ROUTING = "transport/memory/routing.py"
TOPICS = "amqp/topic_keys.py"

MUTANTS = (
    Mutant(
        "a star is any word or none",
        "`*` stands for exactly one word of a topic.",
        TOPICS,
        "            reached = {n + 1 for n in reached if n < len(words) and part in",
        "            reached = {n + (part != '*') for n in reached if n < len(words) and part in",
        ("transport/memory/test_routing.py",),
    ),
    Mutant(
        "a hash is one word or more",
        "`#` stands for any number of words, even none.",
        TOPICS,
        "set(range(min(reached), len(words) + 1))",
        "set(range(min(reached) + 1, len(words) + 1))",
        ("transport/memory/test_routing.py",),
    ),
    Mutant(
        "any is all",
        "A headers binding with `x-match: any` needs one match.",
        ROUTING,
        '    return any(fits) if kind.startswith("any") else all(fits)\n',
        "    return all(fits)\n",
        ("transport/memory/test_routing.py",),
    ),
    Mutant(
        "no alternate exchange",
        "What no binding takes goes to the alternate exchange.",
        ROUTING,
        "    if not targets and alternate is not None:\n",
        "    if False:\n",
        ("integration/test_contract_topology.py::test_alternate_exchanges",),
    ),
    Mutant(
        "direct by the beginning",
        "A direct exchange leads where the binding's key equals the message's.",
        ROUTING,
        "        return pattern in keys\n",
        "        return any(key.startswith(pattern) for key in keys)\n",
        ("integration/test_contract_topology.py::test_direct",),
    ),
    Mutant(
        "nothing comes back",
        "What no queue takes is `Unroutable` in memory too.",
        MEMORY,
        "        if not routed.queues and envelope.mandatory:\n",
        "        if False:\n",
        ("integration/test_contract.py::test_nothing_bound",),
    ),
    Mutant(
        "nothing is refused",
        "What a full queue refuses is `Nacked` in memory too.",
        MEMORY,
        "        if routed.refused:\n",
        "        if False:\n",
        ("integration/test_contract_dead_letters.py::test_a_full_queue_refuses",),
    ),
    Mutant(
        "mismatches are taken",
        "A queue declared differently is refused with 406 in memory too.",
        "transport/memory/declarations.py",
        "            check_same_queue(queue, durable, arguments or {}, "
        "current.durable, current.arguments)\n",
        "            pass\n",
        ("integration/test_contract_topology.py::test_a_queue_declared_differently",),
    ),
    Mutant(
        "a passive declare makes a queue",
        "A passive declare of a queue that is missing is a 404 in memory too.",
        "transport/memory/declarations.py",
        "        current = self.queue(queue) if passive else self.queues.get(queue)\n",
        "        current = self.queues.get(queue)\n",
        ("integration/test_contract.py::test_no_such_queue",),
    ),
    Mutant(
        "attempts begin anew among the dead letters",
        "Attempts of the queue where a message died are counted on in memory, as RabbitMQ 4.3 does.",
        "transport/memory/dead_lettering.py",
        "message.body, values, message.attempts)",
        "message.body, values)",
        ("integration/test_contract_dead_letters.py",),
    ),
    Mutant(
        "expired is gone",
        "An expired message goes to the dead letters in memory too.",
        "transport/memory/message_flow.py",
        "                    self._bury(queue, queue.pop().counted, EXPIRED)\n",
        "                    queue.pop()\n",
        (
            "integration/test_contract_dead_letters.py::test_an_expired_message_goes_to_the_dead_letters",
        ),
    ),
    Mutant(
        "priorities above what was declared",
        "A priority above the queue's maximum counts as the maximum in memory too.",
        QUEUE,
        '        priority = min(message.values.get("priority") or 0, most)\n',
        '        priority = message.values.get("priority") or 0\n',
        ("integration/test_contract.py::test_without_priorities_declared_there_are_none",),
    ),
    Mutant(
        "an envelope shows its body",
        "Never a body in a repr.",
        "messages/envelope.py",
        '            f"routing_key={self.routing_key!r} {len(self.body)} bytes>"\n',
        '            f"routing_key={self.routing_key!r} {self.body!r}>"\n',
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "a body is logged",
        "Never a body in a log line.",
        "publisher/on_commit.py",
        "{len(envelope.body)} bytes): {type",
        "{len(envelope.body)} bytes, {envelope.body!r}): {type",
        (
            "publisher/test_on_commit.py::test_a_failure_is_one_line_and_one_signal_and_no_exception",
        ),
    ),
    Mutant(
        "a serializer's words are passed on",
        "A serializer's error, which may quote the value, is not passed on.",
        "messages/envelope.py",
        '            f"({type(error).__name__})"\n',
        '            f"({error})"\n',
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "pika's words are passed on",
        "pika's own texts are never passed on unsanitised.",
        "transport/rabbitmq/errors.py",
        "                return words(cause)\n",
        '                return f"{words(cause)} {error!r}"\n',
        (
            "integration/test_secrets.py",
            *PUBLISH,
        ),
    ),
    Mutant(
        "the broker's quotation is passed on",
        "What the broker quotes of a frame, which may be a body's, is not repeated.",
        "transport/rabbitmq/errors.py",
        '    return _QUOTED.sub("octets are not shown", text)\n',
        "    return text\n",
        ("integration/test_secrets.py",),
    ),
    Mutant(
        "settings show the password",
        "Never a password in a repr.",
        "conf/schema.py",
        "    password: str = field(repr=False)\n",
        "    password: str\n",
        ("integration/test_secrets.py",),
    ),
    Mutant(
        "the debug page shows a body",
        "No body stands on Django's debug page.",
        "messages/envelope.py",
        "    __traceback_hide__ = True  # as in compose()\n"
        "    try:\n"
        "        _check_mandatory(mandatory)\n",
        "    try:\n        _check_mandatory(mandatory)\n",
        ("test_debug_page.py",),
    ),
    Mutant(
        "memory brokers are empty",
        "With memory:// each process declares the project's topology by itself.",
        "transport/memory/transport.py",
        "        if self._declared == epoch:\n",
        "        if True:\n",
        ("management/test_quiet.py",),
    ),
    Mutant(
        "the plugin lets counts be written",
        "No count of published messages is written during a project's tests with pytest.",
        "pytest_plugin.py",
        '    if "django.db" in sys.modules:\n',
        "    if False:\n",
        ("testing/test_project.py::test_the_plugin_keeps_counts_in_memory",),
    ),
    Mutant(
        "a capture lets counts be written",
        "No count of published messages is written inside a capture.",
        "testing/assertions.py",
        "        stack.enter_context(counts_in_memory())\n",
        "",
        ("telemetry/test_publish_counts.py",),
    ),
)
