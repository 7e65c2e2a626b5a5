"""The admin's pages in another language: German is complete."""

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.utils import translation
from django.utils.translation.template import templatize

import rmq_publisher
from rmq_publisher.modeladmin import formatting
from rmq_publisher.models import RelaySeen
from tests.support.admin_rows import act, failure, fresh_broker, operator, text, url

ROOT = Path(rmq_publisher.__file__).parent
CATALOG = ROOT / "locale" / "de" / "LC_MESSAGES" / "django.mo"
FUNCTIONS = {"_", "gettext", "gettext_lazy", "gettext_noop"}
PLURAL = {"ngettext", "ngettext_lazy"}
# A call in what Django makes of a template for xgettext.
CALL = re.compile(r"""\w*gettext\((?:u'(?:[^'\\]|\\.)*'|u"(?:[^"\\]|\\.)*"|[^'"()])*\)""")
CONTEXT = {"pgettext", "pgettext_lazy"}


def catalog():
    """What is translated: message id (its context before \\x04) to its forms."""
    with CATALOG.open("rb") as file:
        pairs = gettext.GNUTranslations(file)._catalog.items()
    found = {}
    for key, value in pairs:
        found.setdefault(key[0] if isinstance(key, tuple) else key, []).append(value)
    found.pop("", None)
    return found


def asked(source):
    """The message ids that a source asks for, with all forms of each."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
        if name in FUNCTIONS:
            yield texts[0], texts[:1]
        elif name in PLURAL:
            yield texts[0], texts[:2]
        elif name in CONTEXT:
            yield f"{texts[0]}\x04{texts[1]}", texts[1:2]


def sources():
    for folder in (
        "",
        "models",
        "modeladmin",
        "contrib/django_tasks",
        "contrib/django_tasks/modeladmin",
    ):
        for path in (ROOT / folder).glob("*.py"):
            yield path.read_text("utf-8")
    for path in ROOT.rglob("*.html"):
        # Python-like, for xgettext: the calls are what counts.
        yield "\n".join(CALL.findall(templatize(path.read_text("utf-8"))))


@pytest.fixture(scope="module")
def messages():
    found = {}
    for source in sources():
        found.update(asked(source))
    return found


def test_everything_is_translated(messages):
    assert len(messages) > 150
    translated = catalog()
    assert set(messages) - set(translated) == set()
    assert set(translated) - set(messages) == set()


def test_placeholders_are_the_same(messages):
    for key, forms in catalog().items():
        wanted = set(re.findall(r"%\(?\w*\)?[sd]", messages[key][-1]))
        for form in forms:
            assert set(re.findall(r"%\(?\w*\)?[sd]", form)) == wanted, key
            assert form.count("<") == messages[key][-1].count("<"), key


@pytest.mark.django_db
def test_the_pages_speak_german(settings):
    settings.RMQ_URL = "memory://"
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True
    fresh_broker()
    row = failure(ago=7200)
    RelaySeen.objects.create(name="r", started_at=row.created_at, seen_at=row.created_at)
    browser = operator()
    page = text(browser.get(url("changelist")))
    for said in (
        "vor 2 Stunden", "Keine passende Queue", "Es läuft kein Relay (zuletzt gesehen vor 2 Stunden)",
        "Alle passenden erneut senden", ">fehlgeschlagen<",
    ):  # fmt: skip
        assert said in page, said
    assert "Jetzt erneut senden" in text(browser.get(url("change", row.pk)))
    assert "gesendet und von RabbitMQ bestätigt" in text(act(browser, "retry_selected", row))


def test_lengths_of_time():
    with translation.override("de"):
        assert formatting.duration(61) == "1 Minute"
        assert formatting.ahead(7200) == "in 2 Stunden"
