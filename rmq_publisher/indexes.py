"""An index over some of a table's rows, where the database has such."""

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.sql import Query


class IndexWhere(models.Index):
    """An index that leaves rows out where it can, and has all of them elsewhere.

    Django's own ``condition`` makes each project on MySQL or MariaDB see a warning of the checks, of
    an index that does its work there too, only larger.

    Args:
        where: the rows that matter.
    """

    def __init__(self, *expressions: Any, where: models.Q, **options: Any) -> None:
        super().__init__(*expressions, **options)
        self.where = where

    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        """Return what a migration writes down."""
        path, expressions, options = super().deconstruct()
        return path, expressions, {**options, "where": self.where}

    def _get_condition_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> str | None:
        # As models.Index does for its condition.
        if not schema_editor.connection.features.supports_partial_indexes:
            return None
        where = Query(model=model, alias_cols=False).build_where(self.where)
        compiler = Query(model=model).get_compiler(connection=schema_editor.connection)
        sql, values = where.as_sql(compiler, schema_editor.connection)
        return sql % tuple(schema_editor.quote_value(value) for value in values)
