"""A small shop that tells RabbitMQ of its orders: the example of rmq_publisher."""
