"""Publishing while the broker takes nothing: calls end, memory stays, and all committed arrives."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.faults.result import Result

from . import checker
from .actors import Relay, Worker, seen, until
from .checker import Broken
from .direct import WINDOW, few_duplicates, verdict
from .journal import Story, read_direct
from .plan import Size
from .stage import Stage
from .work import GO

_PROCESSES = 4
_THREADS = 8
GROWTH = 64.0  # MiB between the first quarter of the calls and the last one
WHAT = "broker: memory alarm"


def alarm(stage: Stage) -> Result:
    size = stage.size
    result = Result("An alarm", ["while the broker was blocked", ""])
    store = stage.use("postgres")
    queue = stage.queue(stage.name("alarm."))
    rmq = stage.rmq(**size.times)
    quota = size.attempts // _PROCESSES
    for number in range(_PROCESSES):
        worker = Worker(
            stage, f"w{number}", rmq, do="alarmed", threads=_THREADS, quota=quota,
            publish={"queue": queue},
        )  # fmt: skip
        stage.start(worker)
    for number in range(2):
        stage.start(Relay(stage, f"r{number}", rmq))
    workers = stage.workers()
    until(lambda: all(worker.done >= _THREADS for worker in workers))
    stage.node.block()
    began = time.monotonic()
    for worker in workers:
        worker.gauge.order(GO)
    memory = _Memory(workers)
    result.struck(WHAT, seen(lambda: sum(worker.gauge.under_way for worker in workers)))
    while any(worker.running for worker in workers) and time.monotonic() - began < 1800:
        memory.look(sum(worker.done for worker in workers) / size.attempts)
        time.sleep(0.1)
    for worker in workers:
        worker.await_end()
    seconds = time.monotonic() - began
    waiting = store.count("state IN ('pending', 'failed')")
    stage.node.unblock()
    cleared = time.monotonic()
    all_sent = stage.all_sent(30)
    seconds_to_send = time.monotonic() - cleared
    stage.stop_relays()
    stories = [story for worker in workers for story in worker.stories(read_direct)]
    arrived = stage.arrived(queue)
    committed = store.committed()
    # Messages of calls with "now" whose outcome is unknown may have arrived.
    own = {one for story in stories for one in story.attempted}
    stored = arrived._replace(ids=[one for one in arrived.ids if one not in own])
    most = WINDOW * (len(workers) + 2)
    broken = checker.stored(committed, stored, most_duplicates=most)
    broken += checker.told(
        stories,
        arrived._replace(ids=[one for one in arrived.ids if one in own]),
        most_duplicates=0,
    )
    if not all_sent or store.left():
        broken += Broken.of("left", store.left())
    attempts = sum(story_calls(story) for story in stories)
    result.rows += [
        ["publishes attempted", f"{attempts:,} by {_PROCESSES} processes of {_THREADS} threads"],
        ["took", f"{seconds:.0f} s"],
        ["rows that waited when the alarm was over", f"{waiting:,}"],
        ["until they were sent", f"{seconds_to_send:.1f} s"],
        ["messages committed, arrived", f"{len(committed):,}, {len(set(stored.ids)):,}"],
        ["duplicates", f"{stored.duplicates:,}"],
        *memory.rows(),
    ]
    _calls(result, stories, size)
    result.must_hit(WHAT)
    result.promise(
        "alarm",
        f"memory grows by less than {GROWTH:.0f} MiB while calls go on",
        memory.growth() < GROWTH,
        f"{memory.growth():.1f} MiB",
    )
    wanted = quota * _PROCESSES
    result.promise("alarm", f"{wanted:,} attempts", attempts >= wanted, f"{attempts:,}")
    texts = {
        "missing": "all that was committed arrived",
        "ghost": "nothing else arrived",
        "left": "nothing is dead, nothing is left to be sent",
        "untold": "every call ended",
        "outcome": "every call ended with an outcome of the contract",
    }
    verdict(result, "alarm", broken, texts)
    text = "at most a window of duplicates for each process"
    few_duplicates(result, "alarm", text, broken, stored, most)
    return result


def story_calls(story: Story) -> int:
    """Calls of a process: those with "now", and the transactions."""
    return len(story.attempted) + sum(note.startswith("C ") for note in story.notes)


def _calls(result: Result, stories: list[Story], size: Size) -> None:
    """What the calls took once a first one of their thread had failed."""
    told = [note.split()[1:] for story in stories for note in story.notes if note.startswith("= ")]
    outcomes: Counter[str] = Counter()
    for story in stories:
        outcomes += story.outcomes()
    words = {"U": "BrokerUnavailable", "T": "ConfirmTimeout", "+": "confirmed before"}
    ended = ", ".join(f"{outcomes[letter]:,} {word}" for letter, word in words.items())
    result.rows.append(['calls with "now"', ended])
    if not told:
        result.promise("alarm", "threads reported how long their calls took", False, "none did")
        return
    half = max(float(one[1]) for one in told)
    p99 = max(float(one[2]) for one in told)
    longest = max(float(one[4]) for one in told)
    times = f"median {half * 1000:.1f} ms, p99 {p99 * 1000:.0f} ms in the slowest thread"
    result.rows.append(["calls after the first deadline", times])
    result.rows.append(["longest call of all", f"{longest:.2f} s"])
    result.promise(
        "alarm", "after the first deadlines calls end at once", p99 < 0.5 * size.slack, times
    )
    result.promise(
        "alarm", "no call takes longer than its timeout and a second",
        longest < (size.times["PUBLISH_TIMEOUT"] + 1) * size.slack, f"{longest:.2f} s",
    )  # fmt: skip


class _Memory:
    """Resident memory of the workers, in MiB, by how far they were."""

    def __init__(self, workers: object) -> None:
        self._workers: list[Worker] = list(workers)  # type: ignore[call-overload]
        self._seen: dict[str, list[tuple[float, float]]] = {}

    def look(self, share: float) -> None:
        for worker in self._workers:
            if worker.running and (found := _resident(worker.pid)):
                self._seen.setdefault(worker.life, []).append((share, found))

    def growth(self) -> float:
        """The most that one process grew between a quarter of the calls and the end."""
        grown = []
        for sizes in self._seen.values():
            early = [size for share, size in sizes if share <= 0.25] or [sizes[0][1]]
            grown.append(max(size for _, size in sizes) - max(early))
        return max(grown, default=0.0)

    def rows(self) -> list[tuple[str, str]]:
        first = max((sizes[0][1] for sizes in self._seen.values()), default=0)
        quarter = [s for sizes in self._seen.values() for share, s in sizes if share <= 0.25]
        peak = max((s for sizes in self._seen.values() for _, s in sizes), default=0)
        return [
            ("memory of the largest process, at first", f"{first:.0f} MiB"),
            ("after a quarter of the calls", f"{max(quarter, default=first):.0f} MiB"),
            ("at its peak", f"{peak:.0f} MiB"),
        ]


def _resident(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(text.split()[1]) * 4096 / 2**20
