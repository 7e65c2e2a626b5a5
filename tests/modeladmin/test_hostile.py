"""Messages made to hurt whoever looks: markup, control characters, marks that turn lines, bytes."""

import json
import random
import re
from html.parser import HTMLParser

import pytest

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.modeladmin import payload
from rmq_publisher.modeladmin.formatting import visible
from rmq_publisher.models import PublishFailure
from tests.support.admin_rows import act, failure, fresh_broker, operator, text, url

pytestmark = pytest.mark.django_db

SEED = 20260102
MANY = 400
PIECES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><svg/onload=alert(1)>",
    "</td></table>", "</code></pre></section>", "{{ 7|add:7 }}{% load x %}", "javascript:alert(1)",
    "<!--", "]]>", "&lt;b&gt;",
    "\u202egnp.exe", "\u2066\u2067\u2069", "\u200f\u200b\ufeff", "\x1b[31m", "\x07\x08\x7f\x85", "\r\n\t",
    "\u2028\u2029", "\U000e0041", "Z\u0351\u036b", "\U0001f4a9", "a" * 40, "%s%(x)s{0}", "\\u003cscript",
]  # fmt: skip
UNSEEN = re.compile(
    "[\0-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """What a browser would make of a page, as far as it could hurt."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if tag == "script" and not names.get("src", "").startswith(("/static/", "/admin/jsi18n/")):
            self.wrong.append("a script that is not ours")
        if tag in ("style", "iframe", "object", "base"):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.wrong.append(f"<{tag} {name}>")
            address = name in ("href", "src", "action", "formaction")
            if address and (value or "").strip().lower().startswith("javascript:"):
                self.wrong.append(f"<{tag} {name}=javascript:>")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        # What HTML lets stay open where its parent ends.
        while self.open and self.open[-1] != tag and self.open[-1] in ("li", "p", "option"):
            self.open.pop()
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()


def check(page: str, case: object = "") -> None:
    assert Page(page).wrong == [], case
    # The search form repeats the address as it is.
    shown = re.sub(r'<input type="hidden" [^>]*>', "", page)
    assert not UNSEEN.search(shown), (case, UNSEEN.search(shown))


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def hostile(chance: random.Random, longest: int) -> str:
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 6)))[:longest]


def body(chance: random.Random) -> bytes:
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(chance.randint(0, 300))
    markup = hostile(chance, 500)
    if kind == 1:
        return b"\xff\xfe" + markup.encode()
    if kind == 2:
        escaped = markup.replace("\\", "").replace('"', "").replace("\r\n\t", "")
        return f'{{"{escaped}": ["{escaped}", 1e999, {{}}]}}'.encode()
    return markup.encode() * chance.randint(1, 4)


def hostile_row(template: PublishFailure, chance: random.Random) -> PublishFailure:
    values = {
        field.attname: getattr(template, field.attname)
        for field in PublishFailure._meta.concrete_fields
        if not field.primary_key
    }
    name, error, data = hostile(chance, 60), hostile(chance, 200), body(chance)
    headers = {hostile(chance, 40): hostile(chance, 99), "n": {"b": [chance.randbytes(4), 1.5]}}
    values.update(
        message_id=name, routing_key=hostile(chance, 60), exchange=hostile(chance, 60),
        ordering_key=hostile(chance, 60), correlation_id=name, using=hostile(chance, 30),
        last_error_text=error, last_error_type=hostile(chance, 50), body=data, size=len(data),
        history=[
            {"at": "2026-01-02T03:04:05+00:00", "type": "Rejected", "code": 404, "text": error}
        ],
        header=basic_properties(
            {"message_id": name, "type": hostile(chance, 60), "headers": headers}
        ),
    )  # fmt: skip
    return PublishFailure(**values)


