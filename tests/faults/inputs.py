"""Whatever is passed to publish(): refused without a byte, or sent; and the tags stay in step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rmq_publisher import InvalidMessage, PublishError, connections, publish
from tests.messages.test_envelope import anything, items, short_text, wild_options
from tests.support.rig import wire
from tests.support.rig.amqp import Amqp, Received
from tests.support.rig.faults import Step, Verdict
from tests.support.rig.link import Link
from tests.support.rig.wire import Frame

from .cuts import CHANNEL_CLOSE, Closes, arm
from .ledger import Ledger, Load, Reading
from .result import Result
from .stage import PATIENCE, Stage

THREADS = 4  # that publish at the same time, so that mixed-up tags would be noticed
PAUSE = 0.002
SECONDS = 10  # of a call: none comes near it
_WHAT = "inputs"
_CLOSED = "channel closed over an input"
_CHANNEL_CLOSE_OK = (20, 41)
# What still comes of an earlier input: the end of a channel, and another one in its place.
_LATE = (CHANNEL_CLOSE, _CHANNEL_CLOSE_OK, wire.CHANNEL_OPEN, wire.CONFIRM_SELECT)
_REFUSALS = (InvalidMessage, TypeError)


class Recorder(Closes):
    """Counts what the client sends because of an input, down to single frames."""

    def __init__(self, own: set[str]) -> None:
        super().__init__()
        self.frames = 0
        self._own = own  # routing keys of the messages that are published at the same time
        self._is_own = False

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        if frame.method == wire.PUBLISH:
            self._is_own = _routing_key(link.up.received, frame) in self._own
        content = frame.kind in (wire.HEADER, wire.BODY) or frame.method == wire.PUBLISH
        late = frame.kind == wire.HEARTBEAT or frame.method in _LATE
        if not late and not (content and self._is_own):
            self.frames += 1
        return super().from_client(link, frame, step)


def _routing_key(data: bytearray, frame: Frame) -> str:
    """Of a basic.publish: class, method, a reserved short, exchange, routing key."""
    at = frame.start + 7 + 6
    at += 1 + data[at]
    return data[at + 1 : at + 1 + data[at]].decode("utf-8", "replace")


def _is_long(timeout: object) -> bool:
    """Whether it is no timeout at all, or one within which every call is answered."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    return not isinstance(seconds, int | float) or not 0 < seconds < SECONDS


def calls(queue: str) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of publish(): good ones, odd ones, and wrong ones."""
    keys = st.just(queue) | st.just(queue) | short_text | st.text() | anything
    places = st.fixed_dictionaries(
        {"routing_key": keys},
        optional={
            "queue": st.just(queue) | st.text(max_size=300) | anything,
            "exchange": st.sampled_from(["", "amq.topic", "amq.fanout"]) | st.text() | anything,
            "timeout": anything.filter(_is_long),
            "using": st.just("default") | anything,
            "declare": anything,
            "serializer": st.sampled_from(["json", "json+gzip", "pickle", ""]) | anything,
        },
    )
    usual = st.just({"routing_key": queue}) | st.just({"queue": queue})
    wild = st.builds(
        lambda body, place, options: {**options, **place, "body": body},
        st.text() | st.binary() | anything,
        usual | places,
        wild_options,
    )
    large = st.fixed_dictionaries(
        {
            "body": st.just("x"),
            "routing_key": st.integers(200, 300).map("k".__mul__) | st.just(queue),
            "headers": st.dictionaries(
                short_text, st.integers(60_000, 140_000).map("v".__mul__), max_size=3
            ),
        }
    )
    return items(queue) | items(queue) | wild | wild | large


@dataclass
class Tally:
    """What became of the inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)  # by message id
    leaked: int = 0  # refused, and yet something was sent
    odd: Counter[str] = field(default_factory=Counter)  # raised, and no outcome that is promised


