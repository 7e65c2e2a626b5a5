"""publish() and its like: what a message says, what is refused at the call, what is never shown."""

from __future__ import annotations

from tests.mutants.mutant import PUBLISH, Mutant

COMPOSING = "messages/compose.py"
FIELDS = "amqp/encoding.py"
MESSAGE = "messages/envelope.py"
TOPOLOGY = "amqp/entities.py"

MUTANTS = (
    Mutant(
        "transient by default",
        "`delivery_mode` is 2 also when the caller's own properties leave it out.",
        MESSAGE,
        '    mode = values.setdefault("delivery_mode", 2)\n',
        '    mode = values.setdefault("delivery_mode", 1)\n',
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "plain messages are transient",
        "A plain message is persistent.",
        "messages/plain.py",
        '"delivery_mode": 2',
        '"delivery_mode": 1',
        PUBLISH,
    ),
    Mutant(
        "no content type",
        "`content_type` is application/json when no properties are given.",
        MESSAGE,
        '        values["content_type"] = "application/json"\n',
        "        pass\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "properties win over keywords",
        "Keywords win over `properties`.",
        MESSAGE,
        "    values.update((name, value) for name, value in keywords.items() if value is not None)\n",
        "    for name, value in keywords.items():\n"
        "        if value is not None:\n"
        "            values.setdefault(name, value)\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "properties win over headers",
        "headers= wins over the headers of `properties`.",
        MESSAGE,
        "(own_headers, headers, encoded.headers or None)",
        "(headers, own_headers, encoded.headers or None)",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "the caller's properties are changed",
        "The caller's `BasicProperties` object is never changed.",
        MESSAGE,
        "        values.update(\n"
        "            (name, value) for name, value in vars(properties).items() if value is not None\n"
        "        )\n",
        "        values = vars(properties)\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "the caller's headers are changed",
        "The caller's headers are never changed.",
        MESSAGE,
        "    merged: dict[str, Any] = {}\n    for layer in layers:\n",
        "    merged: Any = layers[0]\n    for layer in layers:\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "a body made later",
        "The body is encoded at the call.",
        "publisher/api.py",
        "        on_commit(plan.using, [plan.envelope], plan.timeout, where, many=False)\n",
        "        from django.db import transaction\n\n"
        "        given |= {'queue': queue, 'exchange': exchange, 'routing_key': routing_key}\n"
        "        given |= {'using': using, 'serializer': serializer, 'timeout': timeout}\n"
        "        given['message_id'] = plan.envelope.message_id\n"
        "        transaction.on_commit(lambda: deliver(*prepare(body, **given)), using=where)\n",
        ("publisher/test_publish.py::test_the_message_is_made_at_the_call",),
    ),
    Mutant(
        "any priority",
        "`priority` is 0 to 255.",
        FIELDS,
        "    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:\n",
        "    if isinstance(value, bool) or not isinstance(value, int):\n",
        ("amqp/test_encoding.py", "messages/test_envelope.py"),
    ),
    Mutant(
        "a priority of True",
        "`priority` is an integer.",
        FIELDS,
        "    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:\n",
        "    if not isinstance(value, int) or not 0 <= value <= 255:\n",
        ("amqp/test_encoding.py", "messages/test_envelope.py"),
    ),
    Mutant(
        "expiration in milliseconds",
        "`expiration` is seconds.",
        MESSAGE,
        '    expiration = milliseconds("expiration", value)\n',
        '    expiration = milliseconds("expiration", value) // 1000\n',
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "a negative expiration",
        "Expirations out of range are refused at the call.",
        "amqp/validation.py",
        "    if not 0 <= value * 1000 <= MILLISECONDS_MAX:\n",
        "    if value * 1000 > MILLISECONDS_MAX:\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "any expiration in the properties",
        "An expiration over AMQP's 32 bits, given in the properties, is refused at the call.",
        MESSAGE,
        "    if len(value) > SHORTSTR_MAX or int(value) > EXPIRATION_MAX:\n",
        "    if False:\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "an expiration of nothing",
        "A short expiration does not become 0, which drops the message.",
        MESSAGE,
        "    if expiration == 0 and value > 0:\n",
        "    if False:\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "names of any length",
        "Names over 255 bytes are refused at the call.",
        FIELDS,
        "    if len(data) > SHORTSTR_MAX:\n",
        "    data = data[:SHORTSTR_MAX]\n    if False:\n",
        ("amqp/test_encoding.py", "messages/test_envelope.py"),
    ),
    Mutant(
        "surrogates are mended",
        "Surrogates are refused at the call.",
        FIELDS,
        "        return value.encode()\n",
        '        return value.encode(errors="replace")\n',
        ("amqp/test_encoding.py", "messages/test_envelope.py"),
    ),
    Mutant(
        "headers of any size",
        "Header tables over 131,072 bytes are refused at the call.",
        FIELDS,
        "        if len(data) > TABLE_MAX:\n",
        "        if False:\n",
        ("amqp/test_encoding.py",),
    ),
    Mutant(
        "headers that just do not fit",
        "A content header that no frame can hold is refused at the call.",
        MESSAGE,
        "    if len(header) + HEADER_OVERHEAD > FRAME_MAX:\n",
        "    if len(header) > FRAME_MAX:\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "bodies of any size",
        "Bodies over RMQ_MAX_BODY_SIZE are refused at the call.",
        MESSAGE,
        "    if len(encoded.body) > max_body_size:\n",
        "    if False:\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "plain bodies of any size",
        "Plain bodies over RMQ_MAX_BODY_SIZE are refused at the call.",
        "messages/plain.py",
        "    if len(body) > max_body_size:\n",
        "    if False:\n",
        PUBLISH,
    ),
    Mutant(
        "anything is a body",
        "A body that is neither str nor bytes is a TypeError without a serializer.",
        MESSAGE,
        "    if serializer is None:\n        raise TypeError(\n",
        "    if serializer is None:\n        serializer = 'json'\n    if False:\n        TypeError(\n",
        ("messages/test_envelope.py",),
    ),
    Mutant(
        "nowhere to go",
        "A publish that names neither queue, exchange nor routing key is refused.",
        COMPOSING,
        "    if not exchange_name and not key:\n",
        "    if False:\n",
        ("publisher/test_publish.py::test_naming_nothing_is_refused",),
    ),
    Mutant(
        "a routing key must be named",
        "The routing key defaults to the queue's name.",
        COMPOSING,
        "    key = queue_name if routing_key is None else routing_key\n",
        "    key = 'none' if routing_key is None else routing_key\n",
        ("publisher/test_publish.py::test_the_routing_key_defaults_to_the_queues_name",),
    ),
    Mutant(
        "plain queues are not verified",
        "A plain string queue is verified before the message is sent.",
        COMPOSING,
        "        entities.append(QueueName(queue))\n",
        "        pass\n",
        (
            "publisher/test_publish_outcomes.py::test_a_queue_that_is_missing_is_rejected_and_may_come",
        ),
    ),
    Mutant(
        "plain queues are declared",
        "A plain string queue is verified passively.",
        TOPOLOGY,
        '{"queue": self.name, "passive": True}',
        '{"queue": self.name, "durable": True}',
        (
            "amqp/test_entities.py",
            *PUBLISH,
        ),
    ),
    Mutant(
        "plain exchanges are declared",
        "A plain string exchange is verified passively.",
        TOPOLOGY,
        '{"exchange": self.name, "passive": True}',
        '{"exchange": self.name, "durable": True}',
        (
            "amqp/test_entities.py",
            *PUBLISH,
        ),
    ),
    Mutant(
        "configs are not bound",
        "A `QueueConfig` is declared with its bindings.",
        TOPOLOGY,
        '        yield from _binding_steps("queue_bind", self.name, str(self), tuple(self.bindings))\n',
        "",
        (
            "amqp/test_entities.py",
            *PUBLISH,
        ),
    ),
    Mutant(
        "blocking in an event loop",
        "publish() and Producer.publish() inside a running event loop raise.",
        "publisher/event_loop.py",
        "    raise SynchronousOnlyOperation(\n",
        "    SynchronousOnlyOperation(\n",
        (
            "publisher/test_publish_arguments.py::test_blocking_calls_in_an_event_loop_raise_and_name_apublish",
        ),
    ),
    Mutant(
        "a foreign config is taken",
        "A config of another RabbitMQ connection is refused.",
        COMPOSING,
        "        if config.using not in (None, alias):\n",
        "        if False:\n",
        PUBLISH,
    ),
    Mutant(
        "None is published",
        "A decorated function that returns None publishes nothing.",
        "publisher/producer.py",
        "            if result is not None:\n                self.publish(result)\n",
        "            self.publish(result or '')\n",
        ("publisher/test_producer.py",),
    ),
    Mutant(
        "a raising receiver is heard",
        "A signal's receiver that raises is logged and changes nothing.",
        "telemetry/outcomes.py",
        "        signal.send_robust(",
        "        signal.send(",
        ("test_signals.py",),
    ),
    Mutant(
        "progress does not count",
        "`timeout` of publish_many bounds the time without progress.",
        "transport/delivery.py",
        "                if extend and self._finished != seen:\n",
        "                if False:\n",
        ("publisher/test_publish_many.py",),
    ),
    Mutant(
        "the rest takes the places",
        "Of a batch that is given up the rest is not sent.",
        "transport/delivery.py",
        "        for delivery in reversed(self._deliveries):\n            delivery.fail(reason)\n",
        "        for delivery in self._deliveries:\n            delivery.fail(reason)\n",
        ("transport/test_delivery.py",),
    ),
)
