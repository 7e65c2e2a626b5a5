"""The shop's addresses."""

from django.urls import path

from . import views

app_name = "shop"

urlpatterns = [
    path("", views.index, name="index"),
    path("orders", views.place, name="place"),
    path("orders/<int:order_id>/advance", views.advance, name="advance"),
    path("orders/<int:order_id>/cancel", views.cancel, name="cancel"),
    path("api/orders", views.api_place, name="api-place"),
]
