"""rmq_declare and rmq_check: what they say, what they change, how they end."""

import io
import json
import sys
from typing import NamedTuple

import pytest
from django.core.management import call_command, execute_from_command_line
from django.core.management.base import CommandError
from django.db import OperationalError

from rmq_publisher import consume, signals
from rmq_publisher.amqp.entities import Binding, ExchangeConfig, QueueConfig
from rmq_publisher.consumer import handlers, old_levels
from rmq_publisher.exceptions import (
    BrokerUnavailable,
    ConfirmTimeout,
    Nacked,
    Rejected,
    Unroutable,
)
from rmq_publisher.models import RetryQueue
from rmq_publisher.topology import declare
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.handler import connections
from rmq_publisher.transport.outcome import Declared
from tests.support.configured import configurer
from tests.support.rig import PATIENCE
from tests.support.rig.ports import SilentPort, closed_port

pytestmark = pytest.mark.django_db(databases="__all__")  # rmq_check looks for scheduled messages


class Said(NamedTuple):
    """What a command left behind."""

    out: str
    error: str

    @property
    def rows(self) -> list[tuple[str, str]]:
        """State and name, line by line."""
        return [
            (line[2:16].strip(), line[17:].split(" (")[0])
            for line in self.out.splitlines()[1:]
            if line[16:17] == " " and " not compared: " not in line and "memory://" not in line
        ]

    @property
    def json(self):
        return json.loads(self.out)


def run(*command: str) -> Said:
    out, said = io.StringIO(), ""
    try:
        call_command(*command, stdout=out, no_color=True)
    except CommandError as error:
        said = str(error)
    return Said(out.getvalue(), said)


@pytest.fixture
def configure(settings):
    settings.INSTALLED_APPS = ["rmq_publisher"]  # without the topology of the example
    yield configurer(settings)
    connections.close()


# -- settings ---------------------------------------------------------------------------------

