"""The envelope: what is accepted goes over the wire unchanged, what cannot is refused at the call."""

import json
import math
import time
import traceback
import uuid
from copy import deepcopy
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pika import BasicProperties, DeliveryMode

from rmq_publisher import (
    InvalidMessage,
    Message,
    PublishError,
    PublishManyError,
    connections,
    publish,
    publish_many,
    serialization,
)
from rmq_publisher.conf import loader
from rmq_publisher.messages.compose import compose
from rmq_publisher.messages.envelope import FRAME_MAX, seal
from rmq_publisher.messages.properties import EXPIRATION_MAX
from tests.amqp import test_encoding
from tests.amqp.test_encoding import decoded, read, short_text, text
from tests.support.examples import examples
from tests.support.publishing import taken

SECRET = "s3cr3t-value"
MAX_BODY = 1000
DIRECT = "amq.rabbitmq.reply-to"


def sealed(body="x", **options):
    return seal(body, **{"exchange": "", "routing_key": "q", "max_body_size": MAX_BODY, **options})


def properties_of(body="x", **options) -> BasicProperties:
    return decoded(sealed(body, **options).header)


# -- the defaults -----------------------------------------------------------------------------


def test_what_a_message_says_when_nothing_is_said():
    before = int(time.time())
    properties = properties_of()
    said = {name: value for name, value in vars(properties).items() if value is not None}
    assert set(said) == {"content_type", "delivery_mode", "message_id", "timestamp"}
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert uuid.UUID(properties.message_id)
    assert before <= properties.timestamp <= time.time()


@pytest.mark.parametrize("app_id", [None, "shop", ""])
@pytest.mark.parametrize(
    ("body", "serializer"),
    [("x", None), (b"x", None), ({"k": 1}, "json"), ({"k": 1}, "json+gzip")],
)
def test_a_header_from_the_template_equals_one_that_is_encoded_anew(
    monkeypatch, body, serializer, app_id
):
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.5)
    quick = sealed(body, serializer=serializer, app_id=app_id)
    anew = sealed(body, serializer=serializer, app_id=app_id, headers={})
    assert quick.header.count(quick.message_id.encode()) == 1
    assert quick.header == anew.header.replace(anew.message_id.encode(), quick.message_id.encode())
    assert decoded(quick.header).app_id == app_id


def test_a_direct_reply_to_is_refused():
    """It would close the publishing channel."""
    for options in ({"reply_to": DIRECT}, {"properties": BasicProperties(reply_to=DIRECT)}):
        with pytest.raises(InvalidMessage, match="give a queue of your own"):
            sealed(**options)
    assert decoded(sealed(reply_to=f"{DIRECT}.g1").header).reply_to == f"{DIRECT}.g1"


def test_ids_differ():
    assert len({sealed().message_id for _ in range(100)}) == 100


def test_the_id_is_fixed_in_the_envelope():
    envelope = sealed()
    assert decoded(envelope.header).message_id == envelope.message_id
    with pytest.raises(AttributeError):
        envelope.message_id = "other"


@pytest.mark.parametrize(
    "empty", [{}, {"message_id": ""}, {"properties": BasicProperties(message_id="")}]
)
def test_an_empty_id_is_made(empty):
    assert uuid.UUID(sealed(**empty).message_id)


def test_own_properties_without_a_content_type_have_none_and_are_persistent_all_the_same():
    properties = properties_of(properties=BasicProperties(type="order"))
    assert (properties.content_type, properties.delivery_mode) == (None, 2)
    assert properties.type == "order"


@pytest.mark.parametrize("mode", [1, DeliveryMode.Transient])
def test_transient_is_said_by_the_properties(mode):
    assert properties_of(properties=BasicProperties(delivery_mode=mode)).delivery_mode == 1


KEYWORDS = {
    "priority": 3, "delivery_mode": 1, "message_id": "m", "correlation_id": "c", "reply_to": "r",
    "type": "t", "user_id": "u", "app_id": "a", "content_type": "ct", "content_encoding": "ce",
}  # fmt: skip


