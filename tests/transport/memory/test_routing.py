"""Who matches: against references that are too slow and too plain to be wrong, and a real broker."""

import itertools
import random
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher import Binding, ExchangeConfig, QueueConfig, connections
from rmq_publisher.amqp.entities import Entity
from rmq_publisher.amqp.topic_keys import topic_matches
from rmq_publisher.conf import loader
from rmq_publisher.messages.compose import compose
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.transport.base import Transport
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.routing import (
    Exchange,
    headers_match,
    route,
    same_value,
    to_exchange,
    to_queue,
)
from rmq_publisher.transport.memory.transport import MemoryTransport
from rmq_publisher.transport.outcome import Delivery
from tests.support.configured import configurer
from tests.support.rig.amqp import Amqp, Names

# -- topics ---------------------------------------------------------------------------------------


def matches(pattern: list[str], words: list[str]) -> bool:
    """The definition, word by word."""
    if not pattern:
        return not words
    first, *rest = pattern
    if first == "#":
        return any(matches(rest, words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and matches(rest, words[1:])


def split(key: str) -> list[str]:
    return key.split(".") if key else []


def test_all_short_topics() -> None:
    patterns = [p for n in range(5) for p in itertools.product("ab*#", repeat=n)]
    keys = [k for n in range(5) for k in itertools.product("ab", repeat=n)]
    for pattern, key in itertools.product(patterns, keys):
        expected = matches(list(pattern), list(key))
        assert topic_matches(".".join(pattern), ".".join(key)) is expected, (pattern, key)


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#", ""]), max_size=6).map(".".join),
    st.lists(st.sampled_from(["a", "b", ""]), max_size=6).map(".".join),
)
def test_topics_match_as_defined(pattern: str, key: str) -> None:
    assert topic_matches(pattern, key) is matches(split(pattern), split(key))


@given(st.text(max_size=8), st.text(max_size=8))
def test_topics_of_any_text(pattern: str, key: str) -> None:
    assert topic_matches(pattern, key) is matches(split(pattern), split(key))
    assert topic_matches("#", key)


def test_many_hashes_take_no_time() -> None:
    assert not topic_matches(".".join(["#", "a"] * 40), ".".join(["a"] * 39 + ["b"]))


# -- headers --------------------------------------------------------------------------------------

VALUES: list[Any] = [
    1, 2, -1, 0, 2**40, "1", "a", "", b"1", b"a", True, False, None, 1.0, Decimal(1), Decimal("1.5"),
    [], [1, 2], [2, 1], ["a"], [b"a"], [True], {}, {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1},
]  # fmt: skip


def kind(value: Any) -> str:
    return "text" if isinstance(value, str | bytes) else type(value).__name__


def alike(one: Any, other: Any) -> bool:
    """Equal, and of one kind."""
    if kind(one) == kind(other) == "text":
        one, other = (
            value.encode() if isinstance(value, str) else value for value in (one, other)
        )
    if kind(one) in ("list", "dict") and not one:
        return other in ([], {})
    return kind(one) == kind(other) and bool(one == other)


def test_values_are_the_same() -> None:
    for one, other in itertools.product(VALUES, repeat=2):
        assert same_value(one, other) is alike(one, other), (one, other)


NAMES = st.sampled_from(["k", "l", "x-m"])
HEADERS = st.dictionaries(NAMES, st.sampled_from(VALUES))


def fits(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    match = arguments.get("x-match", "all")
    verdicts = []
    for name, wanted in arguments.items():
        if name == "x-match" or (name.startswith("x-") and "with-x" not in match):
            continue
        if name not in headers:
            verdicts.append(False)
        elif wanted is None:
            verdicts.append(True)
        else:
            verdicts.append(same_value(wanted, headers[name]))
    return any(verdicts) if match in ("any", "any-with-x") else False not in verdicts


@given(HEADERS, HEADERS, st.sampled_from([None, "all", "any", "all-with-x", "any-with-x"]))
def test_headers_match_as_defined(
    arguments: dict[str, Any], headers: dict[str, Any], match: str | None
) -> None:
    if match is not None:
        arguments["x-match"] = match
    assert headers_match(arguments, headers) is fits(arguments, headers)


# -- ways through exchanges -----------------------------------------------------------------------

FEW = [f"x{number}" for number in range(4)]
LINKS = st.lists(st.tuples(st.sampled_from(FEW), st.sampled_from([*FEW, "q1", "q2"])), max_size=10)


@given(LINKS, st.sampled_from(FEW))
def test_every_way_is_gone_once(links: list[tuple[str, str]], start: str) -> None:
    exchanges = {name: Exchange(name, "fanout") for name in FEW}
    for source, target in links:
        lead_to = to_exchange if target in FEW else to_queue
        exchanges[source].bind(lead_to(target), "", {})
    reachable = {start}
    for _ in FEW:
        reachable |= {target for source, target in links if source in reachable}
    found = route(exchanges, {"q1", "q2"}, start, ("k",), {})
    assert sorted(found) == sorted(reachable & {"q1", "q2"})


def test_the_same_binding_twice_is_one() -> None:
    exchange = Exchange("x", "direct")
    for arguments in ({}, {}, {"a": 1}):
        exchange.bind(to_queue("q"), "k", arguments)
    assert list(exchange.matching(("k",), {})) == [to_queue("q")] * 2
    assert not Exchange("y", "direct").unbind_all(to_queue("q"))
    assert exchange.unbind_all(to_queue("q"))
    assert not exchange.unbind_all(to_queue("q"))


# -- the real broker ------------------------------------------------------------------------------


class Topology:
    """Exchanges, queues, bindings and messages by chance, the same ones for the same seed."""

    def __init__(self, seed: int, names: Names) -> None:
        self._random = random.Random(seed)
        self.exchanges = [names.exchange() for _ in range(self._random.randint(1, 5))]
        self.queues = [names.queue() for _ in range(self._random.randint(1, 6))]
        kinds = ("direct", "topic", "fanout", "headers")
        self._kinds = {name: self._random.choice(kinds) for name in self.exchanges}
        self._missing = names.exchange()

    def entities(self) -> Iterator[Entity]:
        alternates = {
            name: self._random.choice([*self.exchanges, self._missing])
            if self._chance(0.3)
            else None
            for name in self.exchanges
        }
        for bound in (False, True):  # all must be there before any is bound
            for name in self.exchanges:
                sources = [source for source in self.exchanges if bound and self._chance(0.2)]
                yield ExchangeConfig(
                    name,
                    self._kinds[name],
                    alternate_exchange=alternates[name],
                    bindings=[self._binding(source) for source in sources],
                )
        for name in self.queues:
            sources = self._random.choices(self.exchanges, k=self._random.randint(0, 3))
            yield QueueConfig(name, bindings=[self._binding(source) for source in sources])

    def envelopes(self, count: int) -> Iterator[Envelope]:
        for number in range(count):
            exchange = self._random.choice([*self.exchanges, ""])
            key = self._key("abc") if exchange else self._random.choice(self.queues)
            headers = self._headers(("k", "l", "x-m", "z"))
            if self._chance(0.2):
                copies = [self._key("abc"), self._random.choice(self.queues)]
                headers[self._random.choice(["CC", "BCC"])] = copies
            yield compose(
                loader.connection("default"), b"%d" % number, exchange=exchange, routing_key=key,
                headers=headers,
            )  # fmt: skip

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _key(self, words: str) -> str:
        return ".".join(
            self._random.choice([*words, ""]) for _ in range(self._random.randint(0, 4))
        )

    def _headers(self, names: tuple[str, ...]) -> dict[str, Any]:
        # RabbitMQ 3.10 takes the header 1.0 for the argument 1, 4.0 does not.
        values = [value for value in VALUES if not isinstance(value, float)]
        return {name: self._random.choice(values) for name in names if self._chance(0.4)}

    def _binding(self, source: str) -> Binding:
        arguments = {}
        if self._kinds[source] == "headers":
            arguments = self._headers(("k", "l", "x-m"))
            if self._chance(0.7):
                match = ("all", "any", "all-with-x", "any-with-x")
                arguments["x-match"] = self._random.choice(match)
        return Binding(source, self._key("abc*#"), arguments)


def outcomes(transport: Transport, envelopes: list[Envelope]) -> list[str]:
    found = []
    for envelope in envelopes:
        done = threading.Event()
        delivery = Delivery(envelope, done.set)
        transport.submit((delivery,))
        assert done.wait(10)
        found.append(type(delivery.error).__name__)
    return found


@pytest.mark.smoke
@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_bound_goes_where_rabbitmq_sends_it(
    seed: int, settings: Any, amqp: Amqp, names: Names
) -> None:
    configurer(settings)(URL=amqp.url)
    topology = Topology(seed, names)
    entities = tuple(topology.entities())
    envelopes = list(topology.envelopes(30))
    memory = MemoryTransport(loader.connection("default"), MemoryBroker())
    for transport in (memory, connections["default"]):
        transport.declare(entities, 5)
    assert outcomes(memory, envelopes) == outcomes(connections["default"], envelopes)
    for queue in topology.queues:
        ours = [(message.body, message.headers) for message in memory.broker.drain(queue)]
        theirs = [
            (message.body, message.properties.headers or {})
            for message in amqp.drain(queue, len(ours))
        ]
        assert ours == theirs
