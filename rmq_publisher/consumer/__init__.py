"""Receiving messages: `Consumer` and what it hands out."""

from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.serialization import DecodeError

__all__ = ["DecodeError", "MessageStateError", "ReceivedMessage"]
