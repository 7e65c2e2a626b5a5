"""Hand messages over and wait for their outcome: one, a batch, or one awaited."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from rmq_publisher.exceptions import BrokerUnavailable, ConfirmTimeout, PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.telemetry.outcomes import atell, tell
from rmq_publisher.timing import NO_RETRY, RetryPolicy, monotonic
from rmq_publisher.transport.base import Transport, give_up, late, submit
from rmq_publisher.transport.handler import connections
from rmq_publisher.transport.outcome import Delivery

logger = logging.getLogger("rmq_publisher")

INTERRUPTED = "the call was interrupted"
LOOK_SECONDS = 0.1  # how often a waiting batch looks for progress


def send_and_wait(
    transport: Transport, envelope: Envelope, seconds: float, reason: Callable[[], str]
) -> PublishError | None:
    """Send one message and return its outcome, None for a confirm.

    Args:
        seconds: after which it is given up.
        reason: makes the text of its error then.
    """
    deadline = monotonic() + seconds
    waiter = threading.Lock()
    waiter.acquire()
    delivery = Delivery(envelope, waiter.release)
    try:
        submit(transport, (delivery,))
        in_time = waiter.acquire(timeout=max(0.0, deadline - monotonic()))
        if not in_time and not give_up(transport, (delivery,), reason()):
            waiter.acquire()  # the outcome came in between; it is set in a moment
    finally:
        # Of a call that a signal's handler ended (Ctrl-C, a soft time limit) nothing is sent later.
        delivery.fail(INTERRUPTED)
    return delivery.error


def deliver(
    using: str, envelope: Envelope, timeout: float, policy: RetryPolicy = NO_RETRY
) -> None:
    """Send one message and wait for its outcome, at most ``timeout`` seconds.

    Only a broker that cannot be reached and a lost connection are worth another try: an answer about the
    message stays what it is within a call.

    Raises:
        PublishError: every outcome but a confirm.
    """
    transport = connections[using]

    def reason() -> str:
        return late(transport, timeout)  # the call's timeout, whatever an attempt was given

    error = retried(lambda left: send_and_wait(transport, envelope, left, reason), timeout, policy)
    tell(using, envelope, error, will_retry=False)
    publish_counts.flush()
    if error is not None:
        raise error


def retried(
    attempt: Callable[[float], PublishError | None], timeout: float, policy: RetryPolicy
) -> PublishError | None:
    """Call ``attempt`` with the seconds that are left, again while the broker cannot be reached.

    Returns:
        The last outcome.
    """
    deadline = monotonic() + timeout
    retries, left = 0, timeout
    while True:
        error = attempt(left)
        wait = policy.wait(retries)
        if not isinstance(error, BrokerUnavailable | ConfirmTimeout) or wait is None:
            return error
        left = deadline - monotonic() - wait
        if left <= 0:
            return error
        retries += 1
        time.sleep(wait)


class Batch:
    """Messages that leave as one pipeline, and the wait for all of them."""

    def __init__(self, using: str, envelopes: Sequence[Envelope]) -> None:
        self._transport = connections[using]
        self._finished = 0  # may miss a count when threads meet; only a hint to look
        self._moved = threading.Event()
        self._deliveries = [Delivery(envelope, self._one_done, self) for envelope in envelopes]

    def submit(self) -> None:
        """Hand them over, in order."""
        submit(self._transport, self._deliveries)

    def _one_done(self) -> None:
        self._finished += 1
        if self._finished >= len(self._deliveries):
            self._moved.set()

    def wait(self, timeout: float, deadline: float, *, extend: bool) -> float:
        """Wait until all have their outcome; give the rest up at the deadline.

        Args:
            timeout: seconds, for the error's words and for ``extend``.
            deadline: the clock's time.
            extend: every outcome moves the deadline to ``timeout`` seconds from then.

        Returns:
            The deadline afterwards.
        """
        seen = 0
        try:
            while not all(delivery.done for delivery in self._deliveries):
                now = monotonic()
                if extend and self._finished != seen:
                    seen, deadline = self._finished, now + timeout
                if now >= deadline:
                    give_up(self._transport, self._deliveries, late(self._transport, timeout))
                    break
                self._moved.wait(min(deadline - now, LOOK_SECONDS))
        finally:
            # As in send_and_wait(); where all went well this finds nothing to do.
            for delivery in reversed(self._deliveries):
                delivery.fail(INTERRUPTED)
        return deadline

    def outcomes(self) -> list[PublishError | None]:
        """Return the outcomes, in order: None for a confirm."""
        return [delivery.error for delivery in self._deliveries]


async def adeliver(using: str, envelope: Envelope, timeout: float) -> None:
    """Send one message and await its outcome, at most ``timeout`` seconds.

    Raises:
        PublishError: every outcome but a confirm.
    """
    transport = connections[using]
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def on_done() -> None:
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:
            logger.debug("the event loop closed before the outcome of %s", envelope.message_id)

    delivery = Delivery(envelope, on_done)
    submit(transport, (delivery,))
    try:
        async with asyncio.timeout(timeout):
            await done.wait()
    except TimeoutError:
        if not give_up(transport, (delivery,), late(transport, timeout)):
            await done.wait()  # the outcome came in between; it is set in a moment
    except asyncio.CancelledError:
        # Not by give_up(): no deadline has passed. Its place is given back a little later.
        delivery.fail("the task was cancelled")
        raise
    await atell(using, envelope, delivery.error)
    if delivery.error is not None:
        raise delivery.error
