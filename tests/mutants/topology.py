"""Topology that is declared, verified, gone and declared again."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

REPAIR = "transport/rabbitmq/topology_repair.py"
ROUTES = "amqp/routes.py"
MEMORY = "transport/memory/transport.py"
TESTS = ("transport/rabbitmq/test_topology_repair.py",)
ROUTE_TESTS = ("amqp/test_routes.py",)

MUTANTS = (
    Mutant(
        "what is gone stays gone",
        "A message that came back although its configs say where it goes has them declared anew.",
        "transport/rabbitmq/send_queue.py",
        "        if not self._repair.takes(message, answer, now):\n",
        "        if True:\n",
        TESTS,
    ),
    Mutant(
        "declared anew without end",
        "Topology is declared anew once a message.",
        REPAIR,
        "        if message.contradicted is not None:\n",
        "        if False:\n",
        TESTS,
    ),
    Mutant(
        "declared anew for each message",
        "What came back together waits for one declaration.",
        REPAIR,
        "        if self._parking.forget(topology, since=message.written_at):\n",
        "        self._parking.forget(topology)\n        if True:\n",
        TESTS,
    ),
    Mutant(
        "declared anew to no avail, again and again",
        "A topology that was declared anew to no avail is left alone for a second.",
        REPAIR,
        "_contradicts(envelope, answer) or self._is_futile(envelope, now):\n",
        "_contradicts(envelope, answer):\n",
        TESTS,
    ),
    Mutant(
        "a nack is sent again",
        "A nacked message goes again only where something of its configs is missing.",
        REPAIR,
        "        if isinstance(answer, Nacked):\n",
        "        if False:\n",
        TESTS,
    ),
    Mutant(
        "a nack says nothing of the topology",
        "A nacked message whose queue is gone goes again once that is declared anew.",
        "transport/rabbitmq/send_queue.py",
        "        missing = error is not None and error[0] == NOT_FOUND\n",
        "        missing = False\n",
        TESTS,
    ),
    Mutant(
        "an exchange that is gone stays gone",
        "A 404 on an exchange of the message's configs has them declared anew.",
        "transport/rabbitmq/send_queue.py",
        "        if self._repair.takes(culprit, answer, now):\n",
        "        if False:\n",
        TESTS,
    ),
    Mutant(
        "a name's 404 is a config's",
        "A 404 in memory does not hold for a message that declares the exchange.",
        "transport/rabbitmq/circuit_breakers.py",
        "            if code == NOT_FOUND and declares_exchange(",
        "            if False and declares_exchange(",
        TESTS,
    ),
    Mutant(
        "the refused declaration is the outcome",
        "Where topology cannot be declared anew the answer about the message is its outcome.",
        "transport/rabbitmq/send_queue.py",
        "                    message.delivery.resolve(message.contradicted or refusal)\n",
        "                    message.delivery.resolve(refusal)\n",
        TESTS,
    ),
    Mutant(
        "what came back is of unknown outcome",
        "A message that came back and is given up while its topology is declared was not sent.",
        REPAIR,
        "            message.delivery.written = False  #",
        "            #",
        TESTS,
    ),
    Mutant(
        "declared anew without a word",
        "That topology is gone and is declared anew is logged.",
        REPAIR,
        '            self._note(f"{answer}: its queues and exchanges are declared again")\n',
        "            pass\n",
        TESTS,
    ),
    Mutant(
        "a name is declared",
        "Only a config says that there is a route: a name alone is never declared.",
        ROUTES,
        "        return any(isinstance(config, QueueConfig) and config.name == key for config in",
        "        return any(True for config in",
        ROUTE_TESTS,
    ),
    Mutant(
        "a delayed message is sent twice",
        "A return by an exchange that returns what it keeps is no reason to send it again.",
        ROUTES,
        "    if types.get(exchange) in RETURNING_TYPES:\n",
        "    if False:\n",
        ROUTE_TESTS,
    ),
    Mutant(
        "a route over another exchange is none",
        "A route may lead over exchanges that are bound to each other.",
        ROUTES,
        "                found.add(config.name)\n",
        "                pass\n",
        ROUTE_TESTS,
    ),
    Mutant(
        "in memory what is gone stays gone",
        "In memory, too, configs are declared anew where a queue of theirs is gone.",
        MEMORY,
        "            if not (known and lost and expects_route(*where)):\n",
        "            if True:\n",
        ("integration/test_contract_gone.py::test_a_queue_by_the_default_exchange",),
    ),
    Mutant(
        "in memory an exchange that is gone stays gone",
        "In memory, too, configs are declared anew where an exchange of theirs is gone.",
        MEMORY,
        "            if not (known and is_missing and declares_exchange(*where[:2])):\n",
        "            if True:\n",
        ("integration/test_contract_gone.py::test_configs_are_declared_anew",),
    ),
    Mutant(
        "a producer remembers what is gone",
        "maybe_declare() declares again what an answer has shown to be gone.",
        "publisher/producer.py",
        "            self.release()  # what",
        "            # what",
        ("integration/test_contract_gone.py::test_a_producer_forgets_what_is_gone",),
    ),
)