COMMANDS = [
    ("rmq_declare",),
    ("rmq_declare", "--dry-run"),
    ("rmq_declare", "--check"),
    ("rmq_check",),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_url(configure, command):
    assert "Set RMQ_URL" in run(*command).error


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_settings_and_bad_topology_are_all_shown(configure, command):
    configure(
        URL="amqp://u:secret-1@h:x",
        HEARTBEAT=0,
        QUEUES=[QueueConfig("q"), QueueConfig("q", max_length=1)],
    )
    error = run(*command).error
    assert "RMQ_URL" in error
    assert "RMQ_HEARTBEAT" in error
    assert "RMQ_QUEUES declares queue 'q' twice" in error
    assert "secret-1" not in error


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_alias(configure, command):
    configure(URL="amqp://h")
    assert "'events'" in run(*command, "--using", "events").error


def test_dry_run_and_check_exclude_each_other(configure):
    configure(URL="amqp://h")
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("rmq_declare", "--dry-run", "--check")
    with pytest.raises(CommandError, match="cannot be used together"):
        call_command("rmq_declare", dry_run=True, check=True)


# -- dry run ----------------------------------------------------------------------------------

TOPOLOGY = [
    QueueConfig(
        "work",
        dead_letter_exchange="dead",
        max_length=5,
        bindings=[Binding("events", "a.#"), Binding("events", "b.#")],
    ),
    QueueConfig("graveyard", bindings=[Binding(ExchangeConfig("dead", "fanout"))]),
]
EXCHANGES = [ExchangeConfig("events", "topic", internal=True)]
ORDER = [
    "exchange 'dead'",
    "exchange 'events'",
    "queue 'graveyard'",
    "queue 'work'",
    "binding of queue 'graveyard' to exchange 'dead'",
    "binding of queue 'work' to exchange 'events' by 'a.#'",
    "binding of queue 'work' to exchange 'events' by 'b.#'",
]


def test_a_dry_run_needs_no_broker_and_says_what_it_would_do(configure, monkeypatch):
    configure(URL=f"amqp://127.0.0.1:{closed_port()}", QUEUES=TOPOLOGY, EXCHANGES=EXCHANGES)
    monkeypatch.setattr(declare, "connections", None)
    said = run("rmq_declare", "--dry-run")
    assert said.error == ""
    assert [name for _, name in said.rows] == ORDER
    assert {state for state, _ in said.rows} == {"would declare", "would bind"}
    assert "exchange 'events' (RMQ_EXCHANGES): topic, durable, internal" in said.out
    assert "queue 'work' (RMQ_QUEUES): durable, x-dead-letter-exchange='dead'" in said.out


def test_nothing_declared(configure):
    configure(URL=f"amqp://127.0.0.1:{closed_port()}")
    assert "nothing to declare" in run("rmq_declare").out


# -- a transport that answers as told ---------------------------------------------------------


class Broker:
    """A transport whose broker has some things, refuses others, and notes what it was asked."""

    def __init__(self, has=(), refusals=None, outcome=None, blocked="", down=None):
        self.has = {str(name) for name in has}
        self.refusals = refusals or {}  # (step's operation or "passive", entity): code
        self.outcome = outcome
        self.blocked = blocked
        self.down = down
        self.asked = []
        self.envelopes = []

    def declare(self, topology, timeout):
        assert timeout > 0
        if self.down:
            raise BrokerUnavailable(self.down)
        [entity] = topology
        [step] = entity.steps()
        what = "passive" if step.arguments.get("passive") else step.operation
        self.asked.append((what, str(entity)))
        if code := self.refusals.get((what, str(entity))):
            raise Rejected(code, f"{step.entity}: own words")
        if what == "passive" and str(entity) not in self.has:
            raise Rejected(404, f"{step.entity}: own words")
        self.has.add(str(entity))
        return [Declared(str(entity))]

    def submit(self, deliveries):
        for delivery in deliveries:
            self.envelopes.append(delivery.envelope)
            delivery.written = True
            if self.outcome != "silence":
                delivery.resolve(self.outcome)

    def abandoned(self):
        pass

    def status(self):
        return Status("default", "open", "h:5672", "/", product="Fake 1.0", blocked=self.blocked)

    def close(self, timeout):
        pass


@pytest.fixture
def fake(configure, monkeypatch):
    def make(**options):
        broker = Broker(**options)
        monkeypatch.setattr(declare, "connections", {"default": broker})
        return broker

    configure(URL="amqp://h", QUEUES=TOPOLOGY, EXCHANGES=EXCHANGES, PUBLISH_TIMEOUT=0.2)
    return make


THINGS = ORDER[:4]


def test_created_in_order_and_each_by_itself(fake):
    broker = fake()
    said = run("rmq_declare")
    assert said.error == ""
    assert said.rows == [
        *[("created", name) for name in THINGS],
        *[("bound", name) for name in ORDER[4:]],
    ]
    actively = [name for what, name in broker.asked if what != "passive"]
    assert actively == ORDER


def test_declared_again_with_the_same_result(fake):
    fake(has=THINGS)
    said = run("rmq_declare")
    assert said.error == ""
    assert {state for state, _ in said.rows} == {"present", "bound"}


def test_one_mismatch_does_not_keep_the_rest_from_being_declared(fake):
    fake(
        has=["exchange 'dead'", "queue 'work'"],
        refusals={
            ("exchange_declare", "exchange 'dead'"): 406,
            ("queue_declare", "queue 'work'"): 406,
            ("queue_bind", ORDER[5]): 404,
        },
    )
    said = run("rmq_declare")
    assert [state for state, _ in said.rows] == [
        "differs", "created", "created", "differs", "bound", "failed", "bound",
    ]  # fmt: skip
    assert "exchange 'dead' (RMQ_QUEUES): 406 own words" in said.out
    assert said.error.endswith("2 differs, 1 failed (of 7)")


@pytest.mark.parametrize(
    ("has", "step", "code", "declared", "compared"),
    [
        # What the broker refuses to make is not there to differ.
        ((), "queue_declare", 406, "failed", "missing"),
        ((), "queue_declare", 403, "refused", "missing"),
        (["queue 'work'"], "queue_declare", 403, "refused", "not comparable"),
        (["queue 'work'"], "queue_declare", 406, "differs", "differs"),
        (["queue 'work'"], "queue_declare", 405, "failed", "not comparable"),
        (["queue 'work'"], "passive", 405, "failed", "failed"),
        (["queue 'work'"], "passive", 403, "refused", "refused"),
    ],
)
def test_what_the_broker_says_has_a_word(fake, has, step, code, declared, compared):
    for command, word in ((("rmq_declare",), declared), (("rmq_declare", "--check"), compared)):
        fake(has=[*THINGS[:3], *has], refusals={(step, "queue 'work'"): code})
        said = run(*command)
        assert (word, "queue 'work'") in said.rows
        assert bool(said.error) is (word != "not comparable")


def test_check_changes_nothing(fake):
    broker = fake(has=["exchange 'events'"])
    said = run("rmq_declare", "--check")
    assert [what for what, name in broker.asked if what != "passive"] == ["exchange_declare"]
    assert [state for state, _ in said.rows] == [
        "missing", "present", "missing", "missing", *["not checked"] * 3,
    ]  # fmt: skip
    assert said.error.endswith("3 missing (of 7)")


def test_check_is_content_with_what_is_there(fake):
    fake(has=THINGS)
    assert run("rmq_declare", "--check").error == ""


def test_json_of_declare(fake):
    fake(has=["queue 'work'"], refusals={("queue_declare", "queue 'work'"): 406})
    said = run("rmq_declare", "--json")
    assert said.error
    [connection] = said.json["connections"]
    assert said.json["ok"] is False
    assert (connection["alias"], connection["nodes"]) == ("default", ["h:5672"])
    assert connection["error"] is None
    assert connection["rows"][3] == {
        "kind": "queue",
        "name": "queue 'work'",
        "state": "differs",
        "detail": "406 own words",
        "sources": ["RMQ_QUEUES"],
    }
    assert [row["kind"] for row in connection["rows"]] == [
        "exchange", "exchange", "queue", "queue", "binding", "binding", "binding",
    ]  # fmt: skip


def test_a_broker_that_goes_away_ends_it_and_the_rest_of_the_connections_follow(
    configure, monkeypatch
):
    configure(
        URL="amqp://u:secret-1@a",
        CONNECTIONS={"other": {"URL": "amqp://b:1"}},
        QUEUES=[QueueConfig("q", using="default"), QueueConfig("q", max_length=1, using="other")],
    )
    both = {"default": Broker(down="nobody there"), "other": Broker(outcome=Unroutable(312, "NO"))}
    monkeypatch.setattr(declare, "connections", both)
    said = run("rmq_declare")
    assert said.error == "RabbitMQ connection 'default' (a:5672): nobody there"
    assert "RabbitMQ connection 'other' (b:1)\n  created        queue 'q'" in said.out
    first, second = run("rmq_check", "--json").json["connections"]
    assert (first["error"], second["error"]) == ("nobody there", None)
    assert second["publishing"] == "allowed"
    assert both["other"].asked
    both["other"].asked.clear()
    assert run("rmq_declare", "--using", "default").error
    assert both["other"].asked == []


# -- rmq_check with that transport ------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "blocked", "publishing", "detail"),
    [
        (Unroutable(312, "NO_ROUTE"), "", "allowed", ""),
        (Rejected(403, "own words"), "", "not allowed", "403 own words"),
        (BrokerUnavailable("late"), "low on memory", "blocked", "low on memory"),
        (ConfirmTimeout("late"), "low on memory", "blocked", "low on memory"),
        ("silence", "low on memory", "blocked", "low on memory"),
        (ConfirmTimeout("late"), "", "unknown", "late"),
        (Nacked("nacked"), "", "unknown", "nacked"),
    ],
)
def test_the_probe_says_whether_publishing_is_allowed(fake, outcome, blocked, publishing, detail):
    broker = fake(has=THINGS, outcome=outcome, blocked=blocked)
    said = run("rmq_check")
    assert f"publishing  {publishing}" in said.out
    assert detail in said.out
    assert bool(said.error) is (publishing != "allowed")
    [envelope] = broker.envelopes
    assert envelope.exchange == ""
    assert envelope.routing_key.startswith("rmq-check-")
    assert envelope.body == b""


