"""Settings: what they mean, and that everything wrong in them is named with its mend."""

import math
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.conf import loader
from rmq_publisher.conf.loader import ConnectionSettings, Node, TLSSettings
from rmq_publisher.conf.reading import Reading
from rmq_publisher.conf.schema import GLOBAL, OF_CONNECTIONS
from rmq_publisher.exceptions import InvalidMessage
from tests.support.configured import configurer

URL = "amqp://shop:secret-1@broker.example/"


def read(**raw: object) -> Reading:
    return Reading({f"RMQ_{name}": value for name, value in raw.items()})


def default(**raw: object) -> ConnectionSettings:
    reading = read(**{"URL": URL, **raw})
    assert not [str(problem) for problem in reading.problems if problem.is_error]
    found = reading.connections["default"]
    assert isinstance(found, ConnectionSettings)
    return found


def only_problem(**raw: object):
    [problem] = read(**raw).problems
    return problem


@pytest.fixture
def configure(settings):
    return configurer(settings)


# -- defaults and values ----------------------------------------------------------------------


def test_the_defaults_are_those_of_the_table():
    assert default() == ConnectionSettings(
        alias="default",
        nodes=(Node("broker.example", 5672, "/", tls=False),),
        memory=False,
        username="shop",
        password="secret-1",
        tls=TLSSettings(),
        heartbeat=10,
        connect_timeout=3.0,
        confirm_timeout=10.0,
        max_in_flight=64,
        publish_timeout=5.0,
        max_body_size=16 * 2**20,
        delivery="on_commit",
        serializer=None,
        app_id=None,
        allow_broker=True,
    )
    found = default()
    # Equality leaves these out, so they are looked at by themselves.
    assert (found.publish_timeout, found.max_body_size) == (5.0, 16 * 2**20)
    assert (found.delivery, found.serializer, found.app_id) == ("on_commit", None, None)


def test_the_defaults_of_the_table_of_messages():
    outbox = read(URL=URL).outbox
    assert outbox == loader.OutboxSettings(20, 300.0, 30, 256, 60.0, 30.0, 30)


@pytest.mark.parametrize(
    ("name", "value", "attribute", "meant"),
    [
        ("HEARTBEAT", 65535, "heartbeat", 65535),
        ("CONNECT_TIMEOUT", 1, "connect_timeout", 1.0),
        ("PUBLISH_TIMEOUT", 0.25, "publish_timeout", 0.25),
        ("CONFIRM_TIMEOUT", 20, "confirm_timeout", 20.0),
        ("MAX_IN_FLIGHT", 1, "max_in_flight", 1),
        ("MAX_BODY_SIZE", 1, "max_body_size", 1),
        ("DELIVERY", "now", "delivery", "now"),
        ("DELIVERY", "outbox", "delivery", "outbox"),
        ("SERIALIZER", "json", "serializer", "json"),
        ("APP_ID", "shop", "app_id", "shop"),
        ("USERNAME", "other", "username", "other"),
        ("PASSWORD", "other", "password", "other"),
        ("PASSWORD", "", "password", ""),
    ],
)
def test_a_setting_is_taken(name, value, attribute, meant):
    assert getattr(default(**{name: value}), attribute) == meant


@pytest.mark.parametrize("name", [*OF_CONNECTIONS, *GLOBAL])
def test_none_is_the_default(name):
    if name == "URL":
        assert only_problem(URL=None).id == "rmq_publisher.W001"
    else:
        assert default(**{name: None}) == default()
        assert read(URL=URL, **{name: None}).problems == ()


