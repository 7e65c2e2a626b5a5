"""Consumers: what is delivered, what is settled, what is taken up again."""

from __future__ import annotations

from .mutant import Mutant

READER = "transport/rabbitmq/delivery_reader.py"
CHANNEL = "transport/rabbitmq/consume_channel.py"
CONNECTION = "transport/rabbitmq/consume_connection.py"
THREAD = "transport/rabbitmq/consume_thread.py"
MESSAGE = "consumer/message.py"
CONSUMER = "consumer/consumer.py"
RECEIVER = "consumer/receiver.py"
CONTRACT = ("integration/test_consumer_contract.py",)
FAULTS = ("integration/test_consumer_faults.py",)
UNIT = ("transport/rabbitmq/test_delivery_reader.py",)

MUTANTS = (
    Mutant(
        "a run over a gap",
        "One ack settles an unbroken run of acked messages, and no other.",
        READER,
        "            elif floor + 1 in above:\n",
        "            elif floor + 1 in above or floor + 2 in acked:\n",
        UNIT,
    ),
    Mutant(
        "a tag is settled twice on the wire",
        "Each delivery tag is settled once on the wire.",
        READER,
        "            if tag <= self._floor or tag in self._above:\n",
        "            if False:\n",
        UNIT,
    ),
    Mutant(
        "a large body is kept",
        "A body over RMQ_MAX_BODY_SIZE is not kept.",
        READER,
        "        if self._size <= self._body_max:\n",
        "        if True:\n",
        UNIT,
    ),
    Mutant(
        "half a delivery of a lost channel",
        "What a lost channel brought in part is forgotten.",
        READER,
        "        self.session = session\n        self._forget()\n",
        "        self.session = session\n",
        UNIT,
    ),
    Mutant(
        "an ack on another channel",
        "A message is settled on the channel that brought it only.",
        THREAD,
        "        if session != self._sessions.current or self._ended:\n",
        "        if self._ended:\n",
        FAULTS,
    ),
    Mutant(
        "stale messages are handed out",
        "What a lost channel brought is not handed out.",
        RECEIVER,
        "            elif source.is_current(item):  # otherwise it is redelivered\n",
        "            else:\n",
        FAULTS,
    ),
    Mutant(
        "a message is settled twice",
        "A second ack, reject or requeue raises.",
        MESSAGE,
        "        if self._state or self._is_covered:\n",
        "        if False:\n",
        CONTRACT,
    ),
    Mutant(
        "what a multiple ack covers is open",
        "ack(multiple=True) settles all earlier messages.",
        MESSAGE,
        "        return one.session == session and one.tag <= tag\n",
        "        return False\n",
        CONTRACT,
    ),
    Mutant(
        "a stream is rejected",
        "On a stream reject and requeue raise.",
        MESSAGE,
        "        if self.stream_offset() is not None:\n",
        "        if False:\n",
        FAULTS,
    ),
    Mutant(
        "a stream begins again",
        "A stream goes on where it was after a lost connection.",
        "transport/consuming.py",
        "self.next_offset = offset + 1",
        "self.next_offset = 0",
        FAULTS,
    ),
    Mutant(
        "a cancelled consumer stays cancelled",
        "A consumer that the broker cancelled is taken up again.",
        CONNECTION,
        "        self._tell_cancelled(wanted, reason)\n"
        "        self._loop.call_later(wanted.backoff.delay(), lambda: self._again(wanted))\n",
        "        self._tell_cancelled(wanted, reason)\n",
        CONTRACT,
    ),
    Mutant(
        "a cancelled consumer is not told",
        "A signal is sent for a consumer that the broker cancelled.",
        RECEIVER,
        "        if one is not None:\n            signals",
        "        if False:\n            signals",
        CONTRACT,
    ),
    Mutant(
        "a closed channel stays closed",
        "A channel that the broker closed is opened again.",
        CHANNEL,
        "        self._loop.call_later(delay, self._open)\n",
        "",
        FAULTS,
    ),
    Mutant(
        "a refused queue costs the others their channel",
        "A queue is verified before it is consumed from.",
        "consumer/subscriptions.py",
        "        return (QueueName(self.name),)\n",
        "        return ()\n",
        FAULTS,
    ),
    Mutant(
        "prefetch is unlimited",
        "No more than prefetch_count unsettled messages are held.",
        CHANNEL,
        "        channel.basic_qos(prefetch_count=subscription.prefetch)\n",
        "",
        CONTRACT,
    ),
    Mutant(
        "no bound over all queues",
        "qos(apply_global=True) counts over all queues.",
        RECEIVER,
        "        while self._unsettled.wait_for_room(left, over) and not over():\n",
        "        while not over():\n",
        CONTRACT,
    ),
    Mutant(
        "qos is for later queues only",
        "qos() holds for queues that are consumed from.",
        "consumer/queue_control.py",
        "                self._open.end(one)\n                self._begin(one)\n",
        "                pass\n",
        CONTRACT,
    ),
    Mutant(
        "what cannot be read stays",
        "A message that is not accepted or cannot be decoded is rejected.",
        CONSUMER,
        "        if not message.no_ack:\n            message.reject()\n",
        "",
        CONTRACT,
    ),
    Mutant(
        "no_ack is not acknowledged",
        "With no_ack messages are acknowledged as they are taken.",
        RECEIVER,
        "            self.source.settle(delivered, ACK)\n",
        "            pass\n",
        CONTRACT,
    ),
    Mutant(
        "a child acknowledges for its parent",
        "A forked child does not touch its parent's consumer.",
        THREAD,
        "register(InChild.CONSUMERS, _after_fork)\n",
        "",
        FAULTS,
    ),
    Mutant(
        "a dead thread is waited for",
        "When a consumer's thread has ended, no caller waits for it.",
        THREAD,
        "self._settings.alias)\n        self._buffer.wake()\n",
        "self._settings.alias)\n",
        ("transport/rabbitmq/test_consume_thread.py",),
    ),
    Mutant(
        "other clients' headers are unreadable",
        "Headers of other clients are read, whatever their types.",
        "amqp/decoding.py",
        "    except UnicodeDecodeError:\n",
        "    except ZeroDivisionError:\n",
        ("amqp/test_decoding_of_others.py",),
    ),
    Mutant(
        "closed before the flush",
        "Acks from before a consumer's close are written before it closes.",
        "transport/rabbitmq/consume_thread.py",
        "        if close_seconds is not None and not self._connection.closing:\n",
        "        close_seconds = self._close_seconds\n"
        "        if close_seconds is not None and not self._connection.closing:\n",
        ("transport/rabbitmq/test_consume_thread.py",),
    ),
    Mutant(
        "a consumer that cannot begin goes on connecting",
        "A consumer that cannot begin leaves no thread that goes on.",
        "consumer/queue_control.py",
        "            if not self._active():\n                self.close()\n            raise",
        "            raise",
        ("integration/test_consumer_faults.py",),
    ),
    Mutant(
        "a block that cannot begin stays open",
        "A block that cannot begin gives up what it had begun.",
        "consumer/consumer.py",
        "            self.close()  # there is no __exit__ after this\n",
        "",
        ("integration/test_consumer_faults.py",),
    ),
    Mutant(
        "idempotent after one delivery",
        "assert_idempotent delivers a message a second time.",
        "testing/handlers.py",
        '("delivered twice", once, [(handle, first), (handle, first)])',
        '("delivered twice", once, [(handle, first)])',
        ("testing/test_handlers.py",),
    ),
    Mutant(
        "a rehearsal stays",
        "assert_idempotent leaves the database as it was.",
        "testing/handlers.py",
        "            transaction.set_rollback(True, using=database)\n",
        "",
        ("testing/test_handlers.py",),
    ),
    Mutant(
        "a test transaction is closed",
        "A connection in a transaction of its caller stays open after a handler.",
        "consumer/databases.py",
        "        if connection.in_atomic_block:\n            continue\n",
        "",
        ("testing/test_handlers.py",),
    ),
    Mutant(
        "headers that cannot be read end a stream",
        "A stream goes past a message whose headers cannot be read.",
        "consumer/message.py",
        "        except DecodeError:\n            return None\n        return offset",
        "        except LookupError:\n            return None\n        return offset",
        ("integration/test_consumer_faults.py",),
    ),
)
