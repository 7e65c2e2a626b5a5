"""The example's shop: its pages, its messages, and what it does without a broker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from example_project.demo import compare
from example_project.shop import queues
from example_project.shop.models import Order
from rmq_publisher import Binding, ExchangeConfig, QueueConfig, connections
from tests.support.rig.ports import SilentPort, closed_port

ROOT = Path(__file__).resolve().parent.parent
TEA = {"customer": "Ada", "item": "プーアル茶 & <tea>", "amount": "12.5"}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(settings, broker, names, amqp, monkeypatch):
    """The shop on the suite's broker, with exchanges and queues of this test's own."""
    settings.RMQ_URL = broker.url
    events, dead = ExchangeConfig(names.exchange(), "topic"), ExchangeConfig(names.exchange())
    orders = QueueConfig(
        names.queue(),
        queue_type="quorum",
        dead_letter_exchange=dead.name,
        bindings=[Binding(events, "orders.#")],
    )
    dead_orders = QueueConfig(names.queue(), bindings=[Binding(dead, "orders.#")])
    monkeypatch.setattr(queues, "EVENTS", events)
    monkeypatch.setattr(queues, "ORDERS", orders)
    monkeypatch.setattr(queues, "DEAD_ORDERS", dead_orders)
    connections["default"].declare((orders, dead_orders), timeout=10)
    return Shop(amqp)


class Shop:
    """What a consumer of its queue sees."""

    def __init__(self, amqp):
        self._amqp = amqp

    def messages(self, expected):
        """All that is there; what should not be there had its time to come."""
        found = self._amqp.drain(queues.ORDERS.name, expected)
        assert len(found) == expected
        return [(message, json.loads(message.body)) for message in found]

    def only_message(self):
        return self.messages(1)[0]


@pytest.fixture
def order(shop, client):
    """A placed order whose own message is out of the way."""
    client.post("/orders", TEA)
    shop.only_message()
    return Order.objects.get()


def post_json(client, body, content_type="application/json"):
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post("/api/orders", data, content_type=content_type)


# -- placing --------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_an_order_from_the_page_is_saved_and_announced(shop, client):
    answer = client.post("/orders", TEA)

    assert (answer.status_code, answer["Location"]) == (302, "/")
    order = Order.objects.get()
    message, body = shop.only_message()
    assert body == {
        "id": order.pk,
        "customer": "Ada",
        "item": TEA["item"],
        "amount": "12.50",
        "status": "placed",
        "created_at": order.created_at.isoformat(),
    }
    assert message.method.exchange == queues.EVENTS.name
    assert message.method.routing_key == "orders.created"
    assert message.properties.type == "orders.created"
    assert message.properties.content_type == "application/json"
    assert message.properties.delivery_mode == 2


def test_a_machine_is_told_the_order_and_the_message(shop):
    answer = post_json(Client(enforce_csrf_checks=True), TEA)

    assert answer.status_code == 201
    message, body = shop.only_message()
    assert answer.json() == {"id": body["id"], "message_id": message.properties.message_id}


@pytest.mark.smoke
def test_a_rolled_back_order_is_never_announced(shop, client):
    def place_and_fail():
        with transaction.atomic():
            assert client.post("/orders", TEA).status_code == 302
            raise RuntimeError

    with pytest.raises(RuntimeError):
        place_and_fail()

    assert not Order.objects.exists()
    client.post("/orders", {**TEA, "customer": "Grace"})
    assert shop.only_message()[1]["customer"] == "Grace"


@pytest.mark.parametrize(
    "wrong",
    [
        {"customer": ""},
        {"customer": "x" * 101},
        {"amount": "0"},
        {"amount": "a lot"},
        {"item": "\0"},
    ],
    ids=str,
)
def test_a_wrong_order_is_refused_by_the_page(shop, client, wrong):
    answer = client.post("/orders", {**TEA, **wrong})

    assert answer.status_code == 422
    assert "errorlist" in answer.content.decode()
    assert not Order.objects.exists()
    shop.messages(0)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{", "application/json", 400),
        (b"\xff", "application/json", 400),
        ([], "application/json", 422),
        ({"customer": "Ada", "item": "tea", "amount": -1}, "application/json", 422),
        ('{"customer": "Ada", "item": "tea", "amount": NaN}', "application/json", 422),
        (json.dumps(TEA), "text/plain", 415),  # what a form elsewhere could send
    ],
)
def test_a_wrong_order_is_refused_to_a_machine(client, body, content_type, status):
    answer = post_json(client, body, content_type)

    assert answer.status_code == status
    assert answer.json()["error"]
    assert not Order.objects.exists()


# -- the way of an order --------------------------------------------------------------------------


@pytest.mark.smoke
def test_each_step_is_announced(shop, client, order):
    for before, after in (("placed", "paid"), ("paid", "shipped")):
        assert client.post(f"/orders/{order.pk}/advance").status_code == 302
        message, body = shop.only_message()
        assert message.method.routing_key == message.properties.type == "orders.status_changed"
        assert (body["previous_status"], body["status"]) == (before, after)

    answer = client.post(f"/orders/{order.pk}/advance", follow=True)
    assert "there is no next step" in answer.content.decode()
    answer = client.post(f"/orders/{order.pk}/cancel", follow=True)
    assert "cannot be cancelled" in answer.content.decode()
    shop.messages(0)


def test_cancelling_is_announced(shop, client, order):
    client.post(f"/orders/{order.pk}/cancel")

    assert shop.only_message()[1]["status"] == "cancelled"


def test_a_change_in_the_admin_is_announced(shop, admin_client, order):
    form = {"customer": "Ada", "item": "tea", "amount": "12.50", "status": "shipped"}
    answer = admin_client.post(f"/admin/shop/order/{order.pk}/change/", form)

    assert answer.status_code == 302
    _, body = shop.only_message()
    assert (body["previous_status"], body["status"]) == ("placed", "shipped")


def test_a_save_that_changes_no_status_is_not_announced(shop, order):
    order.item = "coffee"
    order.save()
    Order.objects.defer("status").get().save()

    shop.messages(0)


def test_the_same_object_announces_each_change_once(shop, order):
    for status in (Order.Status.PAID, Order.Status.PAID, Order.Status.SHIPPED):
        order.status = status
        order.save()

    assert [body["status"] for _, body in shop.messages(2)] == ["paid", "shipped"]


def test_an_unknown_order_is_not_found(client):
    assert client.post("/orders/999/advance").status_code == 404


@pytest.mark.parametrize(
    "path", ["/orders", "/api/orders", "/orders/1/advance", "/orders/1/cancel"]
)
def test_changes_are_by_post_only(client, path):
    assert client.get(path).status_code == 405


@pytest.mark.parametrize("path", ["/orders", "/orders/1/advance", "/orders/1/cancel"])
def test_pages_elsewhere_cannot_post(path):
    assert Client(enforce_csrf_checks=True).post(path, TEA).status_code == 403


# -- the page -------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_page_shows_the_newest_orders_and_the_queues(shop, client):
    Order.objects.bulk_create(
        Order(customer=f"customer {number}", item="tea", amount=1) for number in range(60)
    )
    client.post("/orders", TEA)

    text = client.get("/").content.decode()
    assert text.count('<th scope="row"') == 50
    assert "The newest 50 of 61." in text
    assert "プーアル茶 &amp; &lt;tea&gt;" in text
    depth = rf"<dt>{re.escape(queues.ORDERS.name)}</dt>\s*<dd><strong>1</strong> message,"
    assert re.search(depth, text)
    assert f"<dt>{queues.DEAD_ORDERS.name}</dt>" in text


def test_the_page_needs_nothing_that_a_strict_policy_forbids(client):
    Order.objects.create(**{**TEA, "amount": 1})

    text = client.get("/").content.decode()
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", text)


def test_the_page_says_that_the_queues_are_missing(shop, client, monkeypatch, names):
    monkeypatch.setattr(queues, "ORDERS", replace(queues.DEAD_ORDERS, name=names.queue()))

    assert "run manage.py rmq_declare" in client.get("/").content.decode()


# -- without a broker -----------------------------------------------------------------------------


def assert_served_without_a_broker(client):
    """Twice: the second call has a connection that is known to be bad."""
    for _ in range(2):
        began = time.monotonic()
        answer = client.get("/")
        assert time.monotonic() - began < 2.5
        assert answer.status_code == 200
        assert "The broker cannot be reached." in answer.content.decode()


def test_the_page_answers_when_the_broker_is_down(settings, client):
    settings.RMQ_URL = f"amqp://guest:guest@127.0.0.1:{closed_port()}/"

    assert_served_without_a_broker(client)


def test_the_page_answers_when_the_broker_is_silent(settings, client):
    with SilentPort() as port:
        settings.RMQ_URL = port.url
        assert_served_without_a_broker(client)


def test_orders_are_taken_when_the_broker_is_down(settings, client):
    settings.RMQ_URL = f"amqp://guest:guest@127.0.0.1:{closed_port()}/"

    assert client.post("/orders", TEA).status_code == 302
    assert post_json(client, TEA).status_code == 201
    assert Order.objects.count() == 2


# -- on the memory broker -------------------------------------------------------------------------

IN_MEMORY = "The memory broker is in use. Its messages exist only in this process"


def test_the_page_says_that_the_memory_broker_is_in_use(settings, client):
    assert IN_MEMORY not in client.get("/").content.decode()

    settings.RMQ_URL = "memory://"
    assert IN_MEMORY in client.get("/").content.decode()


@pytest.mark.smoke
def test_the_project_needs_no_broker(tmp_path):
    place = """
