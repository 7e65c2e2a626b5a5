"""The registry: what settings and apps declare, once each, in an order that works."""

import itertools
import sys

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.amqp.entities import Bare, Binding, Bound, ExchangeConfig, QueueConfig
from rmq_publisher.topology import registry
from rmq_publisher.topology.dependency_order import in_order
from tests.support.configured import configurer

numbers = itertools.count()


@pytest.fixture
def apps(settings, tmp_path, monkeypatch):
    """Install apps made of the text of their queues.py (None: without one); return their names."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def install(**texts: str | None) -> list[str]:
        names = []
        number = next(numbers)  # a module's name is imported once only
        for name, text in texts.items():
            package = tmp_path / f"{name}{number}"
            package.mkdir()
            (package / "__init__.py").touch()
            if text is not None:
                head = "from rmq_publisher import Binding, ExchangeConfig, QueueConfig\n"
                (package / "queues.py").write_text(head + text.replace("{}", str(number)))
            names.append(package.name)
        settings.INSTALLED_APPS = ["rmq_publisher", *names]
        return names

    install()
    yield install
    for name in set(sys.modules) - before:
        if hasattr(sys.modules[name], "__file__") and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def configure(settings, apps):
    configure = configurer(settings)
    configure(URL="memory://")
    return configure


def declared(alias: str = "default") -> dict[str, tuple[str, ...]]:
    return {str(found.config): found.sources for found in registry.declarations(alias)}


def only_problem():
    [problem] = registry.problems()
    return problem


ORDERS = QueueConfig("orders", max_length=5)
EVENTS = ExchangeConfig("events", "topic")
LISTED = [ORDERS, QueueConfig("more")]


# -- where they come from ---------------------------------------------------------------------


def test_nothing(configure):
    assert registry.declarations("default") == ()
    assert registry.problems() == []


def test_settings_hold_objects_dotted_paths_and_lists(configure):
    configure(
        URL="memory://",
        QUEUES=[QueueConfig("own"), f"{__name__}.ORDERS", f"{__name__}.LISTED"],
        EXCHANGES=(f"{__name__}.EVENTS",),
    )
    assert registry.queues("default") == (QueueConfig("own"), ORDERS, QueueConfig("more"))
    assert registry.exchanges("default") == (EVENTS,)
    assert registry.problems() == []
    assert declared() == {
        "exchange 'events'": ("RMQ_EXCHANGES",),
        "queue 'own'": ("RMQ_QUEUES",),
        "queue 'orders'": ("RMQ_QUEUES",),
        "queue 'more'": ("RMQ_QUEUES",),
    }


def test_every_app_with_a_queues_module(configure, apps):
    text = """
