"""`Producer` by kombu's names, and what a body is when it is read back."""

from __future__ import annotations

from .mutant import Mutant

PRODUCER = "publisher/producer.py"
COMPRESSION = "amqp/compression.py"
SERIALIZATION = "serialization.py"
OPTIONS = ("publisher/test_producer_options.py",)

MUTANTS = (
    Mutant(
        "a bomb is unpacked",
        "A body is decompressed up to a limit.",
        COMPRESSION,
        "decompressor.decompress(body, limit + 1)",
        "decompressor.decompress(body, 2**30)",
        ("amqp/test_compression.py",),
    ),
    Mutant(
        "half a stream is a body",
        "A compressed body that is cut short is refused.",
        COMPRESSION,
        "    if not decompressor.eof or decompressor.unused_data:\n",
        "    if decompressor.unused_data:\n",
        ("amqp/test_compression.py",),
    ),
    Mutant(
        "everything is accepted",
        "A body that is not accepted is not decoded.",
        SERIALIZATION,
        "    if accept is not None and kind not in accept:\n",
        "    if False:\n",
        ("test_serialization.py",),
    ),
    Mutant(
        "any codec is a charset",
        "Charsets are those that only decode.",
        SERIALIZATION,
        "    if name not in _CHARSETS:\n"
        '        raise DecodeError(f"unknown content_encoding {content_encoding[:50]!r}")\n'
        "    return data.decode(_CHARSETS[name]).encode()\n",
        "    return data.decode(name).encode()\n",
        ("test_serialization.py",),
    ),
    Mutant(
        "the compression is not told",
        "A compressed body has kombu's header.",
        SERIALIZATION,
        "{**encoded.headers, compressions.HEADER: how.content_type}",
        "{**encoded.headers}",
        OPTIONS,
    ),
    Mutant(
        "a row forgets mandatory",
        "A stored row keeps mandatory=False.",
        "outbox/row.py",
        '        values["mandatory"] = False\n',
        "        pass\n",
        OPTIONS,
    ),
    Mutant(
        "retries beyond the deadline",
        "Retries stay inside the call's deadline.",
        "transport/delivery.py",
        "        if left <= 0:\n            return error\n",
        "        left = max(left, 0.1)\n",
        OPTIONS,
    ),
    Mutant(
        "an answer is retried",
        "Only a broker that cannot be reached and a lost connection are tried again.",
        "transport/delivery.py",
        "not isinstance(error, BrokerUnavailable | ConfirmTimeout)",
        "error is None",
        OPTIONS,
    ),
    Mutant(
        "declared once for ever",
        "maybe_declare() declares again on another connection.",
        PRODUCER,
        '        same = status.state == "open" and status.connects == self._declared[0]\n',
        "        same = True\n",
        OPTIONS,
    ),
    Mutant(
        "auto_declare is ignored",
        "auto_declare=False neither declares nor verifies what the producer names.",
        PRODUCER,
        "        if not self.auto_declare:\n",
        "        if False:\n",
        OPTIONS,
    ),
    Mutant(
        "a return is not raised",
        "on_return is called, and the call still raises.",
        PRODUCER,
        "sent.body)\n                self.on_return(error, sent.exchange, sent.routing_key, message)\n"
        "            raise\n",
        "sent.body)\n                self.on_return(error, sent.exchange, sent.routing_key, message)\n",
        OPTIONS,
    ),
)
