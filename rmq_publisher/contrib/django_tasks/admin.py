"""The admin page of tasks; with a theme, use `TaskRecordAdminMixin`."""

from typing import ClassVar

from django import forms
from django.contrib import admin

from rmq_publisher.contrib.django_tasks.checks import has_framework
from rmq_publisher.contrib.django_tasks.models import TaskRecord

__all__ = ["TaskRecordAdmin", "TaskRecordAdminMixin"]

# Without Django's task framework there are no tasks; the checks say that it is missing.
if has_framework():
    from rmq_publisher.contrib.django_tasks.modeladmin.task_list import TaskListMixin
    from rmq_publisher.contrib.django_tasks.modeladmin.task_page import TaskPageMixin

    class TaskRecordAdminMixin(TaskPageMixin, TaskListMixin, metaclass=forms.MediaDefiningClass):
        """The page of tasks: put it before a theme's ModelAdmin, and register that class."""

        class Media:
            """Files only, so that the page works under a strict content security policy."""

            css: ClassVar = {"all": ["rmq_publisher/admin.css"]}
            js: ClassVar = ["rmq_publisher/admin.js"]

    @admin.register(TaskRecord)
    class TaskRecordAdmin(TaskRecordAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
        """The page of tasks in Django's own admin."""