EVENTS = ExchangeConfig("events", "topic")
ORDERS = QueueConfig("orders", bindings=[Binding(EVENTS, "o.#")])
LISTED = [QueueConfig("a"), QueueConfig("b")]
TUPLE = (QueueConfig("c"),)
NAMED = {"d": QueueConfig("d")}
SOMETHING = ["else"]
NUMBER = 5
"""
    shop, _, other = apps(shop=text, none=None, other="X = QueueConfig('x')")
    assert list(declared()) == [
        "exchange 'events'", "queue 'orders'", "queue 'a'", "queue 'b'", "queue 'c'", "queue 'd'",
        "queue 'x'",
    ]  # fmt: skip
    assert declared()["queue 'a'"] == (f"{shop}.queues",)
    assert declared()["queue 'x'"] == (f"{other}.queues",)
    assert registry.problems() == []


def test_the_same_value_seen_twice_counts_once(configure, apps):
    [shop] = apps(shop='ORDERS = QueueConfig("orders", max_length=5)')
    configure(URL="memory://", QUEUES=[ORDERS, f"{shop}.queues.ORDERS", f"{__name__}.ORDERS"])
    assert registry.queues("default") == (ORDERS,)
    assert declared() == {"queue 'orders'": ("RMQ_QUEUES", f"{shop}.queues")}
    assert registry.problems() == []


def test_imported_by_another_app(configure, apps):
    first, second = apps(
        first="ORDERS = QueueConfig('orders')", second="from first{}.queues import ORDERS"
    )
    assert declared() == {"queue 'orders'": (f"{first}.queues", f"{second}.queues")}
    assert registry.problems() == []


def test_an_import_error_inside_a_module_is_not_hidden(configure, apps):
    apps(shop="import no_such_module_at_all")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        registry.problems()


def test_any_other_error_inside_a_module_is_not_hidden(configure, apps):
    apps(shop="1 / 0")
    with pytest.raises(ZeroDivisionError):
        registry.problems()


def test_a_config_that_no_broker_takes_is_a_problem_of_its_module(configure, apps):
    [shop] = apps(shop='QueueConfig("q", queue_type="quorom")')
    problem = only_problem()
    assert (problem.setting, problem.id) == (f"{shop}.queues", "rmq_publisher.E009")
    assert "queue_type" in problem.text


def test_collected_once_and_again_after_a_change(configure, apps, settings):
    assert registry._collected() is registry._collected()
    with override_settings(RMQ_QUEUES=[ORDERS]):
        assert registry.queues("default") == (ORDERS,)
    assert registry.queues("default") == ()
    apps(shop="X = QueueConfig('x')")
    assert registry.queues("default") == (QueueConfig("x"),)


# -- what is wrong ----------------------------------------------------------------------------


def test_one_queue_declared_in_two_ways(configure, apps):
    shop, other = apps(shop="Q = QueueConfig('q')", other="Q = QueueConfig('q', durable=False)")
    problem = only_problem()
    assert problem.id == "rmq_publisher.E010"
    assert str(problem).startswith(
        f"{other}.queues declares queue 'q' differently from {shop}.queues."
    )
    assert registry.queues("default") == (QueueConfig("q"),)


def test_a_queue_and_an_exchange_may_share_a_name(configure):
    configure(URL="memory://", QUEUES=[QueueConfig("x")], EXCHANGES=[ExchangeConfig("x")])
    assert registry.problems() == []
    assert len(declared()) == 2


def test_true_is_not_one(configure):
    queues = [QueueConfig("q", arguments={"x": value}) for value in (1, True)]
    configure(URL="memory://", QUEUES=queues)
    assert only_problem().id == "rmq_publisher.E010"


def test_an_exchange_inside_a_binding_counts_and_may_contradict(configure):
    queue = QueueConfig("q", bindings=[Binding(ExchangeConfig("events", "fanout"))])
    configure(URL="memory://", QUEUES=[queue], EXCHANGES=[EVENTS])
    assert only_problem().id == "rmq_publisher.E010"
    configure(URL="memory://", QUEUES=[queue])
    assert registry.exchanges("default") == (ExchangeConfig("events", "fanout"),)
    assert registry.problems() == []


def test_a_binding_by_name_is_the_same_as_by_config(configure):
    by_name = QueueConfig("q", bindings=[Binding("events", "k")])
    by_config = QueueConfig("q", bindings=[Binding(EVENTS, "k")])
    configure(URL="memory://", QUEUES=[by_name, by_config], EXCHANGES=[EVENTS])
    assert registry.problems() == []
    assert len(declared()) == 2


def test_other_bindings_are_another_value(configure):
    queues = [QueueConfig("q", bindings=[Binding("events", key)]) for key in "ab"]
    configure(URL="memory://", QUEUES=queues)
    assert only_problem().id == "rmq_publisher.E010"


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        ("orders", "dotted paths"),
        ("no.such.module", "dotted paths"),
        (f"{__name__}.NOTHING", "dotted paths"),
        (f"{__name__}.EVENTS", "Move it to RMQ_EXCHANGES"),
        (EVENTS, "Move it to RMQ_EXCHANGES"),
        (5, "Write QueueConfig(...)"),
        ([ORDERS, "orders"], "Write QueueConfig(...)"),
        (QueueConfig, "Write QueueConfig(...)"),
        (None, "Write QueueConfig(...)"),
    ],
)
def test_an_item_that_is_no_queue(configure, item, hint):
    configure(URL="memory://", QUEUES=[QueueConfig("good"), item])
    problem = only_problem()
    assert (problem.setting, problem.id) == ("RMQ_QUEUES[1]", "rmq_publisher.E009")
    assert hint in problem.hint
    assert QueueConfig("good") in registry.queues("default")


def test_a_queue_among_the_exchanges(configure):
    configure(URL="memory://", EXCHANGES=[ORDERS])
    assert "Move it to RMQ_QUEUES" in only_problem().hint
    assert registry.queues("default") == ()


def test_a_list_of_a_module_that_holds_more_than_configs(configure, apps):
    [shop] = apps(shop="QUEUES = [QueueConfig('a'), 'b']")
    assert only_problem().setting == f"{shop}.queues.QUEUES"
    assert registry.queues("default") == (QueueConfig("a"),)


# -- several connections ----------------------------------------------------------------------


def test_each_belongs_to_the_connection_it_names(configure):
    configure(
        URL="memory://",
        CONNECTIONS={"events": {}},
        QUEUES=[
            QueueConfig("q", using="default"),
            QueueConfig("q", max_length=1, using="events"),
        ],
    )
    assert registry.problems() == []
    assert registry.queues("default") == (QueueConfig("q"),)
    assert registry.queues("events") == (QueueConfig("q", max_length=1),)


def test_an_exchange_inside_a_binding_belongs_to_its_holders_connection(configure):
    def queue(using):
        exchange = ExchangeConfig("e", using=using)
        return QueueConfig("q", bindings=[Binding(exchange)], using="events")

    connections = {"events": {}}
    configure(URL="memory://", CONNECTIONS=connections, QUEUES=[queue(None)])
    assert registry.exchanges("events") == (ExchangeConfig("e"),)
    assert registry.exchanges("default") == ()
    configure(URL="memory://", CONNECTIONS=connections, QUEUES=[queue("default")])
    assert only_problem().id == "rmq_publisher.E011"


@pytest.mark.parametrize(
    ("using", "words"), [(None, "does not say"), ("evnts", "'evnts'"), ("other", "'other'")]
)
def test_a_connection_unknown_or_not_named(configure, using, words):
    configure(URL="memory://", CONNECTIONS={"events": {}}, QUEUES=[QueueConfig("q", using=using)])
    problem = only_problem()
    assert (problem.setting, problem.id) == ("RMQ_QUEUES", "rmq_publisher.E011")
    assert words in problem.text
    assert "'default', 'events'" in problem.hint
    assert registry.queues("default") == ()


def test_without_any_connection_the_rest_is_judged(configure):
    configure(QUEUES=[QueueConfig("q", using="events"), ORDERS, QueueConfig("orders")])
    assert only_problem().id == "rmq_publisher.E010"
    assert registry.queues("default") == (ORDERS,)
    assert registry.queues("events") == (QueueConfig("q"),)


# -- the order --------------------------------------------------------------------------------


def names(entities):
    return [str(entity) for entity in entities]


def test_exchanges_then_queues_then_bindings(configure):
    configure(
        URL="memory://",
        QUEUES=[
            QueueConfig("work", dead_letter_exchange="dead", bindings=[Binding("events", "a")]),
            QueueConfig("graveyard", bindings=[Binding("dead")]),
        ],
        EXCHANGES=[
            ExchangeConfig("audit", "topic", bindings=[Binding("events", "#")]),
            ExchangeConfig("events", "topic", alternate_exchange="lost"),
            ExchangeConfig("lost", "fanout"),
            ExchangeConfig("dead", "fanout"),
        ],
    )
    order = registry.declaration_order("default")
    assert names(order) == [
        "exchange 'dead'",
        "exchange 'lost'",
        "exchange 'events'",
        "exchange 'audit'",
        "queue 'graveyard'",
        "queue 'work'",
        "binding of exchange 'audit' to exchange 'events' by '#'",
        "binding of queue 'graveyard' to exchange 'dead'",
        "binding of queue 'work' to exchange 'events' by 'a'",
    ]
    assert [type(entity) for entity in order] == [Bare] * 6 + [Bound] * 3


def test_a_queue_that_catches_dead_letters_by_the_default_exchange_comes_first():
    work = QueueConfig("work", dead_letter_exchange="", dead_letter_routing_key="dead")
    assert in_order([], [work, QueueConfig("dead")])[1] == (QueueConfig("dead"), work)


def test_circles_lose_nothing():
    exchanges = [
        ExchangeConfig("a", bindings=[Binding("b")]),
        ExchangeConfig("b", bindings=[Binding("c")]),
        ExchangeConfig("c", bindings=[Binding("a")]),
        ExchangeConfig("self", alternate_exchange="self"),
    ]
    assert set(in_order(exchanges, [])[0]) == set(exchanges)


@given(st.permutations(range(6)), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_what_is_needed_comes_first_in_any_graph_without_circles(order, edges):
    """An edge goes from a higher number to a lower one, so that there is no circle."""
    needs = {
        number: {low for high, low in edges if high == number and low < number} for number in order
    }
    exchanges = [
        ExchangeConfig(str(number), bindings=[Binding(str(low)) for low in sorted(needs[number])])
        for number in order
    ]
    done = [int(exchange.name) for exchange in in_order(exchanges, [])[0]]
    assert sorted(done) == sorted(order)
    for number in order:
        assert all(done.index(low) < done.index(number) for low in needs[number])


def test_nothing_to_sort_keeps_its_order():
    queues = [QueueConfig(name) for name in "cab"]
    exchanges = [ExchangeConfig(name) for name in "zxy"]
    assert in_order(exchanges, queues) == (tuple(exchanges), tuple(queues))