INTEGERS = {
    "HEARTBEAT": (1, 65535),
    "MAX_IN_FLIGHT": (1, 65535),
    "MAX_BODY_SIZE": (1, 2**29),
    "MAX_ATTEMPTS": (1, 2**31 - 1),
    "FAILURE_RETENTION_DAYS": (1, 36500),
    "INBOX_RETENTION_DAYS": (1, 36500),
    "OUTBOX_BATCH_SIZE": (1, 100_000),
}
SECONDS = [
    "CONNECT_TIMEOUT", "PUBLISH_TIMEOUT", "CONFIRM_TIMEOUT", "RETRY_MAX_BACKOFF", "OUTBOX_LEASE",
    "OUTBOX_GRACE",
]  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_have_a_type_and_a_range(name):
    least, most = INTEGERS[name]
    for good in (least, most):
        assert read(URL=URL, **{name: good}).problems == ()
    for bad in (least - 1, most + 1, True, 1.5, "5", b"5", [5], math.nan):
        problem = only_problem(URL=URL, **{name: bad})
        assert (problem.setting, problem.id) == (f"RMQ_{name}", "rmq_publisher.E002")
        assert str(least) in problem.hint


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_have_a_type_and_a_range(name):
    for good in (0.001, 1, 86400.0):
        assert read(URL=URL, **{name: good}).problems == ()
    for bad in (-1, math.inf, math.nan, 2**31, True, "5", None.__class__):
        problem = only_problem(URL=URL, **{name: bad})
        assert (problem.setting, problem.id) == (f"RMQ_{name}", "rmq_publisher.E002")
        assert "seconds" in problem.hint


def test_zero_seconds_are_a_grace_only():
    assert [name for name in SECONDS if not read(URL=URL, **{name: 0}).problems] == [
        "OUTBOX_GRACE"
    ]


def test_a_number_from_the_environment_is_told_to_be_converted():
    assert "int()" in only_problem(URL=URL, HEARTBEAT="10").hint
    assert "float()" in only_problem(URL=URL, PUBLISH_TIMEOUT="5").hint


@pytest.mark.parametrize("bad", ["on-commit", "", b"now", 1, ["now"], True])
def test_delivery_is_one_of_three(bad):
    problem = only_problem(URL=URL, DELIVERY=bad)
    assert problem.setting == "RMQ_DELIVERY"
    assert '"on_commit", "outbox", "now"' in problem.hint


@pytest.mark.parametrize("name", ["SERIALIZER", "APP_ID"])
@pytest.mark.parametrize("bad", [1, "", "x" * 256, "é" * 128, "\ud800", b"json"])
def test_names_are_short_strings(name, bad):
    assert only_problem(URL=URL, **{name: bad}).id == "rmq_publisher.E002"


@pytest.mark.parametrize("name", ["USERNAME", "PASSWORD"])
@pytest.mark.parametrize("bad", [1, b"x", "a\0b", "se\ud800cret"])
def test_a_login_is_text_and_never_shown(name, bad):
    problem = only_problem(URL=URL, **{name: bad})
    assert problem.setting == f"RMQ_{name}"
    assert "cret" not in str(problem)


@pytest.mark.parametrize("name", ["QUEUES", "EXCHANGES"])
def test_topology_is_listed(name):
    assert only_problem(URL=URL, **{name: "shop.queues.ORDERS"}).setting == f"RMQ_{name}"
    assert read(URL=URL, **{name: ("a", "b")}).problems == ()


@pytest.mark.parametrize("name", [*OF_CONNECTIONS, *GLOBAL])
@pytest.mark.parametrize("value", ["secret-1", b"secret-1", ["secret-1"], {"KEY": "secret-1"}])
def test_no_value_stands_in_a_text(name, value):
    """Whatever is put where it does not belong, such as a password."""
    assert "secret-1" not in "".join(map(str, read(**{"URL": URL, name: value}).problems))
    own = {"events": {"URL": URL, name: value}}
    assert "secret-1" not in "".join(map(str, read(CONNECTIONS=own).problems))


# -- unknown and misplaced names --------------------------------------------------------------


