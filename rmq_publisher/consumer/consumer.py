"""`Consumer`: receives messages on its own connection; its methods have kombu's names."""

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.queue_control import QueueControl
from rmq_publisher.consumer.subscriptions import QueueItem, check_prefetch
from rmq_publisher.serialization import DecodeError

logger = logging.getLogger("rmq_publisher.consumer")

Callback = Callable[[Any, ReceivedMessage], object]  # body, message
OnMessage = Callable[[ReceivedMessage], object]
OnDecodeError = Callable[[ReceivedMessage, DecodeError], object]


def _never() -> bool:
    return False


class Consumer(QueueControl):
    """Receives messages. Constructing it does not connect.

    Args:
        queues: names (verified) and `QueueConfig` objects (declared); a pair of one of them and a
            mapping gives the consumer's arguments, such as ``x-stream-offset`` and ``x-priority``.
        using: RabbitMQ alias; may be left out when there is one.
        callbacks: each is called with the decoded body and the message.
        on_message: called with the message instead; nothing is decoded for it.
        on_decode_error: called with a message that is not accepted or cannot be read, and the error;
            without it such a message is rejected.
        accept: serializers or content types that are decoded, such as ``["json"]``; None decodes what
            registered serializers read and returns other bodies as bytes.
        no_ack: acknowledge messages when they are received.
        auto_declare: False verifies a `QueueConfig` instead of declaring it.
        prefetch_count: the largest number of unsettled messages for each queue; default 100.
        tag_prefix: the beginning of the consumer tags, to recognise them in RabbitMQ's tools.

    Raises:
        TypeError, ValueError, LookupError: bad arguments.
    """

    __module__ = "rmq_publisher"

    def __init__(
        self,
        queues: Iterable[QueueItem] = (),
        *,
        using: str | None = None,
        callbacks: Iterable[Callback] = (),
        on_message: OnMessage | None = None,
        on_decode_error: OnDecodeError | None = None,
        accept: Iterable[str] | None = None,
        no_ack: bool = False,
        auto_declare: bool = True,
        prefetch_count: int | None = None,
        tag_prefix: str = "",
    ) -> None:
        super().__init__(
            queues, using, accept, no_ack, auto_declare, check_prefetch(prefetch_count), tag_prefix
        )
        self.callbacks = list(callbacks)
        self.on_message = on_message
        self.on_decode_error = on_decode_error
        self._stopping = False

    def __enter__(self) -> Self:
        try:
            return self.consume()
        except BaseException:
            self.close()  # there is no __exit__ after this
            raise

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Receiving

    def register_callback(self, callback: Callback) -> Self:
        """Add a function to be called with the decoded body and the message."""
        self.callbacks.append(callback)
        return self

    def receive(self, body: Any, message: ReceivedMessage) -> None:
        """Call the callbacks, in order.

        Raises:
            NotImplementedError: there are none.
        """
        if not self.callbacks:
            raise NotImplementedError(
                "this Consumer has neither callbacks nor on_message: register_callback(), or iterate"
            )
        for callback in self.callbacks:
            callback(body, message)

    def drain_events(self, timeout: float | None = None) -> None:
        """Run the callbacks, in this thread, for the messages received; wait for the first one.

        Args:
            timeout: seconds; None waits without limit.

        Raises:
            TimeoutError: no message came.
            BrokerUnavailable: it was closed.
        """
        message = self._take(timeout, _never)
        if message is None:
            raise TimeoutError(f"no message came within {timeout:g} s")
        for _ in range(self.prefetch_count):
            self._dispatch(message)
            message = self._take(0, _never)
            if message is None:
                break
        else:
            self._dispatch(message)

    def run(self, limit: int | None = None, timeout: float | None = None) -> None:
        """Run the callbacks until ``limit`` messages came, none for ``timeout`` seconds, or `stop`."""
        self.consume()
        count = 0
        while limit is None or count < limit:
            message = self._take(timeout, self._is_stopping)
            if message is None:
                break
            count += 1
            self._dispatch(message)
        self._stopping = False

    def __iter__(self) -> Iterator[ReceivedMessage]:
        """Yield messages, to be settled by the caller, until `stop`."""
        self.consume()
        while (message := self._take(None, self._is_stopping)) is not None:
            yield message
        self._stopping = False

    def stop(self) -> None:
        """End `run` or the iteration, in any thread; safe in a signal handler."""
        self._stopping = True
        receiver = self._receiver
        if receiver is not None:
            receiver.wake()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _take(self, timeout: float | None, over: Callable[[], bool]) -> ReceivedMessage | None:
        """Return the next message; None after ``timeout`` seconds, or once ``over()`` is true."""
        return self._open.take(timeout, over)

    def _dispatch(self, message: ReceivedMessage) -> None:
        if self.on_message is not None:
            self.on_message(message)
            return
        try:
            body = message.decode()
        except DecodeError as error:
            self._undecoded(message, error)
            return
        self.receive(body, message)

    def _undecoded(self, message: ReceivedMessage, error: DecodeError) -> None:
        if self.on_decode_error is not None:
            self.on_decode_error(message, error)
            return
        logger.error("%s of queue %r is rejected: %s", message, message.queue, error)
        if not message.no_ack:
            message.reject()