from django.core.management import call_command
from django.test import Client
from rmq_publisher.testing import memory_broker

call_command("migrate", verbosity=0)
order = {"customer": "Ada", "item": "tea", "amount": "1"}
answer = Client(headers={"host": "localhost"}).post("/api/orders", order, "application/json")
[message] = memory_broker().drain("shop.orders")
print(answer.json()["message_id"] == message.message_id)
"""
    database = f"sqlite:///{tmp_path / 'shop.sqlite3'}"
    done = manage("shell", "-v0", "-c", place, DATABASE_URL=database)

    assert done.stdout.strip() == "True", done.stderr


def demo(**environment):
    """Run it where Docker has no engine and, besides, none but Docker is asked."""
    nowhere = {"RMQ_TEST_RUNG": "docker", "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "example_project.demo"],
        cwd=ROOT,
        env={**kept, **nowhere, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.smoke
@pytest.mark.parametrize(
    "named",
    [{}, pytest.param({"RMQ_URL": "memory://"}, marks=pytest.mark.thorough)],
    ids=["none", "memory"],
)
def test_the_demo_needs_no_broker(named):
    done = demo(**named)

    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert ("None is available" in said) is not bool(named)
    assert "broker the memory broker" in said
    assert "orders 200 placed" in said
    assert "rolled back 10 more" in said
    assert "page shows 200 orders, 200 messages waiting in shop.orders" in said
    assert "consumer none: the messages live in this process only, and no outside consumer" in said
    assert "200 counted in the memory broker's queue" in said
    assert "compared every order exactly once" in said
    assert "unroutable caught: 312" in said
    assert "no outside consumer verified these messages. All agreed" in said


def test_the_demo_takes_no_other_broker_than_the_one_named():
    done = demo(RMQ_URL=f"amqp://guest:guest@127.0.0.1:{closed_port()}/")

    assert done.returncode == 1
    assert "RMQ_URL: no broker answers" in done.stderr
    assert "memory" not in done.stdout


def set_up(directory, option):
    """Run .ci/setup as root of a Debian that has no RabbitMQ and can install none."""
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in (("id", "echo 0"), ("apt-get", "echo 'E: no network'; exit 100")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    for name in ("bash", "cat", "dirname", "mktemp", "rm", "sh"):
        if not (programs / name).exists():
            (programs / name).symlink_to(shutil.which(name))
    script = directory / ".ci" / "setup"
    script.parent.mkdir(exist_ok=True)
    text = (ROOT / ".ci" / "setup").read_text()
    # The places where a server may be; there is one on the machine that runs the suite.
    script.write_text(re.sub(r"/\S+/(?=rabbitmq-server)", f"{directory}/none/", text))
    script.chmod(0o755)
    return subprocess.run(
        [programs / "bash", script, option],
        env={"PATH": str(programs), "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_demo_goes_on_where_no_server_can_be_installed(tmp_path):
    done = set_up(tmp_path, "--try-server")

    assert done.returncode == 0, done.stderr
    assert "E: no network" in done.stderr
    assert done.stderr.endswith(
        "No RabbitMQ server could be installed here; going on without one.\n"
    )


def test_the_suite_does_not_go_on_where_no_server_can_be_installed(tmp_path):
    done = set_up(tmp_path, "--server")

    assert done.returncode != 0
    assert "E: no network" in done.stderr


def test_make_asks_for_what_it_can_do_without():
    rules = (ROOT / "Makefile").read_text()
    for target, option in (
        ("demo", "--try-server"),
        ("serve", "--try-server"),
        ("test", "--server"),
    ):
        rule = rules.partition(f"\n{target}: ")[2].partition("\n\n")[0]
        assert re.findall(r"--[\w-]*server", rule) == [option]


# -- around it ------------------------------------------------------------------------------------


def test_the_login_for_the_admin_works(client, capsys):
    call_command("shop_admin")
    username, password = capsys.readouterr().out.split()

    assert client.login(username=username, password=password)
    assert get_user_model().objects.get().is_superuser
    assert client.get("/admin/shop/order/").status_code == 200


def manage(*arguments, **environment):
    path = {"PATH": os.environ["PATH"], "DATABASE_URL": "sqlite:///:memory:"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_project_needs_nothing_of_the_environment():
    done = manage("check")

    assert done.returncode == 0, done.stderr


def test_in_production_a_secret_key_must_be_given():
    done = manage("check", DEBUG="off")

    assert done.returncode != 0
    assert "Set SECRET_KEY" in done.stderr


def test_a_password_may_begin_with_a_dollar():
    show = "from django.conf import settings; print(settings.RMQ_PASSWORD)"
    done = manage("shell", "--no-imports", "-c", show, RMQ_PASSWORD="$ecret")

    assert done.stdout.strip() == "$ecret", done.stderr


# -- what the demo compares with ------------------------------------------------------------------


def a_message(**changed):
    """A message that agrees with PLACED, but for what is changed."""
    body = {"id": 1, **TEA, "status": "placed", "created_at": "now"}
    body |= changed.pop("body", {})
    properties = {**compare.PROPERTIES, "message_id": "a", **changed.pop("properties", {})}
    where = {"exchange": "shop.events", "routing_key": "orders.created", **changed}
    return {"properties": properties, "body": body, **where}


PLACED = {"a": {"id": 1, **TEA}}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "never arrived"),
        ([a_message(), a_message()], "read 2 times"),
        ([a_message(), a_message(properties={"message_id": "b"})], "belongs to no order"),
        ([a_message(body={"amount": "1.00"})], "its body says"),
        ([a_message(properties={"delivery_mode": 1})], "delivery_mode is 1"),
        ([a_message(properties={"content_type": None})], "content_type is None"),
        ([a_message(routing_key="orders.other")], "came through"),
    ],
)
def test_the_demo_notices(messages, words):
    found = compare.differences(PLACED, messages)

    assert len(found) == 1
    assert words in found[0]


def test_the_demo_is_content():
    assert compare.differences(PLACED, [a_message()]) == []
