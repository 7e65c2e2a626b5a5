"""Customers who place orders over HTTP, several at once, and a look at the shop's page."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .running import DemoError

THREADS = 8
ITEMS = ("tea", "coffee", "sugar", "café crème", "プーアル茶")  # UTF-8 all the way


def place_orders(port: int, count: int) -> dict[str, dict[str, Any]]:
    """Place orders; returns what was ordered and the order's number, by the message's id."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="customer") as threads:
        shares = [range(first, count, THREADS) for first in range(THREADS)]
        placed: dict[str, dict[str, Any]] = {}
        for share in threads.map(lambda numbers: _customer(port, numbers), shares):
            placed.update(share)
    return placed


def page(port: int) -> str:
    """Fetch what a person would see."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    response = connection.getresponse()
    text = response.read().decode()
    if response.status != http.client.OK:
        raise DemoError(f"The page was answered with {response.status}.")
    return text


def _customer(port: int, numbers: range) -> dict[str, dict[str, Any]]:
    placed = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in numbers:
        order = {
            "customer": f"customer {number}",
            "item": ITEMS[number % len(ITEMS)],
            "amount": f"{1 + number}.{number % 100:02d}",
        }
        answer = _post(connection, order)
        placed[str(answer["message_id"])] = {"id": answer["id"], **order}
    connection.close()
    return placed


def _post(connection: http.client.HTTPConnection, order: dict[str, str]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/orders", json.dumps(order), headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.CREATED:
        raise DemoError(f"An order was answered with {response.status}: {body[:300]!r}")
    answer: dict[str, Any] = json.loads(body)
    return answer
