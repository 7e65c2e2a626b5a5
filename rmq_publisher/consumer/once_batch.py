"""Several messages in one transaction: a savepoint for each handler, and one commit."""

from collections.abc import Sequence

from django.db import transaction

from rmq_publisher.consumer.handler_call import HandlerCall
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome
from rmq_publisher.serialization import DecodeError


def run_batch(call: HandlerCall, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
    """Return how a handler with ``once=True`` ended for each message.

    Messages are handled in the order of their ids, so that two workers with the same messages do not
    deadlock. If the transaction as a whole fails, each message is handled in its own.
    """
    order = sorted(range(len(messages)), key=lambda place: _id(messages[place]))
    try:
        found = _in_one_transaction(call, [messages[place] for place in order])
    except BaseException:  # noqa: BLE001 (it is raised again for the message that causes it)
        return [call.run(message) for message in messages]
    outcomes = dict(zip(order, found, strict=True))
    return [outcomes[place] for place in range(len(messages))]


class _Undo(Exception):
    """Rolls the whole transaction back."""


def _in_one_transaction(call: HandlerCall, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
    inbox = call.inbox
    assert inbox is not None  # noqa: S101 (only such handlers have batches)
    outcomes = []
    with inbox.transaction():
        for message in messages:
            try:
                body = message.decode()
                with transaction.atomic(using=inbox.database):
                    call.call_once(inbox, body, message)
                outcome = HANDLED
            except BaseException as error:  # noqa: BLE001 (as in HandlerCall)
                outcome = call.judge(error)
            if outcome.ended is Ended.NOT_AN_ATTEMPT:
                raise _Undo
            outcomes.append(outcome)
        inbox.check_intact()
    return outcomes


def _id(message: ReceivedMessage) -> str:
    try:
        return message.message_id
    except DecodeError:
        return ""
