"""The names and limits of the table of stored messages."""

TABLE = "rmq_publisher_outboxmessage"
NAME_MAX = 255  # AMQP's short strings, and whatever is as long
KEY_MAX = 255  # characters of an ordering key
ERROR_MAX = 200  # characters of an error's text
# The columns needed to send a row, in the order in which statements return them.
COLUMNS = (
    "id", "message_id", "using", "exchange", "routing_key", "ordering_key", "header", "body",
    "topology", "failed_at",
)  # fmt: skip