def test_keywords_win_over_properties_and_none_leaves_theirs():
    own = BasicProperties(
        priority=9, delivery_mode=2, message_id="M", correlation_id="C", reply_to="R", type="T",
        user_id="U", app_id="A", content_type="CT", content_encoding="CE", expiration="9",
        timestamp=7, cluster_id="cl", headers={"a": 1, "b": 1},
    )  # fmt: skip
    won = vars(properties_of(properties=own, expiration=1, headers={"b": 2}, **KEYWORDS))
    assert won == {
        **KEYWORDS, "expiration": "1000", "timestamp": 7, "cluster_id": "cl",
        "headers": {"a": 1, "b": 2},
    }  # fmt: skip
    left = vars(properties_of(properties=own, headers=None, **dict.fromkeys(KEYWORDS)))
    assert left == vars(own)


def test_the_callers_properties_and_headers_are_never_changed():
    own = BasicProperties(headers={"a": [1]}, content_type="text/plain")
    before = deepcopy(vars(own))
    headers = {"a": 2, "b": {"c": 3}}
    sealed({"k": 1}, properties=own, headers=headers, serializer="json+zlib", priority=1)
    assert vars(own) == before
    assert headers == {"a": 2, "b": {"c": 3}}


def test_headers_are_encoded_when_the_message_is_made():
    headers = {"k": [1]}
    envelope = sealed(headers=headers)
    headers["k"].append(2)
    assert decoded(envelope.header).headers == {"k": [1]}


# -- bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sent"), [("é", "é".encode()), ("", b""), (b"\0\xff", b"\0\xff"), (b"", b"")]
)
@pytest.mark.parametrize("serializer", [None, "json", "json+gzip"])
def test_text_is_utf8_and_bytes_are_unchanged_whatever_the_serializer(body, sent, serializer):
    envelope = sealed(body, serializer=serializer)
    assert envelope.body == sent
    assert decoded(envelope.header).content_encoding is None


@pytest.mark.parametrize("body", [{"a": 1}, [1], 5, 1.5, None, True, bytearray(b"x"), object()])
def test_anything_else_is_a_type_error_that_names_the_mend(body):
    with pytest.raises(TypeError, match=r'serializer="json", or RMQ_SERIALIZER'):
        sealed(body)


def test_a_serializer_says_what_it_made():
    envelope = sealed({"a": 1}, serializer="json", properties=BasicProperties(content_type="x/y"))
    assert json.loads(envelope.body) == {"a": 1}
    assert decoded(envelope.header).content_type == "application/json"
    assert properties_of({"a": 1}, serializer="json", content_type="x/y").content_type == "x/y"
    zipped = properties_of({"a": 1}, serializer="json+zlib", headers={"own": 1})
    assert zipped.content_encoding == "deflate"
    assert zipped.headers == {"own": 1, "compression": "application/x-gzip"}


@pytest.mark.parametrize("body", ["x", b"x", {"a": 1}])
@pytest.mark.parametrize("name", ["nope", "json+lzma", "", 5, json])
def test_an_unknown_serializer_is_refused_whatever_the_body(body, name):
    with pytest.raises(InvalidMessage, match="unknown serializer"):
        sealed(body, serializer=name)


def _cycle():
    value = {"secret": SECRET}
    value["itself"] = value
    return value


def _deep():
    value = [SECRET]
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [[math.nan], {"k": math.inf}, {SECRET: object()}, _cycle(), SECRET.encode().split(), {1j: SECRET},
     [SECRET + "\ud800"], pytest.param(_deep(), id="deep")],
)  # fmt: skip
def test_what_a_serializer_cannot_encode_is_refused_and_not_shown(body):
    with pytest.raises(InvalidMessage, match="serializer 'json' cannot encode body") as caught:
        sealed(body, serializer="json")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__.__cause__ is None
    assert caught.value.__cause__.__suppress_context__


def test_the_limit_of_a_body_counts_bytes_after_encoding():
    assert len(sealed("é" * 500).body) == MAX_BODY
    for body in ("é" * 500 + "x", b"x" * 1001):
        with pytest.raises(InvalidMessage, match="1001 bytes, RMQ_MAX_BODY_SIZE allows 1000"):
            sealed(body)
    assert sealed({"k": "x" * 5000}, serializer="json+gzip").body
    with pytest.raises(InvalidMessage, match="RMQ_MAX_BODY_SIZE"):
        sealed({"k": "x" * 5000}, serializer="json")


# -- what is refused --------------------------------------------------------------------------