def test_a_probe_without_any_answer(fake):
    fake(has=THINGS, outcome="silence")
    said = run("rmq_check")
    assert "publishing  unknown: no answer within 0.2 s" in said.out
    assert said.error.endswith("publishing is unknown")


def test_a_broker_that_is_away_for_the_probe(fake):
    fake(has=THINGS, outcome=BrokerUnavailable("nobody there"))
    assert run("rmq_check").error == "RabbitMQ connection 'default' (h:5672): nobody there"


def test_check_finds_what_is_missing_and_declares_nothing(fake):
    broker = fake(
        has=THINGS[1:], outcome=Unroutable(312, "NO"), refusals={("passive", "queue 'work'"): 403}
    )
    said = run("rmq_check")
    declared = [step for what, step in broker.asked if what != "passive"]
    assert declared, "what is there is compared"
    assert not any("dead" in str(step) for step in declared)
    assert "missing     exchange 'dead': 404 own words" in said.out
    assert "refused     queue 'work': 403 own words" in said.out
    assert said.error.endswith("exchange 'dead' is missing; queue 'work' is refused")


def test_json_of_check(fake):
    fake(has=THINGS[1:], outcome=Unroutable(312, "NO"))
    said = run("rmq_check", "--json")
    [connection] = said.json["connections"]
    assert [row["name"] for row in connection.pop("missing")] == ["exchange 'dead'"]
    assert connection == {
        "alias": "default",
        "nodes": ["h:5672"],
        "error": None,
        "node": "h:5672",
        "vhost": "/",
        "product": "Fake 1.0",
        "tls": False,
        "publishing": "allowed",
        "detail": "",
        "old_retry_queues": [],
    }