def test_an_unknown_setting_is_an_error_that_guesses():
    problem = only_problem(URL=URL, CONFRIM_TIMEOUT=5)
    assert (problem.setting, problem.id) == ("RMQ_CONFRIM_TIMEOUT", "rmq_publisher.E001")
    assert "RMQ_CONFIRM_TIMEOUT" in problem.hint


def test_an_unknown_setting_stops_connections_too():
    unusable = read(URL=URL, PASWORD="x").connections["default"]
    assert "RMQ_PASWORD" in str(unusable)


@pytest.mark.parametrize("name", ["HOST", "PORT", "VHOST", "VIRTUAL_HOST"])
def test_parts_of_the_url_are_no_settings(name):
    assert "part of RMQ_URL" in only_problem(URL=URL, **{name: "x"}).hint


def test_an_unknown_key_of_an_alias():
    problem = only_problem(CONNECTIONS={"events": {"URL": URL, "HEARTBEET": 5}})
    assert problem.setting == "RMQ_CONNECTIONS['events']['HEARTBEET']"
    assert (problem.id, "HEARTBEAT" in problem.hint) == ("rmq_publisher.E001", True)


def test_a_key_of_an_alias_with_the_prefix():
    problem = only_problem(CONNECTIONS={"events": {"URL": URL, "RMQ_HEARTBEAT": 5}})
    assert problem.id == "rmq_publisher.E001"
    assert "Write 'HEARTBEAT'" in problem.hint


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize("prefix", ["", "RMQ_"])
def test_a_setting_of_all_connections_inside_an_alias(name, prefix):
    problem = only_problem(CONNECTIONS={"events": {"URL": URL, prefix + name: 5}})
    assert problem.id == "rmq_publisher.E005"
    assert f"RMQ_{name}" in problem.hint


@pytest.mark.parametrize("bad", [["x"], "x", 5])
def test_connections_must_be_a_dict(bad):
    assert only_problem(URL=URL, CONNECTIONS=bad).setting == "RMQ_CONNECTIONS"


@pytest.mark.parametrize("bad", [{"events": URL}, {5: {"URL": URL}}, {"": {"URL": URL}}])
def test_an_alias_must_be_a_name_with_a_dict(bad):
    problem = only_problem(URL=URL, CONNECTIONS=bad)
    assert problem.setting.startswith("RMQ_CONNECTIONS[")
    assert "secret-1" not in str(problem)


# -- several connections ----------------------------------------------------------------------


def test_flat_settings_are_defaults_of_all_and_an_alias_wins():
    reading = read(
        URL=URL,
        HEARTBEAT=20,
        MAX_IN_FLIGHT=8,
        CONNECTIONS={"events": {"URL": "amqps://other.example/ev", "HEARTBEAT": 5}},
    )
    assert reading.problems == ()
    first, second = reading.connections.values()
    assert [first.alias, second.alias] == ["default", "events"]
    assert [first.heartbeat, second.heartbeat] == [20, 5]
    assert [first.max_in_flight, second.max_in_flight] == [8, 8]
    assert second.nodes == (Node("other.example", 5671, "ev", tls=True),)
    assert (second.username, second.password) == ("guest", "guest")


def test_default_exists_by_url_or_by_name():
    other = {"events": {"URL": URL}}
    assert list(read(CONNECTIONS=other).connections) == ["events"]
    assert list(read(URL=URL, CONNECTIONS=other).connections) == ["default", "events"]
    named = {"events": {"URL": URL}, "default": {"HEARTBEAT": 5}}
    assert list(read(URL=URL, CONNECTIONS=named).connections) == ["default", "events"]
    assert read(URL=URL, CONNECTIONS=named).connections["default"].heartbeat == 5
    assert list(read(CONNECTIONS={"default": {"URL": URL}}).connections) == ["default"]


def test_an_alias_without_any_url():
    problem = only_problem(CONNECTIONS={"events": {"HEARTBEAT": 5}})
    assert problem.setting == "RMQ_CONNECTIONS['events']['URL']"
    assert (problem.id, problem.is_error) == ("rmq_publisher.W001", False)


