"""When a relay claims rows, of which brokers, and how many."""

from collections.abc import Callable
from functools import partial

from rmq_publisher.outbox import claims, scheduled
from rmq_publisher.outbox.notifier import PollSchedule
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.outbox.row_sender import POLL_SECONDS, RowSender
from rmq_publisher.timing import monotonic

BATCH_BYTES = 16 * 2**20


class Claimer:
    """Claims rows without an ordering key and rows with one in turn.

    Args:
        database: Django alias.
        sender: whose rows count against the bounds.
        brokers: how many RabbitMQ aliases share the bounds, each an equal part.
        batch: rows of one alias that are claimed at once; it holds twice as many at most.
        lease: seconds that claimed rows are its own.
        poll_interval: seconds between two polls while nothing is due.
        call: runs each query; see `DatabaseGuard.call`.

    Attributes:
        plain: when to poll for rows without a key.
        keyed: when to poll for rows with one.
    """

    def __init__(
        self,
        database: str,
        sender: RowSender,
        *,
        brokers: int,
        batch: int,
        lease: float,
        poll_interval: float,
        call: Callable[[Callable[[], list[OutboxRow]]], list[OutboxRow]],
    ) -> None:
        self._database = database
        self._sender = sender
        self._brokers = brokers
        self._batch = batch
        self._lease = lease
        self._call = call
        self.plain, self.keyed = PollSchedule(poll_interval), PollSchedule(poll_interval)
        self._keys_first = False
        self._after_key = ""  # the last key that an unfinished scan of the keys has reached
        self._crowded_at = 0.0  # when to poll again while some brokers have no room

    @property
    def due_at(self) -> float:
        """When the next poll is due, by `timing.monotonic`."""
        return min(self.plain.at, self.keyed.at)

    def poll_soon(self) -> None:
        """Poll at once: rows may have become due."""
        self.plain.soon()
        self.keyed.soon()

    def claim(self, up: frozenset[str]) -> list[OutboxRow] | None:
        """Claim rows of one kind, where it is time to poll for them.

        Args:
            up: RabbitMQ aliases whose brokers take messages.

        Returns:
            The rows: empty while the scan of the keys is unfinished, None where there are none to claim.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        aliases, room = self._with_room(up)
        is_crowded = len(aliases) < len(up)
        if not aliases or (is_crowded and monotonic() < self._crowded_at):
            return None
        kinds = [(self.plain, self._claim_plain), (self.keyed, self._claim_keys)]
        if self._keys_first:
            kinds.reverse()
        for schedule, claim in kinds:
            if monotonic() < schedule.at and not is_crowded:
                continue
            if rows := self._call(partial(claim, aliases, room)):
                self._keys_first = claim == self._claim_plain
                return rows
            if is_crowded:
                schedule.soon()  # for the brokers that had no room
        self._crowded_at = monotonic() + POLL_SECONDS
        return [] if self._after_key else None

    def _with_room(self, up: frozenset[str]) -> tuple[list[str], int]:
        """Return the brokers that hold less than half of their share, and the rows each may have.

        A broker that takes messages and does not answer must not delay the rows of the others.
        """
        held: dict[str, int] = {}
        for alias in sorted(up):
            rows, size = self._sender.of(alias)
            rows += len(self._sender.completer)
            if rows <= self._batch and size <= BATCH_BYTES // self._brokers:
                held[alias] = rows
        return list(held), 2 * self._batch - max(held.values(), default=0)

    def _claim_plain(self, aliases: list[str], room: int) -> list[OutboxRow]:
        self.plain.begin()
        rows = claims.claim(
            self._database,
            aliases=aliases,
            limit=min(self._batch, room),
            max_bytes=BATCH_BYTES,
            lease=self._lease,
        )
        if rows:
            self.plain.soon()
        self.plain.end(None if rows else scheduled.seconds_to_next(self._database))
        return rows

    def _claim_keys(self, aliases: list[str], room: int) -> list[OutboxRow]:
        if not self._after_key:
            self.keyed.begin()
        rows, self._after_key = claims.claim_keys(
            self._database,
            aliases=aliases,
            limit=room,
            max_bytes=BATCH_BYTES,
            lease=self._lease,
            after_key=self._after_key,
        )
        if rows:
            self.keyed.soon()
        if not self._after_key:
            self.keyed.end()
        return rows