def test_the_probe_is_no_failure_to_those_who_listen(fake):
    heard = []

    def listen(**named):
        heard.append(named)

    signals.publish_failed.connect(listen)
    try:
        fake(has=THINGS, outcome=Unroutable(312, "NO"))
        assert run("rmq_check").error == ""
    finally:
        signals.publish_failed.disconnect(listen)
    assert heard == []


# -- the memory broker ------------------------------------------------------------------------


def test_the_memory_broker(configure, names):
    events, queue = names.exchange(), names.queue()
    configure(
        URL="memory://",
        EXCHANGES=[ExchangeConfig(events, "topic")],
        QUEUES=[QueueConfig(queue, bindings=[Binding(events, "a")])],
    )
    # Each process declares it by itself: this one did, before it was asked.
    assert run("rmq_declare", "--check").error == ""
    assert [state for state, _ in run("rmq_declare").rows] == ["present", "present", "bound"]
    said = run("rmq_check")
    assert said.error == ""
    assert "publishing  allowed" in said.out
    configure(URL="memory://", QUEUES=[QueueConfig(queue, max_length=5)])
    assert [state for state, _ in run("rmq_declare").rows] == ["differs"]


# -- a real broker ----------------------------------------------------------------------------


@pytest.mark.smoke
def test_declare_and_check_on_a_broker(configure, broker, amqp, names):
    events, dead = names.exchange(), names.exchange()
    work, graveyard = names.queue(), names.queue()
    configure(
        URL=broker.url,
        EXCHANGES=[ExchangeConfig(events, "topic", alternate_exchange=dead)],
        QUEUES=[
            QueueConfig(work, dead_letter_exchange=dead, bindings=[Binding(events, "a.#")]),
            QueueConfig(graveyard, bindings=[Binding(ExchangeConfig(dead, "fanout"))]),
        ],
    )
    missing = run("rmq_declare", "--check")
    assert missing.error.endswith("4 missing (of 6)")
    assert run("rmq_declare", "--check").rows == missing.rows  # nothing was made by looking
    assert f"{work}' is missing" in run("rmq_check").error

    first = run("rmq_declare")
    assert first.error == ""
    assert [state for state, _ in first.rows] == ["created"] * 4 + ["bound"] * 2
    second = run("rmq_declare")
    assert second.error == ""
    assert [state for state, _ in second.rows] == ["present"] * 4 + ["bound"] * 2
    assert [name for _, name in second.rows] == [name for _, name in first.rows]
    assert run("rmq_declare", "--check").error == ""

    amqp.publish(b"x", "a.b", events)
    amqp.publish(b"x", "unknown", events)
    assert (amqp.depth(work), amqp.depth(graveyard)) == (1, 1)

    said = run("rmq_check")
    assert said.error == ""
    assert f"node        {broker.host}:{broker.port}, vhost '/'" in said.out
    assert f"broker      {broker.description}" in said.out
    assert "TLS         no" in said.out
    assert "publishing  allowed" in said.out
    assert (amqp.depth(work), amqp.depth(graveyard)) == (1, 1)  # the probe went nowhere


