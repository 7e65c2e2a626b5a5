"""For the tests of projects: what was published, without a broker or with one in memory."""

from rmq_publisher.testing.assertions import (
    MemoryBroker,
    Published,
    PublishedMessage,
    Received,
    assert_not_published,
    assert_published,
    assert_task_sent,
    capture,
    keep_counts_in_memory,
    memory_broker,
)

__all__ = [
    "MemoryBroker",
    "Published",
    "PublishedMessage",
    "Received",
    "assert_not_published",
    "assert_published",
    "assert_task_sent",
    "capture",
    "keep_counts_in_memory",
    "memory_broker",
]
