"""The relay: claims what is due, sends it, settles it, sleeps. Any number may run side by side."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

from django.db import InterfaceError, OperationalError
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.outbox import claims, heartbeats, transitions
from rmq_publisher.outbox.notifier import Listener, Sleeper
from rmq_publisher.outbox.row import Stored
from rmq_publisher.outbox.row_sender import LOOK_SECONDS, InHand
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.timing import Backoff, monotonic
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.relay")

T = TypeVar("T")

SETTLE_SECONDS = 0.05  # how long an outcome may wait for others, to be settled together
BATCH_BYTES = 16 * 2**20
PRUNE_SECONDS = 3600.0
PRUNED_AT_ONCE = 10_000  # messages wait meanwhile
ON_THE_WAY = ("closed", "connecting", "reconnecting")  # states that end in "open" or "down"
AWAY = (OperationalError, InterfaceError)


class Looks:
    """When to look for rows of one kind again: at once, unless there were none the last time."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._is_wanted = False
        self.at = 0.0

    def soon(self) -> None:
        """Something was found, or has happened: look at once, again where a look is under way."""
        self.at = 0.0
        self._is_wanted = True

    def begin(self) -> None:
        """A look begins, which may take several steps."""
        self._is_wanted = False

    def end(self) -> None:
        """It is over. If nothing has happened since it began, the next one is when its time has come."""
        if not self._is_wanted:
            self.at = monotonic() + self._every