def test_a_queue_with_other_arguments(configure, broker, amqp, names):
    queue, other = names.queue(), names.queue()
    amqp.declare_queue(queue, arguments={"x-max-length": 5})
    configure(URL=broker.url, QUEUES=[QueueConfig(queue, max_length=6), QueueConfig(other)])
    for command in (("rmq_declare",), ("rmq_declare", "--check")):
        said = run(*command)
        assert f"differs        queue '{queue}' (RMQ_QUEUES): 406 PRECONDITION_FAILED" in said.out
        assert "'x-max-length'" in said.out
        assert said.error.endswith("1 differs (of 2)")
    assert amqp.depth(other) == 0  # made all the same
    assert run("rmq_check").error.endswith(f"queue '{queue}' differs")


def test_an_exchange_of_another_type_and_a_binding_to_nothing(configure, broker, amqp, names):
    exchange, queue = names.exchange(), names.queue()
    amqp.declare_exchange(exchange, "direct", durable=True)
    configure(
        URL=broker.url,
        EXCHANGES=[ExchangeConfig(exchange, "topic")],
        QUEUES=[QueueConfig(queue, bindings=[Binding("nowhere"), Binding(exchange, "k")])],
    )
    said = run("rmq_declare")
    assert [state for state, _ in said.rows] == ["differs", "created", "failed", "bound"]
    assert "404 NOT_FOUND - no exchange 'nowhere'" in said.out
    amqp.publish(b"x", "k", exchange)
    assert amqp.depth(queue) == 1


def test_exchanges_bound_in_a_circle(configure, broker, amqp, names):
    first, second, queue = names.exchange(), names.exchange(), names.queue()
    configure(
        URL=broker.url,
        EXCHANGES=[
            ExchangeConfig(first, "fanout", bindings=[Binding(second)]),
            ExchangeConfig(second, "fanout", bindings=[Binding(first)]),
        ],
        QUEUES=[QueueConfig(queue, bindings=[Binding(second)])],
    )
    assert run("rmq_declare").error == ""
    amqp.publish(b"x", "", first)
    assert amqp.depth(queue) == 1


def test_several_brokers(configure, broker, node, names):
    here, there = names.queue(), names.queue()
    configure(
        URL=broker.url,
        CONNECTIONS={"events": {"URL": node.url()}},
        QUEUES=[QueueConfig(here, using="default"), QueueConfig(there, using="events")],
    )
    assert run("rmq_declare", "--using", "events").error == ""
    first, second = run("rmq_declare", "--json").json["connections"]
    assert [(row["name"], row["state"]) for row in first["rows"]] == [
        (f"queue '{here}'", "created")
    ]
    assert [(row["name"], row["state"]) for row in second["rows"]] == [
        (f"queue '{there}'", "present")
    ]
    assert node.queue_depth(there) == 0


def test_a_user_without_configure_permission(configure, node, node_amqp):
    node_amqp.declare_queue("equal")
    node_amqp.declare_queue("other", arguments={"x-max-length": 5})
    node.add_user("web", "secret-1", configure="^$")
    configure(
        URL=node.url(user="web", password="secret-1"),
        QUEUES=[QueueConfig("equal"), QueueConfig("other"), QueueConfig("absent")],
    )
    said = run("rmq_declare", "--check")
    assert [state for state, _ in said.rows] == ["not comparable", "not comparable", "missing"]
    assert "403 ACCESS_REFUSED" in said.out
    assert said.error.endswith("1 missing (of 3)")
    said = run("rmq_declare")
    assert [state for state, _ in said.rows] == ["refused"] * 3
    assert said.error.endswith("3 refused (of 3)")
    said = run("rmq_check")
    assert said.error.endswith("queue 'absent' is missing")
    assert "publishing  allowed" in said.out
    assert "secret-1" not in said.out + said.error


