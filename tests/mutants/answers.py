"""What is on the wire, and what an answer means: confirms, returns, the window, the one outcome."""

from __future__ import annotations

from tests.mutants.mutant import DISPATCHER, PUBLISH, Mutant

CONFIRMS = "transport/rabbitmq/publisher_confirms.py"
OUTGOING = "transport/rabbitmq/outgoing.py"
DISPATCH = "transport/rabbitmq/dispatcher.py"
WRITER = "transport/rabbitmq/batch_writer.py"
CHANNEL = "transport/rabbitmq/channel.py"
OUTCOME = "transport/outcome.py"

MUTANTS = (
    Mutant(
        "multiple speaks of one",
        "An ack with `multiple` resolves every outstanding tag up to its own.",
        CONFIRMS,
        "        if not multiple:\n",
        "        if tag:\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "multiple speaks of all",
        "An ack with `multiple` resolves no tag above its own.",
        CONFIRMS,
        "                if tag and known > tag:\n",
        "                if False:\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "tag 0 speaks of nothing",
        "An ack of tag 0 with `multiple` speaks of everything.",
        CONFIRMS,
        "                if tag and known > tag:\n",
        "                if known > tag:\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "tags go on over channels",
        "Tags count from 1 again on a new channel.",
        CONFIRMS,
        "        self._next_tag = 1\n        return everything",
        "        return everything",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "counted before the write",
        "A delivery tag is counted only after the frames were handed over without raising.",
        WRITER,
        "        self._write(piece)\n"
        "        # Counted only now: what raises has consumed no tag.\n"
        "        self.last = now\n"
        "        for message in piece:\n"
        "            message.written_at = now\n"
        "            self._confirms.sent(message)\n",
        "        self.last = now\n"
        "        for message in piece:\n"
        "            message.written_at = now\n"
        "            self._confirms.sent(message)\n"
        "        self._write(piece)\n",
        DISPATCHER,
    ),
    Mutant(
        "a write is a confirm",
        "A normal return of a write proves nothing: only an answer or a timer decides.",
        WRITER,
        "            self._confirms.sent(message)\n",
        "            self._confirms.sent(message)\n            message.delivery.resolve()\n",
        (
            *DISPATCHER,
            "integration/test_engine.py",
        ),
    ),
    Mutant(
        "a return decides",
        "A returned message has its outcome when its ack follows, not before.",
        DISPATCH,
        "            message.returned = Unroutable(code, text, **message.envelope.names)\n",
        "            message.delivery.resolve(Unroutable(code, text, **message.envelope.names))\n",
        DISPATCHER,
    ),
    Mutant(
        "the ack of a return decides",
        "A message that came back is `Unroutable`, though its ack follows.",
        DISPATCH,
        "            if nack or message.returned is not None:\n",
        "            if nack:\n",
        (
            *DISPATCHER,
            "integration/test_engine.py",
        ),
    ),
    Mutant(
        "a return outlives its connection",
        "A message returned on a lost connection may be routable on the next one.",
        WRITER,
        "        message.returned = None  #",
        "        #",
        DISPATCHER,
    ),
    Mutant(
        "returns are not heard",
        "The return callback is registered before confirms are on.",
        CHANNEL,
        "        channel.add_on_return_callback(self._on_return)\n",
        "",
        ("integration/test_engine.py",),
    ),
    Mutant(
        "publishing before SelectOk",
        "Publishing begins only after SelectOk.",
        CHANNEL,
        "        channel.confirm_delivery(self._on_answer, lambda _: self._on_select_ok(channel))\n",
        "        channel.confirm_delivery(self._on_answer, lambda _: None)\n"
        "        self._on_select_ok(channel)\n",
        ("transport/rabbitmq/test_channel.py",),
    ),
    Mutant(
        "a nack is an ack",
        "A nack is `Nacked`, not a confirm.",
        DISPATCH,
        "            if nack or message.returned is not None:\n",
        "            if message.returned is not None:\n",
        DISPATCHER,
    ),
    Mutant(
        "nacks are not told apart",
        "pika's nack reaches the dispatcher as one.",
        CHANNEL,
        "                nack=isinstance(method, Basic.Nack),\n",
        "                nack=False,\n",
        ("integration/test_engine.py",),
    ),
    Mutant(
        "the outcome twice",
        "An outcome is set exactly once.",
        OUTCOME,
        '        """Set the outcome, None for a confirm; return False where it had one already."""\n'
        "        if not self._claim.acquire(blocking=False):\n"
        "            return False\n",
        '        """Set the outcome, None for a confirm; return False where it had one already."""\n'
        "        self._claim.acquire(blocking=False)\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "looked before marked",
        "A caller marks the end before it looks whether the message was written.",
        OUTCOME,
        "        self.claimed = True\n"
        "        kind = ConfirmTimeout if self.written else BrokerUnavailable\n",
        "        kind = ConfirmTimeout if self.written else BrokerUnavailable\n"
        "        self.claimed = True\n",
        ("transport/rabbitmq/test_publisher_confirms.py",),
    ),
    Mutant(
        "unknown is not sent",
        "A message that was written and not answered has an unknown outcome, `ConfirmTimeout`.",
        OUTCOME,
        "        kind = ConfirmTimeout if self.written else BrokerUnavailable\n",
        "        kind = BrokerUnavailable\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "written after it was told not sent",
        "A message that was reported as not sent is never written.",
        WRITER,
        "        message.delivery.written = True\n"
        "        if message.delivery.claimed:\n            return False\n",
        "        if message.delivery.claimed:\n            return False\n"
        "        message.delivery.written = True\n",
        DISPATCHER,
    ),
    Mutant(
        "no window",
        "At most RMQ_MAX_IN_FLIGHT messages are unanswered on the wire.",
        DISPATCH,
        "        while self._queue.pending and self._confirms.in_flight < window:\n",
        "        while self._queue.pending:\n",
        DISPATCHER,
    ),
    Mutant(
        "given up and still in its place",
        "A message whose caller has its outcome frees its place in the window.",
        CONFIRMS,
        "            self.free(message)\n        return reaped\n",
        "        return reaped\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "given up and forgotten",
        "The tag of a message that was given up stays tracked until the answer comes.",
        CONFIRMS,
        "            self.free(message)\n        return reaped\n",
        "            self.free(message)\n"
        "            tags = {known: tag for tag, known in self._by_tag.items()}\n"
        "            del self._by_tag[tags[message]]\n"
        "            self._next_tag -= 1\n"
        "        return reaped\n",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "given up and kept in memory",
        "A message whose caller has its outcome frees the memory that it takes.",
        OUTGOING,
        "        self.envelope = self.delivery.envelope = self.envelope.without_content()\n",
        "",
        (
            "transport/rabbitmq/test_publisher_confirms.py",
            *DISPATCHER,
        ),
    ),
    Mutant(
        "the same id twice in flight",
        "The same `message_id` twice in flight: the second waits until the first is resolved.",
        WRITER,
        "        if self._confirms.find(envelope.message_id) is not None:\n",
        "        if False:\n",
        DISPATCHER,
    ),
    Mutant(
        "the same id waits for ever",
        "The second message with an id goes once the first is resolved.",
        DISPATCH,
        "        if self._queue.same_ids:\n",
        "        if False:\n",
        DISPATCHER,
    ),
    Mutant(
        "a new id on retry",
        "The `message_id` is kept over every retry.",
        WRITER,
        "        self._confirms.reserve(message)\n",
        "        if message.losses:\n"
        "            own = envelope.message_id\n"
        "            message.frames = message.frames.replace(own.encode(), own[::-1].encode())\n"
        "        self._confirms.reserve(message)\n",
        (
            "integration/test_engine_faults.py::test_cut_before_its_ack_it_is_sent_again_under_the_same_id",
        ),
    ),
    Mutant(
        "headers over the negotiated frame",
        "Headers over a smaller negotiated limit give `Rejected`.",
        WRITER,
        "        if self.frame_max != FRAME_MAX and not self._fits(message):\n",
        "        if False:\n",
        DISPATCHER,
    ),
    Mutant(
        "mandatory is off",
        "`mandatory` is on unless the caller says otherwise: what no queue takes is not confirmed.",
        "transport/rabbitmq/frames.py",
        r'(b"\x01" if mandatory else b"\x00")',
        r'b"\x00"',
        (
            "integration/test_engine.py",
            *PUBLISH,
        ),
    ),
    Mutant(
        "mandatory is off below",
        "`mandatory` is on also where a message goes by pika's `basic_publish`.",
        CHANNEL,
        "mandatory=envelope.mandatory,\n",
        "mandatory=False,\n",
        ("integration/test_engine.py",),
    ),
    Mutant(
        "body frames too long",
        "No frame is longer than the negotiated limit.",
        "transport/rabbitmq/frames.py",
        "    limit = frame_max - _FRAME_OVERHEAD\n",
        "    limit = frame_max\n",
        ("transport/rabbitmq/test_frames.py",),
    ),
)