class Relay:
    """Sends the stored messages of one database, in the thread that calls `run`.

    It holds at most ``batch_size`` rows, and twice `BATCH_BYTES`: one half that is being sent and one
    that was claimed ahead.

    Args:
        database: Django alias.
        poll_interval: seconds between looks at the table while nothing is due.
        once: end as soon as nothing is due.
        batch_size: rows in hand; RMQ_OUTBOX_BATCH_SIZE when left out.
        lease: seconds that claimed rows are its own; RMQ_OUTBOX_LEASE when left out.

    Attributes:
        unreachable: of a relay that ran ``once``: which brokers it could not reach, and why.
        sent: messages confirmed so far.
    """

    def __init__(
        self,
        database: str,
        *,
        poll_interval: float = 1.0,
        once: bool = False,
        batch_size: int | None = None,
        lease: float | None = None,
    ) -> None:
        settings = loader.outbox()
        self.database = database
        self.unreachable: list[str] = []
        self.sent = 0
        self._once = once
        self._poll_interval = poll_interval
        size = settings.outbox_batch_size if batch_size is None else batch_size
        # Half of it is being sent while the other half is claimed: a relay that is killed leaves no
        # more than one batch to be sent twice. Each broker has its share of it.
        self._brokers = max(1, len(loader.usable()))
        self._batch = max(1, size // self._brokers // 2)
        self._lease = settings.outbox_lease if lease is None else lease
        self._retention = timedelta(days=settings.failure_retention_days)
        self._stopping = False
        self._sleeper = Sleeper()
        self._listener = Listener(database)
        self._hand = InHand(database, self._sleeper.wake, low=self._batch, limit=size)
        self._plain, self._keyed = Looks(poll_interval), Looks(poll_interval)
        self._keys_first = False
        self._settle_at = 0.0
        self._after_key = ""  # where the search among keys goes on
        self._up: frozenset[str] = frozenset()
        self._aliases: list[str] = []  # those of them whose rows are claimed now
        self._room = 0
        self._others_at = (
            0.0  # when to look again for rows of those with room, while others have none
        )
        self._on_the_way = True
        self._backoff = Backoff()
        self._away = False
        self._prune_at = monotonic() + PRUNE_SECONDS / 60
        self._pulse = heartbeats.Pulse(database, once=once)

    def stop(self) -> None:
        """Have `run` finish what is in flight and return. Any thread and signal handler may call it."""
        self._stopping = True
        self._sleeper.wake()

    def run(self) -> None:
        """Work until `stop`, or until nothing is due.

        Raises:
            OperationalError, InterfaceError: with ``once``, where the database is away.
            DatabaseError: the table is not as it should be (are its migrations applied?).
        """
        logger.info("relay of database %r: started", self.database)
        try:
            while not self._stopping and self._attempt():
                pass
        finally:
            self._finish()
            logger.info("relay of database %r: ended, %d sent", self.database, self.sent)

    def _attempt(self) -> bool:
        """Take a turn; return False where there is nothing more to do."""
        try:
            return self._turn()
        except AWAY as error:
            if self._once:
                raise
            self._wait_for_database(error)
            return True

    def _turn(self) -> bool:
        if monotonic() >= self._pulse.due_at:
            self._ask(self._pulse.beat)
        self._collect()
        if self._is_time_to_settle():
            self._settle()
        self._look_at_brokers()
        if self._claim():
            return True
        if self._hand:
            self._sleeper.sleep(SETTLE_SECONDS if self._hand.outcomes else LOOK_SECONDS)
            return True
        if self._once and not self._on_the_way:
            self._ask(self._prune)
            return False
        if monotonic() >= self._prune_at:
            self._ask(self._prune)
        self._sleep()
        return True

    # Settling

    def _collect(self) -> None:
        waiting = len(self._hand.outcomes)
        if self._hand.collect() and not waiting:
            self._settle_at = monotonic() + SETTLE_SECONDS

    def _is_time_to_settle(self) -> bool:
        waiting = len(self._hand.outcomes)
        late = monotonic() >= self._settle_at
        return waiting > 0 and (late or not self._hand.flying or waiting >= self._batch // 2)

    def _settle(self) -> None:
        confirmed = len(self._hand.outcomes.confirmed)
        makes_way = self._hand.outcomes.makes_way
        self._ask(self._hand.settle)
        self.sent += confirmed
        if makes_way:
            self._keyed.soon()
        if not self._hand:
            self._plain.soon()  # once more before it sleeps

    # Brokers

    def _look_at_brokers(self) -> None:
        """See which brokers take messages; have those connected that nobody has used yet."""
        up, self._on_the_way = set(), False
        for status in self._statuses():
            if status.state == "open" and not status.blocked:
                up.add(status.alias)
            elif status.state in ON_THE_WAY:
                self._on_the_way = True
        if up - self._up:
            self._plain.soon()
            self._keyed.soon()
        self._up = frozenset(up)

    def _statuses(self) -> Iterator[Status]:
        for settings in loader.usable():
            transport = connections[settings.alias]
            if transport.status().state == "closed":
                transport.submit(())  # nothing: but it connects, and goes on trying
            yield transport.status()

    # Claiming

    def _claim(self) -> bool:
        """Claim a batch and have it sent; return whether there may be more to claim at once."""
        self._aliases, self._room = self._with_room()
        is_crowded = len(self._aliases) < len(self._up)
        if not self._aliases or (is_crowded and monotonic() < self._others_at):
            return False
        kinds = [(self._plain, self._claim_plain), (self._keyed, self._claim_keys)]
        if self._keys_first:
            kinds.reverse()
        for looks, claim in kinds:
            if monotonic() < looks.at and not is_crowded:
                continue
            if rows := self._ask(claim):
                self._keys_first = claim == self._claim_plain
                self._hand.add(rows)
                return True
            if is_crowded:
                looks.soon()  # for those that were left out
        self._others_at = monotonic() + LOOK_SECONDS
        return bool(self._after_key)  # not all keys were looked at

    def _with_room(self) -> tuple[list[str], int]:
        """Return the brokers that hold less than half of their share, and how many rows each may have.

        One that takes messages and does not answer is not to keep those of the others waiting.
        """
        held: dict[str, int] = {}
        for alias in sorted(self._up):
            rows, size = self._hand.of(alias)
            rows += len(self._hand.outcomes)
            if rows <= self._batch and size <= BATCH_BYTES // self._brokers:
                held[alias] = rows
        return list(held), 2 * self._batch - max(held.values(), default=0)

    def _claim_plain(self) -> list[Stored]:
        self._plain.begin()
        rows = claims.claim(
            self.database,
            aliases=self._aliases,
            limit=min(self._batch, self._room),
            max_bytes=BATCH_BYTES,
            lease=self._lease,
        )
        if rows:
            self._plain.soon()
        self._plain.end()
        return rows

    def _claim_keys(self) -> list[Stored]:
        if not self._after_key:
            self._keyed.begin()
        rows, self._after_key = claims.claim_keys(
            self.database,
            aliases=self._aliases,
            limit=self._room,
            max_bytes=BATCH_BYTES,
            lease=self._lease,
            after_key=self._after_key,
        )
        if rows:
            self._keyed.soon()
        if not self._after_key:
            self._keyed.end()
        return rows

    # Sleeping

    def _sleep(self) -> None:
        descriptors = self._ask(self._listener.descriptors)
        until = min(self._plain.at, self._keyed.at)
        if not self._up:
            until = monotonic() + self._poll_interval
        if len(self._up) < len(loader.usable()):
            until = min(until, monotonic() + LOOK_SECONDS)
        if not self._listener.notified:
            self._sleeper.sleep(min(until, self._pulse.due_at) - monotonic(), *descriptors)
        if self._ask(self._listener.hear):
            self._plain.soon()
            self._keyed.soon()

    # The database

    def _ask(self, call: Callable[[], T]) -> T:
        """Do something with the database, and note that it is there."""
        result = call()
        if self._away:
            self._away = False
            self._backoff.reset()
            logger.warning("relay of database %r: the database answers again", self.database)
        return result

    def _wait_for_database(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            logger.error(
                "relay of database %r: the database is away (%s)",
                self.database,
                type(error).__name__,
            )
        databases[self.database].close()
        until = monotonic() + self._backoff.delay()
        while not self._stopping and (left := until - monotonic()) > 0:
            self._sleeper.sleep(left)
            self._collect()  # deadlines pass meanwhile

    def _prune(self) -> None:
        self._prune_at = monotonic() + PRUNE_SECONDS
        publish_counts.prune(self.database)
        heartbeats.prune(self.database)
        if pruned := transitions.prune(
            self.database, older_than=self._retention, most=PRUNED_AT_ONCE
        ):
            logger.info(
                "relay of database %r: deleted %d finished messages", self.database, pruned
            )

    # The end

    def _finish(self) -> None:
        """Wait for what is on the wire, give the rest back, close the database's connection."""
        self._hand.close()
        timeouts = [settings.publish_timeout for settings in loader.usable()]
        deadline = monotonic() + max(timeouts, default=0.0)
        self._hand.collect()
        while self._hand.flying and monotonic() < deadline:
            self._sleeper.sleep(LOOK_SECONDS)
            self._hand.collect()
        self._hand.give_up()
        confirmed = len(self._hand.outcomes.confirmed)
        try:
            self._hand.settle()
            self.sent += confirmed
            self._pulse.end()
        except AWAY as error:
            logger.error(
                "relay of database %r: %d messages are left to their lease (%s)",
                self.database,
                len(self._hand.outcomes),
                type(error).__name__,
            )
        if self._once:
            self.unreachable = [_why(status) for status in self._statuses() if _is_away(status)]
        databases[self.database].close()


def _is_away(status: Status) -> bool:
    return status.state != "open" or bool(status.blocked)


def _why(status: Status) -> str:
    why = f"blocked: {status.blocked}" if status.blocked else status.last_error or status.state
    return f"RabbitMQ connection {status.alias!r}: {why}"