def test_a_bad_alias_leaves_the_others_alone():
    reading = read(URL=URL, CONNECTIONS={"events": {"HEARTBEAT": 0}})
    assert reading.connections["default"] == default()
    assert reading.connections["events"].setting == "RMQ_CONNECTIONS['events']['HEARTBEAT']"


def test_what_an_alias_overrides_is_still_judged_once():
    reading = read(URL=URL, HEARTBEAT=0, CONNECTIONS={"a": {"HEARTBEAT": 5}, "b": {}})
    assert [problem.setting for problem in reading.problems] == ["RMQ_HEARTBEAT"]
    assert isinstance(reading.connections["a"], ConnectionSettings)
    assert reading.connections["b"] == reading.problems[0]


def test_all_problems_are_found_at_once():
    reading = read(URL="ftp://x", HEARTBEAT=0, DELIVERY="x", MAX_ATTEMPTS=0, NONSENSE=1)
    assert sorted(problem.setting for problem in reading.problems) == [
        "RMQ_DELIVERY", "RMQ_HEARTBEAT", "RMQ_MAX_ATTEMPTS", "RMQ_NONSENSE", "RMQ_URL",
    ]  # fmt: skip


@pytest.mark.parametrize("missing", [None, "", [], ()])
def test_a_missing_url_is_a_warning_and_the_rest_is_judged(missing):
    first, second = read(URL=missing, HEARTBEAT=0).problems
    assert (first.setting, first.is_error) == ("RMQ_HEARTBEAT", True)
    assert (second.setting, second.id) == ("RMQ_URL", "rmq_publisher.W001")


# -- URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "node", "login"),
    [
        ("amqp://h", Node("h", 5672, "/", tls=False), ("guest", "guest")),
        ("amqps://h", Node("h", 5671, "/", tls=True), ("guest", "guest")),
        ("amqp://h/", Node("h", 5672, "/", tls=False), ("guest", "guest")),
        ("amqp://h//", Node("h", 5672, "/", tls=False), ("guest", "guest")),
        ("amqp://h/%2F", Node("h", 5672, "/", tls=False), ("guest", "guest")),
        ("amqp://h/%2f", Node("h", 5672, "/", tls=False), ("guest", "guest")),
        ("amqp://h/shop", Node("h", 5672, "shop", tls=False), ("guest", "guest")),
        ("amqp://h/%2Fshop%20x", Node("h", 5672, "/shop x", tls=False), ("guest", "guest")),
        ("AMQP://h:1/", Node("h", 1, "/", tls=False), ("guest", "guest")),
        ("amqp://a_b-c.d:65535", Node("a_b-c.d", 65535, "/", tls=False), ("guest", "guest")),
        ("amqp://[::1]", Node("::1", 5672, "/", tls=False), ("guest", "guest")),
        ("amqps://[fe80::1]:99/v", Node("fe80::1", 99, "v", tls=True), ("guest", "guest")),
        ("amqp://u:p@h", Node("h", 5672, "/", tls=False), ("u", "p")),
        ("amqp://u:p:q@h", Node("h", 5672, "/", tls=False), ("u", "p:q")),
        ("amqp://u:p@q@h", Node("h", 5672, "/", tls=False), ("u", "p@q")),
        ("amqp://u%40x:p%2F%3A@h", Node("h", 5672, "/", tls=False), ("u@x", "p/:")),
        ("amqp://u:a+b@h", Node("h", 5672, "/", tls=False), ("u", "a+b")),
        ("amqp://%C3%A9:%E2%82%AC@h", Node("h", 5672, "/", tls=False), ("é", "€")),
        ("amqp://u@h", Node("h", 5672, "/", tls=False), ("u", "")),
        ("amqp://u:@h", Node("h", 5672, "/", tls=False), ("u", "")),
        ("amqp://guest@h", Node("h", 5672, "/", tls=False), ("guest", "guest")),
        ("amqp://:p@h", Node("h", 5672, "/", tls=False), ("guest", "p")),
    ],
)
def test_a_url_is_read(url, node, login):
    found = default(URL=url)
    assert found.nodes == (node,)
    assert (found.username, found.password) == login


