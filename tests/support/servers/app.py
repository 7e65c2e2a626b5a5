"""A small project for real servers to serve: its views publish, and tell what became of it.

The environment variable `SERVED` holds `[url, queue, options, preload]` as JSON; with `preload` it
publishes once while it is loaded, in the server's master process.
"""

import asyncio
import json
import os
import threading
import time

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

url, queue, options, preload = json.loads(os.environ["SERVED"])
settings.configure(
    RMQ_URL=url,
    ROOT_URLCONF=__name__,
    SILENCED_SYSTEM_CHECKS=["rmq_publisher.W014"],  # it does without the app
    SECRET_KEY="only-for-tests",
    ALLOWED_HOSTS=["127.0.0.1"],
    **{"RMQ_PUBLISH_TIMEOUT": 20, **options},
)
django.setup()

from rmq_publisher import Message, apublish, connections, publish, publish_many  # noqa: E402


def _answer(ids: list[str], **more: object) -> JsonResponse:
    status = connections["default"].status()
    return JsonResponse({"ids": ids, "pid": os.getpid(), "connects": status.connects, **more})


def some(request: HttpRequest) -> JsonResponse:
    """Ten messages, each confirmed before the next."""
    return _answer([publish("some", queue=queue, delivery="now") for _ in range(10)])


def behind(request: HttpRequest) -> JsonResponse:
    """Answer while 200 messages are in flight on a thread."""
    ids = [f"{os.getpid()}-{number}" for number in range(200)]
    messages = [Message("behind", message_id=message_id) for message_id in ids]
    work = threading.Thread(
        target=publish_many,
        args=(messages,),
        kwargs={"queue": queue, "delivery": "now"},
        daemon=True,
    )
    work.start()
    while not connections["default"].status().in_flight:
        time.sleep(0.001)
    return _answer(ids)


async def burst(request: HttpRequest) -> JsonResponse:
    """A hundred at once, beside a task that counts the turns of the loop."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    ids = await asyncio.gather(*(apublish("burst", queue=queue) for _ in range(100)))
    counting.cancel()
    return _answer(ids, turns=turns)


async def flight(request: HttpRequest) -> JsonResponse:
    """How many are in flight."""
    return _answer([], in_flight=connections["default"].status().in_flight)


urlpatterns = [path(view.__name__, view) for view in (some, behind, burst, flight)]
if preload:
    publish("preloaded", queue=queue, delivery="now")
application = get_wsgi_application()
asgi_application = get_asgi_application()
