"""What others may listen to. Receivers run in the publishing thread; one that raises is logged."""

from django.dispatch import Signal

# Arguments: message_id, exchange, routing_key, using. Sent after the broker's confirm.
message_published = Signal()

# Arguments: error, message_id, exchange, routing_key, will_retry. Sent after a publish failed for
# good within its call; will_retry says whether a stored row will be sent again without anybody's doing.
publish_failed = Signal()

# Arguments: message_id, database. Sent in the transaction in which `cancel` deleted a stored message.
message_cancelled = Signal()

# Sent by `rmq_consume` in the handler's thread; arguments: handler (its name), queue, message (the
# `ReceivedMessage`). Before the handler starts, and after the message was acknowledged.
message_received = Signal()
message_handled = Signal()

# As message_handled, after a handler did not handle its message; also error, and outcome: "retry",
# "failed", "rejected", or "not_an_attempt" if it returns to the queue uncounted.
message_failed = Signal()

# Arguments: using, queue, reason. Sent in the thread that takes messages after the broker cancelled a
# consumer: its queue was deleted or moved, or a message was not settled in time. The queue is consumed
# from again as soon as that is possible.
consumer_cancelled = Signal()