def test_a_node_is_shown_as_people_write_it():
    assert str(Node("h", 5672, "/", tls=False)) == "h:5672"
    assert str(Node("::1", 5672, "/", tls=False)) == "[::1]:5672"


@pytest.mark.parametrize("url", ["memory://", "memory:///", "MEMORY://"])
def test_the_memory_broker(url):
    found = default(URL=url)
    assert found.memory
    assert found.nodes == ()


@given(
    user=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    password=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    vhost=st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60
    ),
)
def test_what_is_percent_encoded_comes_back(user, password, vhost):
    url = f"amqp://{quote(user, '')}:{quote(password, '')}@h/{quote(vhost, '')}"
    found = default(URL=url)
    assert (found.username, found.password, found.nodes[0].vhost) == (user, password, vhost)


# Two pieces of a password, around what people forget to encode.
FIRST, SECOND = "Qx7zq", "Wk9vv"


@given(st.lists(st.sampled_from([*"/?#@:%[]\\ ,;&=+\t\n\"'", "%2", "%ff", "é", "12"]), max_size=4))
def test_a_password_that_was_not_encoded_never_shows_and_never_becomes_a_host(specials):
    middle = "".join(specials)
    for password in (f"{FIRST}{middle}{SECOND}", f"12{middle}{FIRST}", f"{middle}{SECOND}"):
        for url in (
            f"amqp://u:{password}@broker.example/v",
            f"amqp://u:{password}@broker.example",
        ):
            reading = read(URL=url)
            shown = repr(reading.connections) + "".join(map(str, reading.problems))
            assert FIRST not in shown
            assert SECOND not in shown
            found = reading.connections["default"]
            if isinstance(found, ConnectionSettings):
                assert found.nodes[0].host == "broker.example"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("broker:5672", "amqp://, amqps:// or memory://"),
        ("http://u:secret-1@h", "amqp://, amqps:// or memory://"),
        ("amqp:u:secret-1@h", "amqp://, amqps:// or memory://"),
        ("amqp://", "no host"),
        ("amqp:///vhost", "no host"),
        ("amqp://u:secret-1@", "no host"),
        ("amqp://u:secret-1@:5672/", "no host"),
        ("amqp://u:secret-1@h:0", "port 0"),
        ("amqp://u:secret-1@h:70000", "not a valid URL"),
        ("amqp://u:secret-1@h:x", "not a valid URL"),
        ("amqp://u:secret-1@[::1", "not a valid URL"),
        ("amqp://u:secret-1@a,b", "several hosts"),
        ("amqp://u:secret-1@a;b", "several hosts"),
        ("amqp://u:secret-1@a:5672,b:5672/v", "several hosts"),
        ("amqp://u:secret-1@a:5672,u:secret-1@b:5672/v", "several hosts"),
        ("amqp://u:secret-1@a:5672;amqp://u:secret-1@b:5672", "several hosts"),
        ("amqp://u:secret-1@a, amqps://u:secret-1@b", "several hosts"),
        ("amqp://u:secret-1@[::1]:5672,[::2]:5672", "several hosts"),
        ("amqp://u:secret-1@h*", "character"),
        ("amqp://u:secret-1@h/a/b", "unencoded / or @"),
        ("amqp://u:secret-1@h//shop", "unencoded / or @"),
        ("amqp://u:secret-1@h/" + "v" * 256, "255"),
        ("amqp://u:secret-1@h/a#b", "#"),
        ("amqp://u:secret-1%ff@h", "UTF-8"),
        ("amqp://u:secret-1%00@h", "NUL"),
        (" amqp://u:secret-1@h", "space"),
        ("amqp://u:secret-1@h\n", "space"),
        ("memory://host", "after memory://"),
        ("memory:///vhost", "after memory://"),
        (5, "str or a list"),
        (b"amqp://h", "str or a list"),
        ({"amqp://h"}, "str or a list"),
        (["amqp://h", None], "str or a list"),
        (["amqp://h", "amqp://u:secret-1@h:x"], "URL 2 of the list"),
    ],
)
def test_a_bad_url_is_refused_without_being_repeated(url, words):
    problem = only_problem(URL=url)
    assert (problem.setting, problem.id) == ("RMQ_URL", "rmq_publisher.E003")
    assert words in problem.text
    assert "secret-1" not in str(problem)


