"""A consumer as another team may write it: it knows pika and JSON, and nothing of the publisher.

    AMQP_URL=amqp://... python consumer.py QUEUE COUNT

Takes COUNT messages off the queue, and what comes within a second after them, and prints each as a
line of JSON. Gives up when nothing has come for ten seconds.
"""

import json
import os
import sys
import time
from typing import Any

import pika

PATIENCE, AFTERWARDS = 10.0, 1.0  # seconds


class Consumer:
    """Prints and acknowledges."""

    def __init__(self, count: int) -> None:
        self.missing = count
        self.deadline = time.monotonic() + PATIENCE

    def take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        message = {
            "exchange": method.exchange,
            "routing_key": method.routing_key,
            "redelivered": method.redelivered,
            "properties": {key: value for key, value in vars(properties).items() if value},
            "body": json.loads(body),
        }
        sys.stdout.write(json.dumps(message) + "\n")
        channel.basic_ack(method.delivery_tag)
        self.missing -= 1
        wait = PATIENCE if self.missing > 0 else AFTERWARDS
        self.deadline = time.monotonic() + wait


def main() -> None:
    queue, count = sys.argv[1], int(sys.argv[2])
    consumer = Consumer(count)
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=100)
    channel.basic_consume(queue, consumer.take)
    while time.monotonic() < consumer.deadline:
        connection.process_data_events(time_limit=0.1)
    connection.close()


if __name__ == "__main__":
    main()