BAD_OPTIONS = [
    *({"priority": value} for value in (-1, 256, 1.0, "1", True, Decimal(1), math.nan, 10**400)),
    *({"delivery_mode": value} for value in (0, 3, -1, 1.0, "2", True, DeliveryMode.Persistent)),
    *(
        {"expiration": value}
        for value in (-1, -0.001, math.nan, math.inf, -math.inf, 1e306, 1e308, 10**400, -(10**5000),
                      "60", True, timedelta(seconds=-1), timedelta.max, 2**32 / 1000, Decimal(1))
    ),
    *(
        {name: value}
        for name in ("message_id", "correlation_id", "reply_to", "type", "user_id", "app_id",
                     "content_type", "content_encoding")
        for value in (SECRET * 22, "é" * 128, SECRET + "\ud800", SECRET.encode(), 5, True, uuid.uuid4())
    ),
    *({"headers": {"k": value}} for value in test_encoding.UNENCODABLE),
    *({"headers": value} for value in ([("k", 1)], [], "", "abc", 0, 5, {1: 2}, {"k" * 256: 1})),
    *({"headers": {name: value}} for name in ("CC", "BCC")
      for value in (None, SECRET, 5, {"k": 1}, [5], [b"k"], ["k", None], ({},))),
    {"headers": {"k": SECRET * (FRAME_MAX // len(SECRET))}},
    {"headers": {f"k{n}": "x" * 1000 for n in range(131)}},
    *({"properties": value} for value in ({"priority": 1}, "x", 5, BasicProperties)),
    *({"properties": BasicProperties(expiration=value)}
      for value in (60, 60.0, "", "-1", "+1", "1.5", " 1", "1_0", "٣", "x", str(2**32), "9" * 5000)),
    *({"properties": BasicProperties(headers=value)} for value in ([("k", 1)], [], "x", 5)),
    *({"properties": BasicProperties(**{name: value})} for name, value in (
        ("priority", 300), ("delivery_mode", 5), ("content_type", 5), ("message_id", b"x"),
        ("timestamp", 1.5), ("timestamp", -1), ("timestamp", 2**63), ("user_id", "u" * 256),
        ("cluster_id", 5), ("app_id", "\ud800"), ("headers", {"k": object()}),
    )),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_OPTIONS, ids=lambda bad: " ".join(bad))
def test_what_cannot_be_sent_is_refused_and_not_shown(bad):
    with pytest.raises(InvalidMessage) as caught:
        sealed(SECRET, **bad)
    assert not caught.value.retryable
    assert isinstance(caught.value, ValueError)
    assert SECRET not in repr(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("bad", [b"key", 5, "k" * 256, "é" * 128, "\ud800", True])
@pytest.mark.parametrize("where", ["exchange", "routing_key"])
def test_names_are_short_strings(where, bad):
    with pytest.raises(InvalidMessage, match=where):
        compose(loader.connection("default"), "", **{where: bad})


def test_a_surrogate_in_the_body_is_refused_and_not_shown():
    with pytest.raises(InvalidMessage, match="surrogate") as caught:
        sealed(SECRET + "\udc80")
    assert SECRET not in str(caught.value)


def test_headers_that_just_fit():
    """131,072 bytes with everything that a header frame holds; one more is too many."""
    fixed = {"properties": BasicProperties(), "message_id": "m"}
    empty = len(sealed(headers={"k": b""}, **fixed).header)
    room = FRAME_MAX - 20 - empty
    assert len(sealed(headers={"k": b"x" * room}, **fixed).header) == FRAME_MAX - 20
    with pytest.raises(InvalidMessage, match="131072"):
        sealed(headers={"k": b"x" * (room + 1)}, **fixed)


@pytest.mark.parametrize(
    ("expiration", "sent"),
    [
        (0, "0"), (-0.0, "0"), (1, "1000"), (0.25, "250"), (0.0001, "1"), (timedelta(0), "0"),
        (timedelta(minutes=2), "120000"), (timedelta(microseconds=1), "1"),
        (EXPIRATION_MAX / 1000, str(EXPIRATION_MAX)),
    ],
)  # fmt: skip
def test_expiration_is_seconds_or_a_timedelta_and_milliseconds_on_the_wire(expiration, sent):
    assert properties_of(expiration=expiration).expiration == sent


@pytest.mark.parametrize("own", ["0", "60000", "007", str(EXPIRATION_MAX)])
def test_an_expiration_in_the_properties_is_amqps_own_and_unchanged(own):
    assert properties_of(properties=BasicProperties(expiration=own)).expiration == own


@pytest.mark.parametrize("name", ["CC", "BCC"])
def test_carbon_copies_are_lists_of_keys(name):
    assert properties_of(headers={name: ["a", "b"]}).headers == {name: ["a", "b"]}
    assert properties_of(headers={name: ("a",)}).headers == {name: ["a"]}


def test_neither_an_envelope_nor_a_message_shows_its_content():
    envelope = sealed(SECRET, headers={"k": SECRET})
    assert SECRET not in repr(envelope)
    assert SECRET not in repr(Message(SECRET, headers={"k": SECRET}))
    assert envelope.without_content().body == envelope.without_content().header == b""
    assert envelope.without_content().message_id == envelope.message_id


# -- anything at all --------------------------------------------------------------------------

anything = st.one_of(
    test_encoding.values, st.sampled_from(test_encoding.UNENCODABLE),
    st.text(), st.text(max_size=300), st.floats(), st.integers(), st.binary(max_size=300),
    st.timedeltas(), st.sets(st.integers()), st.decimals(), st.datetimes(), st.complex_numbers(),
)  # fmt: skip
NAMES = tuple(vars(BasicProperties()))
# Half of them plausible, else next to nothing would be accepted.
plausible = {
    **dict.fromkeys(NAMES, short_text),
    "priority": st.integers(0, 255),
    "delivery_mode": st.sampled_from([1, 2]),
    "timestamp": st.integers(0, 2**63 - 1) | st.datetimes(datetime.fromisoformat("1970-01-02")),
    "headers": test_encoding.tables
    | st.dictionaries(st.sampled_from(["CC", "BCC", "k"]), st.lists(short_text) | anything),
    "expiration": st.integers(0, 10**12).map(str),
}
wild_options = st.fixed_dictionaries(
    {},
    optional={
        **{name: plausible[name] | anything for name in KEYWORDS},
        "expiration": st.floats(0, 5_000_000) | st.timedeltas(timedelta(0)) | anything,
        "headers": plausible["headers"]
        | st.dictionaries(st.text() | st.integers() | st.binary() | st.none(), anything)
        | anything,
        "properties": st.fixed_dictionaries({}, optional=plausible).map(
            lambda own: BasicProperties(**own)
        )
        | st.dictionaries(st.sampled_from(NAMES), anything).map(lambda own: BasicProperties(**own))
        | anything,
    },
)


def meant(options):
    """What should stand on the wire, apart from what is made where nothing is said."""
    own = options.get("properties")
    said = {"content_type": "application/json"} if own is None else dict(vars(own))
    layers = [said.pop("headers", None), options.get("headers")]
    said |= {name: options[name] for name in KEYWORDS if options.get(name) is not None}
    headers = {name: value for layer in layers for name, value in (layer or {}).items()}
    said["headers"] = read(headers) or None
    if isinstance(said.get("timestamp"), datetime):
        said["timestamp"] = read(said["timestamp"]).timestamp()
    if options.get("expiration") is not None:
        wait = options["expiration"]
        wait = wait.total_seconds() if isinstance(wait, timedelta) else wait
        said["expiration"] = str(max(round(wait * 1000), 1 if wait else 0))
    return {name: value for name, value in said.items() if value not in (None, "")}


@examples(400)
def test_anything_is_refused_or_stands_on_the_wire_as_it_was_meant(examples):
    taken = []

    @hypothesis_settings(max_examples=examples, deadline=None)
    @given(st.text() | st.binary(), wild_options)
    def check(body, options):
        try:
            envelope = sealed(body, **options)
        except InvalidMessage:
            taken.append(False)
            return
        taken.append(True)
        came = {
            name: value
            for name, value in vars(decoded(envelope.header)).items()
            if value not in (None, "")
        }
        said = meant(options)
        defaults = {"delivery_mode": 2, "message_id": envelope.message_id,
                    "timestamp": came.get("timestamp")}  # fmt: skip
        assert came == defaults | said
        assert envelope.body == (body.encode() if isinstance(body, str) else body)

    check()
    assert examples / 8 < sum(taken) < len(taken) - examples / 8, "a one-sided test shows nothing"


# -- through a real broker --------------------------------------------------------------------

bodies = st.binary(max_size=400) | text | st.sampled_from([b"\xce" * 131_064, b"x" * 300_000, ""])
ids = st.none() | short_text | st.sampled_from(["same", "again"])
usual = st.just(None)


def items(queue):
    """Messages that all pass at the call; some of them the broker returns or refuses."""
    keys = st.just(queue) | st.just(queue) | short_text.filter(bool)
    copies = st.dictionaries(st.sampled_from(["CC", "BCC"]), st.lists(keys, max_size=3))
    others = test_encoding.tables.filter(lambda headers: not {"CC", "BCC"} & set(headers))
    headers = st.builds(lambda a, b: {**a, **b}, others, st.just({}) | copies)
    return st.fixed_dictionaries(
        {"body": bodies, "routing_key": keys},
        optional={
            "priority": st.integers(0, 255),
            "delivery_mode": st.sampled_from([1, 2]),
            "message_id": ids,
            "correlation_id": short_text,
            # The last one closes the channel: there is no consumer of that kind on it.
            "reply_to": short_text,
            "type": short_text,
            # A foreign user closes the channel too.
            "user_id": st.one_of(*[usual] * 9, st.just("guest"), short_text.filter(bool)),
            "app_id": short_text,
            "content_type": short_text,
            "content_encoding": short_text,
            "expiration": st.integers(100, EXPIRATION_MAX // 1000),
            "headers": headers,
        },
    )


def arrived_as_meant(options, received):
    """Whether a message left the queue as it was given; BCC is taken off by the broker."""
    body = options["body"]
    own = received.properties
    headers = read(options.get("headers") or {})
    headers.pop("BCC", None)
    said = {name: options[name] for name in KEYWORDS if options.get(name)}
    return (
        received.body == (body.encode() if isinstance(body, str) else body)
        and (own.headers or {}) == headers
        and {name: getattr(own, name) for name in said} == said
    )


@examples(105)
def test_whatever_is_accepted_is_confirmed_or_a_publish_error_and_hurts_nobody(
    rmq, amqp, proxy, examples
):
    """2,000 messages in the long run: one connection throughout, and what was confirmed arrives."""
    rmq.RMQ_URL = proxy.url
    rmq.RMQ_CONNECT_TIMEOUT = 15  # also of reopening a channel: a loaded broker takes its time
    queue = amqp.declare_queue()
    topic = amqp.declare_exchange(kind="topic")
    amqp.bind(queue, topic, "#")
    seen = {}

    @hypothesis_settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def check(data):
        exchange = data.draw(st.sampled_from(["", "", topic, topic, amqp.names.unique()]))
        drawn = data.draw(st.lists(items(queue), min_size=20, max_size=20))
        messages = [Message(**options) for options in drawn]
        try:
            publish_many(messages, exchange=exchange, delivery="now", timeout=20)
            outcomes = [None] * len(messages)
        except PublishManyError as error:
            outcomes = error.outcomes
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, PublishError)
            kind = type(outcome).__name__
            seen[kind] = seen.get(kind, 0) + 1
        confirmed = [
            options for options, outcome in zip(drawn, outcomes, strict=True) if outcome is None
        ]
        arrived = taken(amqp, queue)
        # A channel that was closed over a neighbour makes duplicates: both are equal to the bytes.
        for options in confirmed:
            assert any(arrived_as_meant(options, one) for one in arrived)
        for one in arrived:
            assert any(arrived_as_meant(options, one) for options in confirmed)

    check()
    assert sum(seen.values()) >= 19 * examples
    assert proxy.connections_made == 1
    assert connections["default"].status().connects == 1
    kinds = {"NoneType", "Unroutable", "Rejected"}
    assert set(seen) == kinds if examples > 100 else set(seen) <= kinds, seen


CANARY = "canary-of-a-body"


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_a_serializers_words_are_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def encode(_name: str, value: object) -> serialization.Encoded:
        raise kind(f"cannot encode {value!r}")

    monkeypatch.setattr(serialization, "encode", encode)
    with pytest.raises(InvalidMessage) as caught:
        publish([CANARY], routing_key="key", serializer="json")
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert CANARY not in f"{caught.value} {caught.value!r}"