@pytest.mark.parametrize(
    ("query", "mend"),
    [
        ("heartbeat=secret-1", "RMQ_HEARTBEAT"),
        ("connection_timeout=5", "RMQ_CONNECT_TIMEOUT"),
        ("ssl_options=%7B%7D", "RMQ_TLS"),
        ("verify=verify_none", "RMQ_TLS"),
        ("blocked_connection_timeout=5", "RMQ_PUBLISH_TIMEOUT"),
        ("secret-1=5", "settings of their own"),
        ("secret-1", "settings of their own"),
    ],
)
def test_a_query_string_names_the_setting_to_use(query, mend):
    problem = only_problem(URL=f"amqp://h/v?{query}")
    assert problem.id == "rmq_publisher.E003"
    assert mend in problem.hint
    assert "secret-1" not in str(problem)


def test_a_list_is_the_nodes_of_a_cluster():
    urls = ["amqp://u:p@a/v", "amqp://u:p@b:1/v", "amqp://u:p@a:5672/v"]
    assert [str(node) for node in default(URL=urls).nodes] == ["a:5672", "b:1"]
    assert default(URL=tuple(urls)) == default(URL=urls)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ("amqps://u:secret-1@b/v", "schemes"),
        ("memory://", "schemes"),
        ("amqp://u:secret-1@b/w", "vhosts"),
        ("amqp://w:secret-1@b/v", "users"),
        ("amqp://u:secret-2@b/v", "passwords"),
        ("amqp://b/v", "users"),
    ],
)
def test_nodes_of_a_list_that_disagree(other, what):
    for urls in (["amqp://u:secret-1@a/v", other], [other, "amqp://u:secret-1@a/v"]):
        problem = only_problem(URL=urls)
        assert f"different {what}" in problem.text
        assert "secret" not in str(problem)


def test_username_and_password_win_over_the_url():
    found = default(USERNAME="web", PASSWORD="p@/:?#%")
    assert (found.username, found.password) == ("web", "p@/:?#%")
    assert default(URL="amqp://u@h", PASSWORD="x").password == "x"


def test_a_user_without_password_is_a_warning():
    problem = only_problem(URL="amqp://shop@h")
    assert (problem.id, problem.is_error) == ("rmq_publisher.W002", False)
    assert read(URL="amqp://shop@h", PASSWORD="x").problems == ()


# -- TLS --------------------------------------------------------------------------------------


def test_tls_takes_paths():
    tls = {"CA_FILE": Path("/ca.pem"), "CERT_FILE": "/c.pem", "KEY_FILE": "/k.pem"}
    found = default(URL="amqps://h", TLS={**tls, "SERVER_HOSTNAME": "mq"})
    assert found.tls == TLSSettings("/ca.pem", "/c.pem", "/k.pem", "mq")
    assert default(URL="amqps://h", TLS={"CA_FILE": None}).tls == TLSSettings()


