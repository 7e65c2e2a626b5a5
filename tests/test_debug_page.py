"""Django's debug page shows the variables of every frame: none of ours may hold what is secret."""

import logging
import sys

import pytest
from django.test import RequestFactory
from django.urls import path
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter
from pika import BasicProperties

from rmq_publisher import Message, Producer, PublishError, publish, publish_many
from tests.support.rig.ports import closed_port

BODY, HEADER = "canary-of-the-body", "canary-of-the-header"
PASSWORD = "canary-of-the-password"


class Odd:
    """No serializer takes it, and its repr tells too much."""

    def __repr__(self):
        return BODY


def _page() -> str:
    """What DEBUG=True shows of the exception at hand, without the frames of this file."""
    kind, value, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    assert value is not None
    value.__traceback__ = trace
    reporter = ExceptionReporter(RequestFactory().get("/"), kind, value, trace)
    return reporter.get_traceback_html() + reporter.get_traceback_text()


CALLS = {
    "down": lambda o: publish(BODY, queue="q", headers={"x": HEADER}, delivery="now"),
    "down, producer": lambda o: Producer(queue="q").publish(BODY, headers={"x": HEADER}),
    "down, decorated": lambda o: Producer(queue="q")(lambda: BODY)(),
    "down, many": lambda o: publish_many([BODY], queue="q", headers={"x": HEADER}, delivery="now"),
    "bad header": lambda o: publish(BODY, queue="q", headers={"x": HEADER, "y": object()}),
    "bad nested": lambda o: publish(BODY, queue="q", headers={"x": [HEADER, {"y": o}]}),
    "bad property": lambda o: publish(BODY, queue="q", correlation_id=HEADER * 20),
    "own property": lambda o: publish(BODY, queue="q", properties=BasicProperties(priority=999)),
    "surrogate": lambda o: publish(BODY + "\ud800", queue="q", headers={"x": HEADER}),
    "no serializer": lambda o: publish({"x": BODY}, queue="q", headers={"x": HEADER}),
    "odd value": lambda o: publish({"x": o}, queue="q", serializer="json"),
    "too large": lambda o: publish(BODY * 2_000_000, queue="q"),
    "many, bad item": lambda o: publish_many([BODY, o], queue="q", headers={"x": HEADER}),
    "item, unknown keyword": lambda o: Message(BODY, header={"x": HEADER}),
    "unknown keyword": lambda o: publish_many([BODY], queue="q", header={"x": HEADER}),
}


@pytest.mark.django_db
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_no_frame_of_ours_shows_the_body_or_a_header(call, settings):
    settings.RMQ_URL = f"amqp://user@127.0.0.1:{closed_port()}"
    settings.RMQ_PASSWORD = PASSWORD
    settings.DEBUG = True
    odd = Odd()
    try:
        call(odd)
    except (PublishError, TypeError):
        page = _page()
    assert "Exception Value" in page
    assert leaks(page) == []


# -- a view that fails -----------------------------------------------------------------------------

VIEWS = {name: call for name, call in CALLS.items() if name in ("down", "down, many", "too large")}


def view(request):
    """Holds nothing itself: its own variables are its author's business."""
    VIEWS[request.GET["call"]](None)


urlpatterns = [path("", view)]


@pytest.fixture
def failing(settings, client):
    """Ask for the view, with passwords in the settings."""
    settings.ROOT_URLCONF = __name__
    settings.RMQ_URL = f"amqp://user@127.0.0.1:{closed_port()}"
    settings.RMQ_PASSWORD = PASSWORD
    settings.RMQ_CONNECTIONS = {"default": {}, "other": {"URL": "memory://", "PASSWORD": PASSWORD}}
    client.raise_request_exception = False
    return lambda call: client.get("/", {"call": call})


def leaks(text):
    lines = text.splitlines()
    return [line for line in lines for canary in (BODY, HEADER, PASSWORD) if canary in line]


@pytest.mark.django_db
@pytest.mark.parametrize("call", VIEWS)
def test_the_page_of_a_view_that_failed(failing, settings, call):
    settings.DEBUG = True
    page = failing(call).content.decode()
    assert "RMQ_PASSWORD" in page
    assert leaks(page) == []


class Mail(AdminEmailHandler):
    """Keeps what would be sent."""

    def __init__(self):
        super().__init__(include_html=True)
        self.sent = []

    def send_mail(self, subject, message, *_, html_message="", **__):
        self.sent.append((subject, message, html_message))


@pytest.mark.django_db
@pytest.mark.parametrize("call", VIEWS)
def test_the_mail_to_the_admins(failing, call):
    mail = Mail()
    logging.getLogger("django.request").addHandler(mail)
    failing(call)
    logging.getLogger("django.request").removeHandler(mail)
    [(subject, text, html)] = mail.sent
    assert "RMQ_PASSWORD" in html
    assert leaks(f"{subject} {text} {html}") == []
