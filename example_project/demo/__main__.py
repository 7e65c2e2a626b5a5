"""Two hundred orders over HTTP, read back by a consumer that knows nothing of this project.

Where no broker can be had it runs on the memory broker, which no consumer elsewhere can read.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import compare, consumer, customers
from .running import LOOKING, MEMORY, DemoError, Site, broker, end_on_sigterm, shop
from .terminal import complain, note, say

ORDERS, ROLLED_BACK = 200, 10
QUEUE = "shop.orders"


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return action(), time.monotonic() - began


def main() -> int:
    end_on_sigterm()
    began = time.monotonic()
    try:
        agreed = run()
    except DemoError as failure:
        complain(str(failure))
        return 1
    except KeyboardInterrupt:
        complain("Stopped; the server and the broker have been shut down.")
        return 130
    if agreed:
        note(f"\nAll agreed, in {time.monotonic() - began:.0f} s.")
    return 0 if agreed else 1


def run() -> bool:
    note(LOOKING)
    began = time.monotonic()
    with broker() as found:
        in_memory = found.url == MEMORY
        where = "the memory broker, inside this process" if in_memory else found
        say("broker", f"{where}, after {time.monotonic() - began:.1f} s")
        with shop(found, log=True) as site:
            differences = orders(site) + unroutable()
            if differences:
                complain("\n  ".join(["\nDifferences:", *differences]))
                complain(f"\nThe last lines of the server's log:\n{site.server.last_words()}")
        if found.rung == "url":
            say("left there", "the shop's exchanges and queues, which are empty")
    if in_memory:
        note("\nThere was no RabbitMQ: no outside consumer verified these messages.")
    return not differences


def orders(site: Site) -> list[str]:
    say("shop", f"{site.address} on SQLite, publishing to shop.events, a topic exchange")
    say("declared", summary(site.declared))
    must_be_empty()
    placed, seconds = timed(lambda: customers.place_orders(site.server.port, ORDERS))
    say("orders", f"{len(placed)} placed by {customers.THREADS} customers in {seconds:.1f} s")
    roll_back()
    say("rolled back", f"{ROLLED_BACK} more, after their publish(): they must produce no message")
    found = look_at(customers.page(site.server.port))
    found += compare.differences(placed, read(site))
    if not found:
        say("compared", "every order exactly once, with its fields unchanged, and nothing else;")
        say("", "persistent, application/json, each with its own id")
    return found


def roll_back() -> None:
    """Place orders in transactions that are rolled back once publish() has returned."""
    from django.db import transaction  # noqa: PLC0415  # after Django's setup

    from example_project.shop import forms, orders  # noqa: PLC0415

    for number in range(ROLLED_BACK):
        form = forms.OrderForm({"customer": f"nobody {number}", "item": "tea", "amount": "1.00"})
        with transaction.atomic():
            if not form.is_valid():
                raise DemoError(f"The form refused an order: {form.errors.as_text()}")
            orders.place(form)
            transaction.set_rollback(True)


def read(site: Site) -> list[dict[str, Any]]:
    """Take the messages out of the queue, where there is a broker from outside."""
    messages: list[dict[str, Any]]
    if site.in_memory:
        from . import inmemory  # noqa: PLC0415  # after Django's setup

        messages = inmemory.consume(QUEUE)
        say("consumer", "none: the messages live in this process only, and no outside consumer")
        say("", f"verified them. {len(messages)} counted in the memory broker's queue.")
        return messages
    messages, seconds = timed(lambda: consume(site.broker.url))
    say("consumer", f"{len(messages)} messages read by plain pika in {seconds:.1f} s")
    return messages


def summary(declared: str) -> str:
    """Count the states that rmq_declare shows, one a line."""
    states = Counter(line.split()[0] for line in declared.splitlines() if line.startswith("  "))
    return "by rmq_declare: " + ", ".join(f"{count} {state}" for state, count in states.items())


def must_be_empty() -> None:
    """A broker of somebody's (RMQ_URL) may hold messages that are not ours to take."""
    from rmq_publisher import connections  # noqa: PLC0415  # after Django's setup
    from rmq_publisher.amqp.entities import QueueName  # noqa: PLC0415

    (queue,) = connections["default"].declare((QueueName(QUEUE),), timeout=5)
    if queue.messages or queue.consumers:
        raise DemoError(
            f"The queue {QUEUE} is in use at this broker ({queue.messages} messages, "
            f"{queue.consumers} consumers): the demo needs it for itself."
        )


def look_at(page: str) -> list[str]:
    """The page must show the orders' number and the queue's depth."""
    total = re.search(r'class="total">(\d+)<', page)
    depth = re.search(rf"<dt>{re.escape(QUEUE)}</dt>\s*<dd><strong>(\d+)<", page)
    shown = [int(match[1]) if match else None for match in (total, depth)]
    say("page", f"shows {shown[0]} orders, {shown[1]} messages waiting in {QUEUE}")
    return [] if shown == [ORDERS, ORDERS] else [f"the page shows {shown}, not {ORDERS} of each"]


def consume(url: str) -> list[dict[str, Any]]:
    # Isolated (-I): from this project it could not import anything by accident.
    command = [sys.executable, "-I", consumer.__file__, QUEUE, str(ORDERS)]
    environment = {**os.environ, "AMQP_URL": url}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise DemoError(f"The consumer failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def unroutable() -> list[str]:
    """A message that no queue takes must not vanish."""
    from rmq_publisher import Unroutable, publish  # noqa: PLC0415  # after Django's setup

    try:
        publish("{}", exchange="shop.events", routing_key="payments.created", delivery="now")
    except Unroutable as error:
        say("unroutable", f"caught: {error.reply_code} {error.reply_text}, for payments.created")
        if error.reply_code == 312:
            return []
        return [f"an unroutable message gave {error.reply_code}, not 312"]
    return ["an unroutable message was reported as delivered"]


if __name__ == "__main__":
    sys.exit(main())
