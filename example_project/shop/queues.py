"""The exchanges and queues of the shop; `manage.py rmq_declare` makes them."""

from rmq_publisher import Binding, ExchangeConfig, QueueConfig

EVENTS = ExchangeConfig("shop.events", "topic")
DEAD_LETTERS = ExchangeConfig("shop.dead-letters", "topic")

# Whoever wants to know of orders binds a queue of their own to EVENTS; this is the shop's.
ORDERS = QueueConfig(
    "shop.orders",
    queue_type="quorum",
    dead_letter_exchange=DEAD_LETTERS.name,
    bindings=[Binding(EVENTS, "orders.#")],
)

# What a consumer rejects ends here, under its own routing key, until a person looks at it.
DEAD_ORDERS = QueueConfig(
    "shop.orders.dead",
    queue_type="quorum",
    bindings=[Binding(DEAD_LETTERS, "orders.#")],
)