def test_hundreds_of_them():
    print("seed", SEED)
    chance = random.Random(SEED)
    template = failure(state="dead")
    PublishFailure.objects.bulk_create([hostile_row(template, chance) for _ in range(MANY)])
    browser = operator()
    for number in range(1, MANY // 100 + 1):
        check(text(browser.get(f"{url('changelist')}?p={number}")), number)
    kinds = set()
    # The list shows every one; on the pages of every fourth each piece is shown a hundred times over.
    for pk in PublishFailure.objects.values_list("pk", flat=True)[::4]:
        page = browser.get(url("change", pk))
        check(text(page), pk)
        kinds.add(page.context["body"].kind)
        assert browser.get(url("body", pk))["Content-Type"] == "application/octet-stream"
    assert kinds >= {"json", "text", "hex"}


def test_actions_tell_of_them_unhurt():
    chance = random.Random(SEED)
    template = failure(state="dead")
    rows = [hostile_row(template, chance) for _ in range(15)]
    PublishFailure.objects.bulk_create(rows)
    browser = operator()
    saved = list(PublishFailure.objects.all())
    check(text(act(browser, "retry_selected", *saved)))
    check(text(act(browser, "discard_selected", *saved)))
    for row in saved:
        check(text(browser.get(url("history", row.pk))))
    check(text(browser.get(url("changelist"), {"q": "<script>", "exchange": "<b>\u202e"})))
    check(text(browser.get(url("retry_all"), {"q": "<script>", "exchange": "<b>\u202e"})))


@pytest.mark.parametrize(
    "unit", [b"\x00\xff", b"[", b"<script>alert(1)</script>", b'{"a":', b"\n", b" "]
)
def test_sixteen_mebibytes(unit):
    row = failure(body=unit * (2**24 // len(unit)))
    page = text(operator().get(url("change", row.pk)))
    check(page)
    assert len(page) < 2**20
    assert "Truncated" in page
    assert operator().get(url("body", row.pk)).content == bytes(row.body)


# -- the body -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "empty", ""),
        (b'{"b":1.10,"a":[1e9,{"x":[]},{}],"b":7}', "json",
         '{\n  "b": 1.10,\n  "a": [\n    1e9,\n    {\n      "x": []\n    },\n    {}\n  ],\n  "b": 7\n}'),
        (b'["\\u202e \\" ] {",null]', "json", '[\n  "\\u202e \\" ] {",\n  null\n]'),
        (' ["\u202e"]'.encode(), "json", '[\n  "⟨U+202E⟩"\n]'),
        (b"{broken", "text", "{broken"),
        (b"42", "text", "42"),
        (b"two\nlines\ttab\r\n", "text", "two\nlines\ttab␍\n"),
        ("ü\x07".encode() * 1 + b"x" * 20, "text", "ü␇" + "x" * 20),
        (b"\x00\x01\x02abc", "hex", "00000000  00 01 02 61 62 63" + " " * 30 + "  ...abc"),
        (b"\xff", "hex", "00000000  ff" + " " * 45 + "  ."),
    ],
)  # fmt: skip
def test_a_body_is_shown_as_what_it_is(body, kind, expected):
    assert payload.shown(body) == payload.Shown(kind, expected, cut=False)


def test_deep_json_is_not_followed_to_its_end():
    deep = b"[" * 500 + b"]" * 500
    found = payload.shown(deep)
    assert found.kind == "json"
    assert len(found.text) < 100_000
    assert payload.shown(b"[" * 200_000).kind == "text"


@pytest.mark.parametrize(
    ("hidden", "seen"),
    [
        ("\0", "␀"), ("\x1b", "␛"), ("\x7f", "⟨U+007F⟩"), ("\u202e", "⟨U+202E⟩"), ("ü", "ü"),
        ("\U0001f4a9", "\U0001f4a9"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_made_visible(hidden, seen):
    assert visible(f"a{hidden}b") == f"a{seen}b"


def nested(levels: int) -> bytes:
    """Properties with a header of so many tables in each other."""
    field = b"V"
    for _ in range(levels):
        table = b"\x01a" + field
        field = b"F" + len(table).to_bytes(4) + table
    return basic_properties({"headers": {}})[:2] + field[1:]


@pytest.mark.parametrize(
    ("levels", "readable"),
    [(33, True), (payload.NESTED_MAX + 1, False), (300, False), (900, False), (100_000, False)],
)
def test_headers_nested_without_end_are_told_and_not_raised(levels, readable):
    row = failure(header=nested(levels))
    browser = operator()
    page = browser.get(url("change", row.pk))
    assert page.status_code == 200
    assert ("cannot be read: the row is damaged" in text(page)) is not readable
    answer = act(browser, "export_json", row)
    [found] = json.loads(b"".join(answer.streaming_content))
    assert (found["headers"] is not None) is readable


@pytest.mark.parametrize("seed", range(200))
def test_damaged_headers_are_told_and_not_raised(seed):
    chance = random.Random(seed)
    header = bytearray(
        basic_properties(
            {"type": "x", "headers": {"a": [1, {"b": 1.5}], "t": True}, "priority": 1}
        )
    )
    for _ in range(chance.randint(1, 4)):
        header[chance.randrange(len(header))] = chance.randrange(256)
    del header[chance.randint(1, len(header)) :]
    found = payload.properties(bytes(header))
    assert found is None or isinstance(found[0], dict)