def test_a_user_without_write_permission(configure, node):
    node.add_user("web", "secret-1", write="^$")
    configure(URL=node.url(user="web", password="secret-1"))
    said = run("rmq_check")
    assert "publishing  not allowed: 403 ACCESS_REFUSED" in said.out
    assert said.error.endswith("publishing is not allowed")


@pytest.mark.disturbs
def test_a_node_that_is_short_of_memory(configure, node):
    configure(URL=node.url(), QUEUES=[QueueConfig("q")], PUBLISH_TIMEOUT=1)
    node.block()
    try:
        said = run("rmq_declare")
        assert said.rows == [("created", "queue 'q'")]  # an alarm stops messages only
        said = run("rmq_check")
        assert "missing     nothing" in said.out
        assert "publishing  blocked: low on memory" in said.out
        assert said.error.endswith("publishing is blocked")
    finally:
        node.unblock()
    connections.close()
    assert run("rmq_check").error == ""


@pytest.mark.disturbs
def test_a_node_that_is_frozen(configure, node):
    configure(URL=node.url(), QUEUES=[QueueConfig("q")], PUBLISH_TIMEOUT=0.5, CONNECT_TIMEOUT=0.5)
    assert run("rmq_declare").error == ""
    node.freeze()
    for command in (("rmq_declare",), ("rmq_check",)):
        assert f"127.0.0.1:{node.port}" in run(*command).error


@pytest.mark.parametrize("command", [("rmq_declare",), ("rmq_declare", "--check"), ("rmq_check",)])
def test_a_broker_that_is_down(configure, command):
    port = closed_port()
    url = f"amqp://u:secret-1@127.0.0.1:{port}"
    configure(URL=url, QUEUES=[QueueConfig("q")], PUBLISH_TIMEOUT=PATIENCE)
    said = run(*command)
    assert f"(127.0.0.1:{port})" in said.error
    assert "Connection refused" in said.error
    assert "no answer" not in said.error, "it was waited for, though it was known to be down"
    assert "secret-1" not in said.error


def test_dead_nodes_before_the_living_one(configure, broker, names):
    """Each of them may take the whole of RMQ_CONNECT_TIMEOUT; that is not the declaration's time."""
    queue = QueueConfig(names.queue())
    with SilentPort() as silent:
        url = [silent.url, silent.url, broker.url]
        configure(URL=url, QUEUES=[queue], CONNECT_TIMEOUT=0.5, PUBLISH_TIMEOUT=0.5)
        assert run("rmq_declare").error == ""
        assert run("rmq_check").error == ""


def test_a_port_that_says_nothing(configure):
    with SilentPort() as silent:
        configure(URL=f"amqp://127.0.0.1:{silent.port}", CONNECT_TIMEOUT=0.3, PUBLISH_TIMEOUT=0.3)
        assert f"127.0.0.1:{silent.port}" in run("rmq_check").error


def test_a_wrong_password(configure, broker):
    configure(URL=f"amqp://{broker.host}:{broker.port}", USERNAME="nobody", PASSWORD="secret-1")
    said = run("rmq_check")
    assert "login" in said.error
    assert "secret-1" not in said.error


def test_tls_is_said(configure, tls_node):
    configure(URL=tls_node.tls_url(), TLS={"CA_FILE": tls_node.certificates.ca_file})
    said = run("rmq_check")
    assert said.error == ""
    assert "TLS         yes" in said.out


def test_a_certificate_of_an_unknown_authority(configure, tls_node):
    configure(URL=tls_node.tls_url(), TLS={"CA_FILE": tls_node.certificates.other_authority()})
    assert "certificate" in run("rmq_check").error


