"""The shop's one page, its buttons, and an address for machines."""

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from . import memory, orders
from .depth import queue_depths
from .forms import OrderForm
from .models import Order

NEWEST = 50


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    return _page(request, OrderForm())


@require_POST
def place(request: HttpRequest) -> HttpResponse:
    form = OrderForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    order, _ = orders.place(form)
    messages.success(request, f"Order {order.pk} is placed.")
    return redirect("shop:index")


@require_POST
def advance(request: HttpRequest, order_id: int) -> HttpResponse:
    return _change(request, orders.advance, order_id)


@require_POST
def cancel(request: HttpRequest, order_id: int) -> HttpResponse:
    return _change(request, orders.cancel, order_id)


# Exempt because machines carry no cookies of ours. No page elsewhere can make a browser send this
# content type here without asking first (CORS); a real shop would ask for a token too.
@csrf_exempt
@require_POST
def api_place(request: HttpRequest) -> JsonResponse:
    """Take `{"customer", "item", "amount"}`, answer with the order's and the message's ids."""
    if request.content_type != "application/json":
        return JsonResponse({"error": "send application/json"}, status=415)
    try:
        data = json.loads(request.body)
    except ValueError:  # bad JSON, or bytes that are no UTF-8
        return JsonResponse({"error": "the body is not JSON"}, status=400)
    form = OrderForm(data if isinstance(data, dict) else {})
    if not form.is_valid():
        return JsonResponse({"error": "invalid order", "fields": form.errors}, status=422)
    order, message_id = orders.place(form)
    return JsonResponse({"id": order.pk, "message_id": message_id}, status=201)


def _change(request: HttpRequest, change: Callable[[int], Order], order_id: int) -> HttpResponse:
    try:
        order = change(order_id)
    except Order.DoesNotExist as error:
        raise Http404(f"There is no order {order_id}.") from error
    except orders.ImpossibleChangeError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"Order {order.pk} is {order.status}.")
    return redirect("shop:index")


def _page(request: HttpRequest, form: OrderForm, status: int = 200) -> HttpResponse:
    depths, why_not = queue_depths()
    context: dict[str, Any] = {
        "form": form,
        "orders": Order.objects.all()[:NEWEST],
        "total": Order.objects.count(),
        "newest": NEWEST,
        "depths": depths,
        "why_not": why_not,
        "in_memory": memory.in_use(),
    }
    return render(request, "shop/index.html", context, status=status)