def inputs(stage: Stage) -> Result:
    """Some thousands of calls, one at a time, while other threads publish."""
    result = Result("Inputs", ["inputs", "outcomes", "published meanwhile"])
    tally, queue, beside = Tally(), stage.name("inputs"), stage.name("beside")
    amqp = Amqp(stage.node.url())
    # What expires is kept as well: all that was confirmed is looked for.
    kept = amqp.declare_queue(f"{queue}.expired")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": kept}
    amqp.declare_queue(queue, arguments=arguments)
    amqp.declare_queue(beside)
    with (
        stage.proxy() as proxy,
        stage.library(proxy.url, PUBLISH_TIMEOUT=SECONDS, HEARTBEAT=600),
        Ledger() as ledger,
    ):
        ledger.publish("first", routing_key=beside)
        engine = connections["default"]._thread  # type: ignore[attr-defined]
        recorder = arm(proxy, Recorder({beside}))
        load = Load(ledger, THREADS, lambda _: {"routing_key": beside}, pause=PAUSE).start()
        _feed(stage, tally, recorder, ledger, queue, beside)
        came_back = load.stop(PATIENCE)
        status = connections["default"].status()
        lives = engine._thread.is_alive() and connections["default"]._thread is engine  # type: ignore[attr-defined]
        made = proxy.connections_made
    for over in recorder.closed_over:
        result.struck(_CLOSED, over - 1)
    received = [*amqp.drain(queue), *amqp.drain(kept)]
    others = amqp.drain(beside, len(ledger.confirms), timeout=PATIENCE)
    amqp.close()
    result.must_hit(_CLOSED)
    told = f"{status.connects} connection, {made} made"
    result.promise(_WHAT, "the I/O thread lives, and its connection", lives and made == 1, told)
    _judge(result, tally, received, len(recorder.closed_over))
    ledger.forget_others()
    result.one_outcome_each("published meanwhile", ledger, came_back)
    hurt = len(ledger.attempts) - len(ledger.confirms)
    result.promise("published meanwhile", "all are confirmed", not hurt, f"{hurt} not confirmed")
    result.read_back("published meanwhile", Reading.of(ledger.attempts, others))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in tally.outcomes.most_common())
    result.rows.append([f"{tally.outcomes.total():,}", kinds, f"{len(ledger.confirms):,}"])
    return result


def _feed(
    stage: Stage, tally: Tally, recorder: Recorder, ledger: Ledger, queue: str, beside: str
) -> None:
    @seed(stage.seed)
    @settings(
        max_examples=stage.size.inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(queue))
    def feed(call: dict[str, Any]) -> None:
        options = dict(call)
        before = recorder.frames
        try:
            message_id = publish(options.pop("body"), delivery="now", **options)
        except _REFUSALS as error:
            tally.outcomes[f"refused ({type(error).__name__})"] += 1
            # Whatever the call has written is in front of the next message on the same stream.
            ledger.publish(f"after{tally.outcomes.total()}", routing_key=beside)
            tally.leaked += recorder.frames != before
        except PublishError as error:
            tally.outcomes[type(error).__name__] += 1
        except Exception as error:  # found, told, and the next one is tried
            tally.outcomes[type(error).__name__] += 1
            tally.odd[f"{type(error).__name__}: {sorted(options)}"] += 1
        else:
            tally.outcomes["confirmed"] += 1
            tally.confirmed[message_id] += 1

    feed()


def _judge(result: Result, tally: Tally, received: list[Received], closes: int) -> None:
    refused = sum(n for kind, n in tally.outcomes.items() if kind.startswith("refused"))
    total = tally.outcomes.total()
    result.promise(
        _WHAT,
        "what can be known bad sends no byte",
        not tally.leaked,
        f"{refused:,} refused, {tally.leaked} of them sent something",
    )
    result.promise(
        _WHAT,
        "bad and good ones were tried",
        min(refused, tally.confirmed.total()) > total / 10,
        f"{refused:,} refused, {tally.confirmed.total():,} confirmed",
    )
    result.promise(
        _WHAT,
        "every error is one that is promised",
        not tally.odd,
        "; ".join(tally.odd) or "no other",
    )
    late = tally.outcomes["ConfirmTimeout"] + tally.outcomes["BrokerUnavailable"]
    result.promise(_WHAT, "each is answered", not late, f"{late} were not")
    arrived = Counter(message.properties.message_id for message in received)
    missing = (tally.confirmed - arrived).total()
    surplus = arrived - tally.confirmed
    strangers = sum(count for name, count in surplus.items() if name not in tally.confirmed)
    result.promise(
        _WHAT,
        "what was confirmed is what the queue holds",
        not missing and not strangers and surplus.total() <= 64 * closes,
        f"{missing} missing, {strangers} strangers, {surplus.total()} duplicates",
    )