def test_the_exit_status_is_one(configure, monkeypatch, capsys):
    configure(URL=f"amqp://127.0.0.1:{closed_port()}")
    monkeypatch.setattr(sys, "argv", ["manage.py", "rmq_check"])
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(sys.argv)
    assert ended.value.code == 1
    assert "CommandError: RabbitMQ connection 'default'" in capsys.readouterr().err


# -- retry queues -----------------------------------------------------------------------------


@pytest.fixture
def handlers_of(monkeypatch):
    """Register handlers of these queues, and no others."""

    def register(*queues, **options):
        monkeypatch.setattr(handlers, "_registered", {})
        for queue in queues:
            consume(queue, name=str(queue), **options)(lambda body, message: None)

    register()
    return register


def test_the_retry_queues_of_handlers_are_declared(configure, amqp, names, handlers_of):
    queue = names.queue()
    levels = [f"{queue}.retry.{delay}" for delay in (1000, 2000)]
    names.queues += levels
    configure(URL=amqp.url, QUEUES=[QueueConfig(queue)])
    handlers_of(queue, max_attempts=3)
    planned = run("rmq_declare", "--dry-run")
    assert planned.rows[1:] == [("would declare", f"queue {name!r}") for name in levels]
    assert "x-dead-letter-strategy='at-least-once'" in planned.out
    assert f"({__name__}." in planned.out
    assert "missing" in run("rmq_declare", "--check").error
    assert run("rmq_check").error.count("is missing") == 3
    assert not run("rmq_declare").error
    for name in levels:
        assert amqp.queue_exists(name)
    assert not run("rmq_declare", "--check").error
    assert not run("rmq_check").error


def test_a_queue_without_retries_gets_no_retry_queues(configure, handlers_of):
    configure(URL="memory://")
    handlers_of(QueueConfig("s", queue_type="stream"), max_attempts=1)
    assert not run("rmq_declare", "--dry-run").rows
    handlers_of(QueueConfig("e", expires=60))
    assert not run("rmq_declare", "--dry-run").rows


def test_a_handler_of_an_unknown_connection_is_told(configure, handlers_of):
    configure(URL="memory://")
    handlers_of("q", using="nobody")
    for command in COMMANDS:
        assert "'nobody'" in run(*command).error


def test_old_retry_queues_are_listed_until_they_are_gone(configure, amqp, names, handlers_of):
    queue = names.queue()
    old, new = f"{queue}.retry.1000", f"{queue}.retry.2000"
    names.queues += [old, new]
    configure(URL=amqp.url, QUEUES=[QueueConfig(queue)])
    handlers_of(queue, max_attempts=2, backoff=(1, 1))
    assert not run("rmq_declare").error
    assert run("rmq_check", "--json").json["connections"][0]["old_retry_queues"] == []
    handlers_of(queue, max_attempts=2, backoff=(2, 2))
    amqp.channel.queue_delete(old)
    amqp.declare_queue(old)  # so that what is in it stays
    amqp.publish(b"1", old)
    run("rmq_declare")
    said = run("rmq_check")
    assert not said.error
    assert f"old retries {old!r}: 1 message(s) still wait in it" in said.out
    expected = [{"name": old, "messages": 1}]
    assert run("rmq_check", "--json").json["connections"][0]["old_retry_queues"] == expected
    amqp.channel.queue_purge(old)
    assert f"old retries {old!r}: empty: nothing needs it, delete it" in run("rmq_check").out
    amqp.delete_queue(old)
    assert "old retries" not in run("rmq_check").out
    run("rmq_declare")
    assert [row.name for row in RetryQueue.objects.all()] == [new]


def test_without_a_database_the_retry_queues_are_declared_all_the_same(
    configure, amqp, names, handlers_of, monkeypatch
):
    queue = names.queue()
    names.queues.append(f"{queue}.retry.1000")
    configure(URL=amqp.url, QUEUES=[QueueConfig(queue)])
    handlers_of(queue, max_attempts=2)
    monkeypatch.setattr(old_levels, "_rows", unusable)
    said = run("rmq_declare")
    assert "retry queues not noted" in said.out
    assert not said.error
    assert not run("rmq_check").error


def unusable():
    raise OperationalError