@pytest.mark.parametrize(
    ("url", "tls", "id"),
    [
        ("amqp://h", {"CA_FILE": "/ca.pem"}, "E004"),
        ("amqps://h", {"KEY_FILE": "/k.pem"}, "E004"),
        ("amqps://h", {"CAFILE": "/ca.pem"}, "E001"),
        ("amqps://h", {"VERIFY": False}, "E001"),
        ("amqps://h", {"CA_FILE": ""}, "E002"),
        ("amqps://h", {"KEY_PASSWORD": "p"}, "E004"),
        ("amqps://h", {"CERT_FILE": "/c.pem", "KEY_PASSWORD": 5}, "E002"),
        ("amqps://h", {"CA_FILE": 5}, "E002"),
        ("amqps://h", "/ca.pem", "E002"),
        ("amqps://h", True, "E002"),
    ],
)
def test_bad_tls(url, tls, id):
    problem = only_problem(URL=url, TLS=tls)
    assert (problem.setting, problem.id) == ("RMQ_TLS", f"rmq_publisher.{id}")


def test_the_passphrase_of_a_key_is_no_path_and_in_no_repr():
    tls = {"CERT_FILE": "/c.pem", "KEY_PASSWORD": "secret-1"}
    found = default(URL="amqps://h", TLS=tls)
    assert found.tls == TLSSettings(cert_file="/c.pem", key_password="secret-1")
    assert "secret-1" not in repr(found)
    assert found != default(URL="amqps://h", TLS={**tls, "KEY_PASSWORD": ""})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_password_read_from_a_file_with_its_line_end_is_a_warning(end):
    problem = only_problem(URL=URL, PASSWORD=f"secret-1{end}")
    assert (problem.setting, problem.id) == ("RMQ_PASSWORD", "rmq_publisher.W011")
    assert "strip" in problem.hint
    assert "secret-1" not in str(problem)
    assert only_problem(URL="amqp://u:secret-1%0A@h").id == "rmq_publisher.W011"


def test_a_comma_in_a_password_is_no_second_host():
    assert default(URL="amqp://u:a,b;c@h").password == "a,b;c"


def test_an_alias_without_tls_drops_the_flat_tls():
    tls = {"CA_FILE": "/ca.pem"}
    connections = {"plain": {"URL": "amqp://h", "TLS": {}}, "bad": {"URL": "amqp://h"}}
    reading = read(URL="amqps://h", TLS=tls, CONNECTIONS=connections)
    assert reading.connections["plain"].tls == TLSSettings()
    assert reading.connections["bad"].id == "rmq_publisher.E004"


def test_the_memory_broker_takes_the_settings_of_production():
    found = default(URL="memory://", TLS={"CA_FILE": "/ca.pem"}, USERNAME="u", PASSWORD="p")
    assert found.memory


# -- equality and repr ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"PUBLISH_TIMEOUT": 1}, True),
        ({"MAX_BODY_SIZE": 1}, True),
        ({"DELIVERY": "now"}, True),
        ({"SERIALIZER": "json"}, True),
        ({"APP_ID": "x"}, True),
        ({"HEARTBEAT": 5}, False),
        ({"CONNECT_TIMEOUT": 1}, False),
        ({"CONFIRM_TIMEOUT": 20}, False),
        ({"MAX_IN_FLIGHT": 1}, False),
        ({"PASSWORD": "x"}, False),
        ({"USERNAME": "x"}, False),
        ({"URL": "amqp://shop:secret-1@broker.example/v"}, False),
    ],
)
def test_equality_says_whether_the_connection_may_stay(changed, same):
    assert (default(**changed) == default()) is same


def test_a_password_is_in_no_repr():
    reading = read(URL=URL, CONNECTIONS={"b": {"URL": URL, "PASSWORD": "secret-2"}})
    for shown in (repr(reading.connections), str(reading.connections), repr(reading.problems)):
        assert "secret" not in shown


# -- Django's settings ------------------------------------------------------------------------


def test_connection_of_the_settings(configure):
    configure(URL=URL)
    assert loader.aliases() == ("default",)
    assert loader.connection("default") == default()
    assert loader.connection("default") is loader.connection("default")
    assert loader.usable() == (default(),)
    assert loader.problems() == []
    assert loader.urls_with_password() == ("RMQ_URL",)


