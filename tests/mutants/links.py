"""What is promised of a connection in trouble, and what it tells of itself."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "a nacking channel is kept",
        "Where all is nacked for long another channel is tried.",
        "transport/rabbitmq/circuit_breakers.py",
        "> REFUSING_SECONDS and not self.long:",
        "> 1e9 and not self.long:",
        (
            "transport/rabbitmq/test_dispatcher_failures.py::test_what_nacks_for_long_is_tried_on_another_channel",
        ),
    ),
    Mutant(
        "a channel is renewed under those who wait",
        "Another channel is tried once nobody waits on this one.",
        "transport/rabbitmq/dispatcher.py",
        "        if waited_for or self.flow.suspects:\n",
        "        if self.flow.suspects:\n",
        (
            "transport/rabbitmq/test_dispatcher_failures.py::test_another_channel_is_not_waited_for_long",
        ),
    ),
    Mutant(
        "now tells no signal",
        "A message sent within the call is told by a signal.",
        "transport/delivery.py",
        "    tell(using, envelope, error, will_retry=False)\n",
        "",
        ("test_signals.py::test_a_confirm_is_told_with_the_messages_names",),
    ),
    Mutant(
        "apublish tells no signal",
        "A message that is awaited is told by a signal.",
        "transport/delivery.py",
        "    await atell(using, envelope, delivery.error)\n",
        "",
        ("test_signals.py::test_a_confirm_is_told_with_the_messages_names",),
    ),
    Mutant(
        "the old connection stays",
        "A connection whose settings changed is closed.",
        "transport/handler.py",
        "        if old is not None:\n            old.close()\n",
        "",
        ("transport/test_handler.py",),
    ),
    Mutant(
        "any setting opens a connection anew",
        "A change of settings that are not the connection's own keeps it open.",
        "transport/handler.py",
        "            if old is not None and old.settings == settings:\n",
        "            if False:\n",
        ("transport/test_handler.py",),
    ),
    Mutant(
        "the memory connection remembers over its close",
        "In memory, too, topology is verified again after a close.",
        "transport/memory/transport.py",
        "        self._open = False\n        self._verified.clear()\n",
        "        self._open = False\n",
        ("integration/test_contract_topology.py::test_topology_is_verified_once_per_connection",),
    ),
    Mutant(
        "RMQ_HEARTBEAT is not asked for",
        "RMQ_HEARTBEAT is the heartbeat that is asked for.",
        "transport/rabbitmq/connection.py",
        "        heartbeat=settings.heartbeat,\n",
        "        heartbeat=60,\n",
        ("transport/rabbitmq/test_connection.py",),
    ),
    Mutant(
        "connections have no name",
        "A connection names its host, program and alias to operators.",
        "transport/rabbitmq/connection.py",
        '        client_properties={"connection_name": name},\n',
        "",
        ("transport/rabbitmq/test_connection.py",),
    ),
    Mutant(
        "a question to a thread that dies is never answered",
        "Who asks about topology is told when the I/O thread dies.",
        "transport/rabbitmq/io_thread.py",
        "        while self._requests:\n"
        "            self._requests.popleft().answer([], (LOST, reason))\n",
        "",
        ("transport/rabbitmq/test_io_thread.py",),
    ),
    Mutant(
        "a question after the end is never answered",
        "A question about topology that comes after the thread's end is answered.",
        "transport/rabbitmq/io_thread.py",
        '            request.answer([], (LOST, "the I/O thread has ended"))\n',
        "            pass\n",
        ("transport/rabbitmq/test_io_thread.py",),
    ),
    Mutant(
        "a closed connection comes back",
        "A connection that is being closed does not reconnect.",
        "transport/rabbitmq/robust_connection.py",
        "        if self.closing:\n"
        "            self._stop()\n"
        "            return\n"
        "        self._last_error",
        "        self._last_error",
        ("integration/test_engine.py::test_closing_takes_a_moment_only",),
    ),
    Mutant(
        "one channel is enough",
        "Where the broker allows one channel nothing is waited for that takes a second one.",
        "transport/rabbitmq/topology_channels.py",
        "        self._has_none = last < first\n",
        "        self._has_none = False\n",
        ("transport/rabbitmq/test_topology_channels.py",),
    ),
    Mutant(
        "each call costs the connection",
        "That no channel can be opened is remembered for a while.",
        "transport/rabbitmq/circuit_breakers.py",
        "        self._no_channel = (now + REFUSAL_SECONDS, reason)\n",
        "        pass\n",
        ("transport/rabbitmq/test_dispatcher_failures.py",),
    ),
    Mutant(
        "what needs no topology is refused with the rest",
        "Without a channel for topology what needs none is sent.",
        "transport/rabbitmq/send_queue.py",
        "            elif message.envelope.topology:\n"
        "                message.delivery.fail(reason)\n",
        "            else:\n                message.delivery.fail(reason)\n",
        ("transport/rabbitmq/test_dispatcher_failures.py",),
    ),
    Mutant(
        "a timeout does not say why",
        "A message that is given up says what its connection is doing.",
        "transport/base.py",
        '    if status.state != "open" and status.last_error:\n',
        "    if False:\n",
        ("transport/test_base.py",),
    ),
    Mutant(
        "a timeout does not say that the broker blocks",
        "A message that is given up under an alarm says so.",
        "transport/base.py",
        '    state = f"blocked: {status.blocked}" if status.blocked else status.state\n',
        "    state = status.state\n",
        ("transport/test_base.py",),
    ),
    Mutant(
        "a drain waits for those who gave up",
        "A close waits only for messages that somebody waits for.",
        "transport/rabbitmq/dispatcher.py",
        "        return all(item.delivery.claimed for item in chain(self._confirms, self._queue))\n",
        "        return not self._confirms and not len(self._queue)\n",
        ("transport/rabbitmq/test_dispatcher_failures.py",),
    ),
    Mutant(
        "the status hides an alarm",
        "The status says that a broker blocks, and in its words.",
        "transport/rabbitmq/robust_connection.py",
        "            blocked=self.dispatcher.flow.blocked,\n",
        '            blocked="",\n',
        ("transport/rabbitmq/test_robust_connection.py",),
    ),
    Mutant(
        "what nobody waits for is declared again",
        "What came back and was given up has nothing declared.",
        "transport/rabbitmq/topology_repair.py",
        "        if not envelope.topology or message.delivery.claimed:\n",
        "        if not envelope.topology:\n",
        ("transport/rabbitmq/test_topology_repair.py::test_nobody_waits_for_it_any_more",),
    ),
    Mutant(
        "a nack on a lost connection is forgotten",
        "A nacked message has its outcome when the connection is lost.",
        "transport/rabbitmq/topology_repair.py",
        "        for waiting in self._nacked.values():\n"
        "            _end(waiting)\n"
        "        self._nacked.clear()\n",
        "        self._nacked.clear()\n",
        (
            "transport/rabbitmq/test_topology_repair.py::test_a_nacked_message_on_a_connection_that_is_lost",
        ),
    ),
    Mutant(
        "what waits for a check is not counted",
        "Status counts nacked messages that wait for their queues to be looked at.",
        "transport/rabbitmq/send_queue.py",
        "len(self._repair) + ",
        "",
        ("transport/rabbitmq/test_topology_repair.py::test_a_nack_of_a_queue_that_is_there",),
    ),
)
