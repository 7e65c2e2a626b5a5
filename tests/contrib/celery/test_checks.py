"""The checks of what in the Celery settings cannot work, and the refusal at the first send."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from rmq_publisher.contrib.celery.amqp import AMQP
from rmq_publisher.contrib.celery.checks import check_celery

URL = "amqp://user:secret@rabbit/shop"
TWO = {"default": {"URL": URL}, "other": {"URL": "amqp://user:secret@other/"}}


def said(**_: Any) -> dict[str, str]:
    return {
        str(message.id).partition(".")[2]: f"{message.msg} {message.hint}"
        for message in check_celery()
    }


@pytest.mark.parametrize(
    "broker_url",
    [
        URL,
        "amqp://else:other@RABBIT:5672/shop",
        "pyamqp://rabbit/shop",
        "amqps://rabbit/shop",  # another port of the same broker
        "amqp://first/shop;amqp://rabbit/shop",
    ],
)
def test_an_app_with_the_same_broker(settings: Any, make_app: Any, broker_url: str) -> None:
    settings.RMQ_URL = URL
    make_app().conf.broker_url = broker_url
    assert said() == {}


@pytest.mark.parametrize(
    ("broker_url", "text"),
    [
        ("amqp://elsewhere/shop", "broker_url names elsewhere:5672, and .* 'default' rabbit:5672"),
        ("amqp://rabbit:5673/shop", "rabbit:5673"),
        ("amqp://rabbit", "broker_url names the vhost '/', and .* 'default' 'shop'"),
        ("memory://", "of the type 'memory', which is not RabbitMQ"),
        ("filesystem://", "of the type 'filesystem'"),
    ],
)
def test_an_app_with_another_broker(
    settings: Any, make_app: Any, rmq_published: Any, broker_url: str, text: str
) -> None:
    settings.RMQ_URL = URL
    app = make_app()
    app.conf.broker_url = broker_url
    [error] = check_celery()
    assert isinstance(error, checks.Error)
    assert error.id == "rmq_publisher.E015"
    with pytest.raises(ImproperlyConfigured, match=text):
        app.send_task("shop.add")
    assert not rmq_published
    assert re.search(text, error.msg)
    assert "secret" not in str(error)


def test_the_write_url_counts(settings: Any, make_app: Any) -> None:
    settings.RMQ_URL = URL
    make_app(broker_write_url="amqp://elsewhere/shop", broker_read_url=URL)
    assert "elsewhere" in said()["E015"]


def test_an_app_of_celerys_own_is_left_alone(settings: Any) -> None:
    settings.RMQ_URL = URL
    app = Celery("other", broker="memory://", set_as_current=False)
    assert said() == {}
    assert "amqp" not in vars(app)


def test_a_class_derived_from_ours_is_seen(settings: Any, make_app: Any) -> None:
    settings.RMQ_URL = URL
    make_app().amqp_cls = type("Own", (AMQP,), {})
    assert "E015" in said()


def test_aliases(settings: Any, make_app: Any) -> None:
    del settings.RMQ_URL
    settings.RMQ_CONNECTIONS = TWO
    assert said() == {}  # each CeleryTask may name its own
    settings.RMQ_CELERY_USING = "third"
    assert said() == {
        "E014": "RMQ_CELERY_USING names 'third': no task of a Celery app could be sent. "
        "Name one of the RabbitMQ connections: 'default', 'other'."
    }
    app = make_app()
    app.conf.broker_url = "amqp://other//"
    settings.RMQ_CELERY_USING = None
    assert "names none of several connections" in said()["E014"]
    settings.RMQ_CELERY_USING = "default"
    assert "'default' rabbit:5672" in said()["E015"]
    settings.RMQ_CELERY_USING = "other"
    assert said() == {}


@pytest.mark.parametrize("setting", ["RMQ_CELERY_DELIVERY", "RMQ_DELIVERY"])
def test_what_waits_in_the_table_is_not_sent_at_once(settings: Any, setting: str) -> None:
    settings.RMQ_URL = URL
    setattr(settings, setting, "now")
    assert said() == {}
    settings.RMQ_CELERY_SCHEDULE = "table"
    assert said()["W016"].startswith(f'RMQ_CELERY_SCHEDULE is "table" and {setting} is "now"')
    settings.RMQ_CELERY_DELIVERY = "outbox"
    assert said() == {}


def test_settings_with_mistakes_are_not_looked_at_twice(settings: Any, make_app: Any) -> None:
    make_app()
    settings.RMQ_URL = "amqp://["
    assert said() == {}
    settings.RMQ_URL = None
    assert said() == {}
    settings.RMQ_CELERY_SCHEDULE = "soon"
    assert said() == {}


def test_checking_imports_no_celery() -> None:
    program = (
        "import django, sys\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['rmq_publisher'], RMQ_URL='memory://')\n"
        "django.setup()\n"
        "from django.core.checks import run_checks\n"
        "from rmq_publisher.contrib.celery import CeleryTask, chain, group\n"
        "CeleryTask('a'), run_checks(tags=['rmq_publisher'])\n"
        "assert not {'celery', 'kombu'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