def test_connection_raises_the_first_problem_with_its_mend(configure):
    configure(URL="amqp://shop:secret-1@broker.example:x/", HEARTBEAT=0)
    with pytest.raises(ImproperlyConfigured, match=r"^RMQ_URL .*Percent-encode") as raised:
        loader.connection("default")
    assert "secret-1" not in str(raised.value)
    # What would be shown with a traceback, or by the debug page.
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert len(loader.problems()) == 2


def test_override_settings_takes_effect(configure):
    configure(URL=URL)
    assert loader.connection("default").heartbeat == 10
    with override_settings(RMQ_HEARTBEAT=20, RMQ_CONNECTIONS={"b": {}}):
        assert loader.connection("default").heartbeat == 20
        assert loader.aliases() == ("default", "b")
    assert loader.connection("default").heartbeat == 10
    assert loader.aliases() == ("default",)


def test_other_settings_do_not_make_it_read_again(configure):
    configure(URL=URL)
    before = loader.connection("default")
    with override_settings(USE_TZ=False):
        assert loader.connection("default") is before


def test_an_unknown_alias(configure):
    configure(URL=URL)
    with pytest.raises(ImproperlyConfigured, match=r"'events'.*'default'.*RMQ_CONNECTIONS"):
        loader.connection("events")


def test_no_connection_at_all(configure):
    for ask in (loader.connection, loader.alias_for):
        with pytest.raises(ImproperlyConfigured, match="Set RMQ_URL"):
            ask("default")
    with pytest.raises(ImproperlyConfigured, match="Set RMQ_URL"):
        loader.alias_for(None)


def test_using_may_be_left_out_where_there_is_one(configure):
    configure(CONNECTIONS={"events": {"URL": URL}})
    assert loader.alias_for(None) == "events"
    assert loader.alias_for("events") == "events"


def test_using_must_be_given_where_there_are_several(configure):
    configure(URL=URL, CONNECTIONS={"events": {}})
    assert loader.alias_for("events") == "events"
    with pytest.raises(InvalidMessage, match=r"using= .*'default', 'events'"):
        loader.alias_for(None)


def test_a_database_given_as_using_is_told_apart(configure):
    configure(CONNECTIONS={"events": {"URL": URL}, "tasks": {"URL": URL}})
    with pytest.raises(InvalidMessage, match="database='other'"):
        loader.alias_for("other")
    with pytest.raises(InvalidMessage, match="'events', 'tasks'") as raised:
        loader.alias_for("nowhere")
    assert "database" not in str(raised.value)
    with pytest.raises(InvalidMessage):
        loader.alias_for(["events"])


def test_the_settings_of_the_table_raise_when_asked_for(configure):
    configure(URL=URL, OUTBOX_LEASE=-1)
    with pytest.raises(ImproperlyConfigured, match="RMQ_OUTBOX_LEASE"):
        loader.outbox()
    assert loader.connection("default") == default()
    configure(URL=URL, OUTBOX_LEASE=90)
    assert loader.outbox().outbox_lease == 90.0


def test_topology_settings_are_handed_on_as_they_are(configure):
    configure(QUEUES=["a.b"], EXCHANGES=("c.d", 5))
    assert (loader.queues(), loader.exchanges()) == (("a.b",), ("c.d", 5))
    configure(QUEUES="a.b")
    assert loader.queues() == ()


def test_where_a_setting_stands(configure):
    configure(URL=URL, HEARTBEAT=5, CONNECTIONS={"b": {"HEARTBEAT": 6}})
    assert loader.place("default", "HEARTBEAT") == "RMQ_HEARTBEAT"
    assert loader.place("b", "HEARTBEAT") == "RMQ_CONNECTIONS['b']['HEARTBEAT']"
    assert loader.place("b", "URL") == "RMQ_URL"
    assert loader.place("b", "TLS") == "RMQ_TLS"
